"""What a server's refusal or a lost connection means, and what the operator does about it."""

from __future__ import annotations

import re
import ssl

from approval_mail.errors import ChannelTrouble
from approval_mail.mailer.channel import Channel

#: Replies that speak of the login rather than of the mail (RFC 4954 section 6).
_LOGIN_CODES = frozenset((530, 534, 535, 538))
#: Exchange Online's enhanced status codes that speak of the login at whatever step. RFC 8689 has 5.7.30 for mails that
#: ask for REQUIRETLS, which ours do not; 5.7.8 and 5.7.9 are no such codes, filters use them about a mail.
_LOGIN_STATUSES = frozenset(("5.7.30", "5.7.57", "5.7.139"))
#: An enhanced status code opens the text (RFC 2034 section 4).
_STATUS = re.compile(r"5\.\d{1,3}\.\d{1,3}(?!\S)")
_OAUTH = "SMTP_OAUTH_TOKEN_FILE or SMTP_OAUTH_TOKEN_COMMAND"
#: What to do about a refused password, by enhanced status code.
_PASSWORD_STEPS = {
    # RFC 4954 section 6: mechanism too weak; Gmail: application-specific password required.
    "5.7.9": f"set SMTP_PASSWORD to an app password that you make in this account, or use {_OAUTH} instead",
    # Exchange Online: basic authentication is not supported for client submission.
    "5.7.30": f"keep SMTP_USER and use {_OAUTH} in place of SMTP_PASSWORD: the server takes tokens alone",
    # Exchange Online: SMTP AUTH is disabled for the tenant or the mailbox, or a policy forbids it.
    "5.7.139": "let the administrator enable Authenticated SMTP for the mailbox of SMTP_USER and see that security "
    f"defaults and conditional access let it pass, or use {_OAUTH} in place of SMTP_PASSWORD",
    # Exchange Online: client was not authenticated.
    "5.7.57": f"set SMTP_USER, and SMTP_PASSWORD or {_OAUTH}: the server takes no mail without a login",
}
#: What to do about a refused token, by enhanced status code.
_TOKEN_STEPS = {
    "5.7.139": "let the administrator enable Authenticated SMTP for the mailbox of SMTP_USER and see that "
    "conditional access lets it pass",
}
#: Characters of a server's text that are kept.
_MAX_TEXT = 500


#: RFC 3207 section 4: what a server that asks for TLS answers before it.
_TLS_FIRST = 530


class Refused(Exception):
    """A reply that is not the one wanted."""

    def __init__(self, phase: str, code: int, text: bytes | str) -> None:
        super().__init__(phase, code)
        self.phase = phase
        self.code = code
        self.text = readable(text)

    @property
    def status(self) -> str:
        """The enhanced status code (RFC 3463) of a refusal for good, or nothing."""
        found = _STATUS.match(self.text) if self.code >= 500 else None
        return found[0] if found else ""

    @property
    def of_login(self) -> bool:
        """Tell whether it is the login that was refused, rather than this mail."""
        if self.phase == "auth" or self.status in _LOGIN_STATUSES:
            return True
        return self.code in _LOGIN_CODES and self.phase not in ("content", "dot")


class Lost(Exception):
    """The connection failed within a step: closed, reset, timed out or out of protocol."""

    def __init__(self, phase: str, why: str, *, timed_out: bool = False) -> None:
        super().__init__(phase, why)
        self.phase = phase
        self.why = why
        self.timed_out = timed_out


def trouble(
    channel: Channel, phase: str, what: str, *, permanent: bool, next_step: str, code: int | None = None
) -> ChannelTrouble:
    """What is wrong with the channel: ``what`` happened in the SMTP step ``phase``, ``next_step`` is the operator's."""
    return ChannelTrouble(f"{channel}: {what}", phase=phase, code=code, permanent=permanent, next_step=next_step)


def refusal_trouble(channel: Channel, refusal: Refused) -> ChannelTrouble:
    """A server's reply about the connection or the login, not about a mail; 5yz lasts (RFC 5321 section 4.2.1)."""
    what = f"{refusal.phase} was refused: {refusal.code} {refusal.text}".strip()
    permanent = refusal.code >= 500
    if refusal.code == _TLS_FIRST and channel.use_tls is False and "STARTTLS" in refusal.text.upper():
        step = "set SMTP_USE_TLS=true: this server asks for an encrypted connection first"
    elif refusal.of_login:
        step = _login_step(channel, refusal.status)
    elif permanent:
        step = "ask the server's operator why it refuses this host, or set another SMTP_HOST"
    else:
        step = "wait: the server says that this will pass"
    return trouble(channel, refusal.phase, what, permanent=permanent, next_step=step, code=refusal.code)


def _login_step(channel: Channel, status: str) -> str:
    if channel.uses_token:
        return _TOKEN_STEPS.get(
            status,
            f"let {channel.credential} give a token that has not expired, is for the account of SMTP_USER and has the "
            "mail scope (Google: https://mail.google.com/, Microsoft: https://outlook.office.com/SMTP.Send)",
        )
    return _PASSWORD_STEPS.get(
        status, "set SMTP_USER and SMTP_PASSWORD to what this server accepts (at Gmail and others, an app password)"
    )


def loss_trouble(channel: Channel, loss: Lost) -> ChannelTrouble:
    """A connection that could not be made or was lost; what is wrong with TLS lasts."""
    cause = loss.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        step = "set SMTP_TLS_CA_FILE to the CA of this server, or SMTP_HOST to the name in its certificate"
    elif isinstance(cause, ssl.SSLError):
        step = "check that SMTP_PORT speaks the TLS that SMTP_USE_TLS asks for"
    else:
        step = "check SMTP_HOST and SMTP_PORT, and that the server is running (one to test with: approval-mail inbox)"
    what = f"{loss.phase} failed: {loss.why}"
    return trouble(channel, loss.phase, what, permanent=isinstance(cause, ssl.SSLError), next_step=step)


def tls_fault(error: ssl.SSLError) -> str:
    """OpenSSL's words for it, without its numbers."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted ({error.verify_message})"
    return error.reason or str(error)


def readable(text: bytes | str) -> str:
    """A server's reply as one short printable line."""
    line = " ".join((text if isinstance(text, str) else text.decode("utf-8", "replace")).split())
    return "".join(character if character.isprintable() else "\ufffd" for character in line)[:_MAX_TEXT]
