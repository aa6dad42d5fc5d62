"""From an event and a recipient to the bytes of a mail. Sees no socket.

Imported by workers alone: a web process that calls hooks never loads Jinja2.
"""

from approval_mail.rendering.loader import packaged_folder
from approval_mail.rendering.message import message_id
from approval_mail.rendering.renderer import Content, Renderer

__all__ = ["Content", "Renderer", "message_id", "packaged_folder"]
