"""From an event and a recipient to the bytes of a mail. Sees no socket.

Imported by workers alone: a web process that calls hooks never loads Jinja2.
"""

from approval_mail.rendering.digest import MAX_DIGEST, Entry
from approval_mail.rendering.loader import DIGEST, packaged_folder
from approval_mail.rendering.message import message_id
from approval_mail.rendering.renderer import Content, Renderer

__all__ = ["DIGEST", "MAX_DIGEST", "Content", "Entry", "Renderer", "message_id", "packaged_folder"]
