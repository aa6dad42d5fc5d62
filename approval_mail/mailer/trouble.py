"""What a server's refusal or a lost connection means, and what the operator does about it."""

from __future__ import annotations

import ssl

from approval_mail.errors import ChannelTrouble
from approval_mail.mailer.channel import Channel

#: Replies that speak of the login rather than of the mail (RFC 4954 section 6).
LOGIN_CODES = frozenset((530, 534, 535, 538))
#: Characters of a server's text that are kept.
_MAX_TEXT = 500


class Refused(Exception):
    """A reply that is not the one wanted."""

    def __init__(self, phase: str, code: int, text: bytes | str) -> None:
        super().__init__(phase, code)
        self.phase = phase
        self.code = code
        self.text = readable(text)


class Lost(Exception):
    """The connection failed within a step: closed, reset, timed out or out of protocol."""

    def __init__(self, phase: str, why: str) -> None:
        super().__init__(phase, why)
        self.phase = phase
        self.why = why


def tls_context(channel: Channel) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(channel.ca_file) if channel.ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise trouble(
            channel,
            "tls",
            f"SMTP_TLS_CA_FILE cannot be used: {error}",
            permanent=True,
            next_step="name a file with PEM certificates in SMTP_TLS_CA_FILE",
        ) from error


def trouble(
    channel: Channel, phase: str, what: str, *, permanent: bool, next_step: str, code: int | None = None
) -> ChannelTrouble:
    return ChannelTrouble(f"{channel}: {what}", phase=phase, code=code, permanent=permanent, next_step=next_step)


def refusal_trouble(channel: Channel, refusal: Refused) -> ChannelTrouble:
    what = f"{refusal.phase} was refused: {refusal.code} {refusal.text}".strip()
    permanent = refusal.code >= 500
    if refusal.phase == "auth" or refusal.code in LOGIN_CODES:
        step = "set SMTP_USER and SMTP_PASSWORD to what this server accepts (an app password where it asks for one)"
    elif permanent:
        step = "ask the server's operator why it refuses this host, or set another SMTP_HOST"
    else:
        step = "wait: the server says that this will pass"
    return trouble(channel, refusal.phase, what, permanent=permanent, next_step=step, code=refusal.code)


def loss_trouble(channel: Channel, loss: Lost) -> ChannelTrouble:
    cause = loss.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        step = "set SMTP_TLS_CA_FILE to the CA of this server, or SMTP_HOST to the name in its certificate"
    elif isinstance(cause, ssl.SSLError):
        step = "check that SMTP_PORT speaks the TLS that SMTP_USE_TLS asks for"
    else:
        step = "check SMTP_HOST and SMTP_PORT, and that the server is running"
    what = f"{loss.phase} failed: {loss.why}"
    return trouble(channel, loss.phase, what, permanent=isinstance(cause, ssl.SSLError), next_step=step)


def tls_fault(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted ({error.verify_message})"
    return error.reason or str(error)


def readable(text: bytes | str) -> str:
    """A server's reply as one short printable line."""
    line = " ".join((text if isinstance(text, str) else text.decode("utf-8", "replace")).split())
    return "".join(character if character.isprintable() else "\ufffd" for character in line)[:_MAX_TEXT]
