"""Hands mails to an SMTP server: the only package that speaks SMTP.

It classifies: a mail is accepted, refused for good, failed in a way that may pass, or of unknown
outcome; the channel works or does not. It never retries and never sleeps.
"""

from approval_mail.mailer.channel import Channel
from approval_mail.mailer.session import Mailer, Session
from approval_mail.mailer.transaction import Reply

__all__ = ["Channel", "Mailer", "Reply", "Session"]
