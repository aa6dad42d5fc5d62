"""One connection, driven step by step (RFC 5321), so that the phase of a failure is known."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

from approval_mail.addresses import split_sender
from approval_mail.mailer.channel import Channel
from approval_mail.mailer.login import log_in
from approval_mail.mailer.tls import tls_context
from approval_mail.mailer.trouble import (
    Lost,
    Refused,
    loss_trouble,
    readable,
    refusal_trouble,
    tls_fault,
    trouble,
)
from approval_mail.mailer.wire import Wire
from approval_mail.timing import FINAL_DOT_TIMEOUT

#: Mails over one connection; some servers refuse more than 100.
_MAX_MAILS = 100
#: Service not available, closing transmission channel (RFC 5321 section 4.2.3).
_CLOSING = 421

BeforeStep = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server said to one mail."""

    #: ``sent``, ``dead``, ``failed`` (may pass) or ``unknown`` (no reply after the final dot).
    state: str
    #: SMTP reply code, None where there was none.
    code: int | None
    #: The step that decided: mail, rcpt, data, content or dot.
    phase: str
    reason: str


class Connection:
    """One TCP connection and the steps of RFC 5321 over it."""

    def __init__(self, channel: Channel, before_step: BeforeStep, *, in_groups: bool = True) -> None:
        """``in_groups`` allows MAIL, RCPT and DATA in one go where the server takes that."""
        self._channel = channel
        self._in_groups = in_groups
        #: The server took MAIL and said nothing to what came with it.
        self.ignores_groups = False
        self._wire = Wire()
        self.before_step = before_step
        self.broken = False
        self.mails = 0
        self.idle_since = 0.0
        parts = split_sender(channel.sender)
        self._sender = parts[1] if parts else channel.sender

    @property
    def used_up(self) -> bool:
        return self.mails >= _MAX_MAILS

    def establish(self) -> None:
        """Connect, secure and log in; raises ChannelTrouble."""
        channel = self._channel
        try:
            context = tls_context(channel) if channel.use_tls is not False else None
            self._step("connect", lambda: self._wire.open(channel.host, channel.port))
            if channel.implicit_tls and context:
                self._step("tls", lambda: self._wire.secure(context, channel.host))
            self._want(220, "banner", self._wire.getreply)
            self._hello()
            if not channel.implicit_tls:
                self._start_tls(context)
            if channel.user:
                log_in(channel, self._wire, self._step)
        except Refused as error:
            raise refusal_trouble(channel, error) from error
        except Lost as error:
            raise loss_trouble(channel, error) from error

    def _hello(self) -> None:
        try:
            self._want(250, "ehlo", self._wire.ehlo)
        except Refused as error:
            if error.code == _CLOSING:
                raise
            self._want(250, "helo", self._wire.helo)

    def _start_tls(self, context: ssl.SSLContext | None) -> None:
        channel = self._channel
        if context is None:
            return
        if not self._wire.has_extn("starttls"):
            if channel.tls_required:
                raise trouble(
                    channel,
                    "starttls",
                    "the server offers no STARTTLS, and TLS is required",
                    permanent=True,
                    next_step="use the server's TLS port, or set SMTP_USE_TLS=false if mails may travel in the clear",
                )
            return
        self._want(220, "starttls", lambda: self._wire.docmd("STARTTLS"))
        self._step("tls", lambda: self._wire.secure(context, channel.host))
        self._hello()

    def transact(self, recipient: str, content: bytes) -> Reply:
        """One mail, from MAIL to the reply after the final dot (RFC 5321 section 3.3).

        Raises ChannelTrouble if what was refused is the login rather than this mail.
        """
        wire = self._wire
        self.mails += 1
        body = _dot_stuffed(content)
        try:
            self._announce(recipient, len(body))
            self._step("content", lambda: wire.send(body))
            if wire.said_something():  # Closed, or refused before the final dot: known not to be accepted.
                self._want((), "content", wire.getreply)
            code, text = self._want(range(200, 300), "dot", self._finish, timeout=FINAL_DOT_TIMEOUT)
        except Refused as error:
            if error.of_login:
                raise refusal_trouble(self._channel, error) from error
            self._reset(error)
            state = "dead" if 500 <= error.code <= 599 else "failed"
            if error.phase == "dot" and not 400 <= error.code <= 599:
                state = "unknown"
            return Reply(state, error.code, error.phase, f"{error.code} {error.text}".strip())
        except Lost as error:
            self.broken = True
            return Reply("unknown" if error.phase == "dot" else "failed", None, error.phase, error.why)
        return Reply("sent", code, "dot", f"{code} {readable(text)}".strip())

    def _announce(self, recipient: str, size: int) -> None:
        """MAIL, RCPT and DATA: one after the other, or in one go where the server takes that (RFC 2920)."""
        wire = self._wire
        if self._in_groups and wire.has_extn("pipelining"):
            self._announce_in_a_group(recipient, size)
            return
        self._want(250, "mail", lambda: wire.mail(self._sender, self._mail_options(size)))
        self._want(range(250, 253), "rcpt", lambda: wire.rcpt(recipient))
        self._want(354, "data", lambda: wire.docmd("DATA"))

    def _announce_in_a_group(self, recipient: str, size: int) -> None:
        wire = self._wire
        self._step("mail", lambda: wire.send_commands(self._sender, self._mail_options(size), recipient))
        try:
            self._want(250, "mail", wire.getreply)
            self._want(range(250, 253), "rcpt", wire.getreply)
            self._want(354, "data", wire.getreply)
        except Refused as error:
            # What follows a refused command is refused as well, and some servers leave a client after twenty errors.
            self._in_groups = False
            self._take_back(error)
            raise
        except Lost as error:
            self.ignores_groups = error.phase != "mail" and error.timed_out
            raise

    def _take_back(self, refusal: Refused) -> None:
        """Read what is still answered to a refused group, so that it is not taken for another mail's."""
        if refusal.code == _CLOSING:
            self.broken = True
            return
        try:
            for _ in range({"mail": 2, "rcpt": 1, "data": 0}[refusal.phase]):
                code, _ = self._step("data", self._wire.getreply)
                if code == 354 and refusal.phase == "mail":
                    self.broken = True  # A server that lets a refused sender go on gets no dot either.
                elif code == 354:
                    self._step("data", lambda: self._wire.docmd("."))
        except Lost:
            self.broken = True

    def _finish(self) -> tuple[int, bytes]:
        """Send the final dot and read the verdict: one step, for nothing may come between them."""
        try:
            self._wire.send(b".\r\n")
        except (OSError, smtplib.SMTPException) as error:
            raise Lost("content", _why(error, FINAL_DOT_TIMEOUT)) from error
        return self._wire.getreply()

    def probe(self, recipients: Sequence[str]) -> dict[str, str]:
        """Go as far as a mail can without one being sent, then RSET; answers the refusals by recipient.

        A refused sender stands under its own address. Raises ChannelTrouble.
        """
        refusals = {}
        asked = self._sender
        try:
            self._want(250, "mail", lambda: self._wire.mail(self._sender))
            for recipient in recipients:
                asked = recipient
                code, text = self._step("rcpt", lambda: self._wire.rcpt(recipient))  # noqa: B023 - called at once
                if code not in range(250, 253):
                    refused = Refused("rcpt", code, text)
                    if refused.of_login:
                        raise refused
                    refusals[recipient] = f"{code} {refused.text}"
            self._want(250, "rset", lambda: self._wire.docmd("RSET"))
        except Refused as error:
            if error.of_login:
                raise refusal_trouble(self._channel, error) from error
            self._reset(error)
            refusals[asked] = f"{error.code} {error.text}"
        except Lost as error:
            raise loss_trouble(self._channel, error) from error
        return refusals

    def _mail_options(self, size: int) -> list[str]:
        return [f"SIZE={size}"] if self._wire.has_extn("size") else []

    def _reset(self, refusal: Refused) -> None:
        """Make the connection ready for the next mail, or mark it broken."""
        if refusal.code == _CLOSING or refusal.phase == "content":  # Unasked: who speaks next is not clear.
            self.broken = True
        if self.broken or refusal.phase == "dot":  # With it the transaction is over (RFC 5321 section 4.1.1.4).
            return
        try:
            self._want(250, "rset", lambda: self._wire.docmd("RSET"))
        except (Refused, Lost):
            self.broken = True

    def answers(self) -> bool:
        """Tell whether a kept connection is still alive."""
        try:
            self._want(250, "noop", lambda: self._wire.docmd("NOOP"))
        except (Refused, Lost):
            return False
        return True

    def leave(self) -> None:
        """QUIT; whatever the answer, every accepted mail stays accepted."""
        self.before_step = lambda: None
        with contextlib.suppress(Refused, Lost):
            self._want(221, "quit", lambda: self._wire.docmd("QUIT"))
        self.abandon()

    def abandon(self) -> None:
        self.broken = True
        self._wire.close()

    def _want(
        self, wanted: int | Container[int], phase: str, act: Callable[[], tuple[int, bytes]], *, timeout: float = 0
    ) -> tuple[int, bytes]:
        code, text = self._step(phase, act, timeout=timeout)
        if code not in ((wanted,) if isinstance(wanted, int) else wanted):
            if code < 0:
                raise Lost(phase, f"the server answered {readable(text)!r}, which is no SMTP reply")
            raise Refused(phase, code, text)
        return code, text

    def _step(self, phase: str, act: Callable[[], Any], *, timeout: float = 0) -> Any:
        """Run one step under its total deadline; raises Lost when the connection fails in it."""
        self.before_step()
        seconds = timeout or self._channel.timeout
        self._wire.begin_step(seconds)
        try:
            return act()
        except smtplib.SMTPResponseException as error:
            raise Lost(phase, readable(error.smtp_error)) from error
        except smtplib.SMTPServerDisconnected as error:
            # smtplib puts this in place of what it caught while reading a reply.
            raise _lost(phase, error.__context__ or error, seconds) from error
        except smtplib.SMTPException as error:
            raise Lost(phase, readable(str(error))) from error
        except (OSError, ValueError) as error:  # ValueError: what the server sent cannot be decoded.
            raise _lost(phase, error, seconds) from error


def _lost(phase: str, error: BaseException, seconds: float) -> Lost:
    return Lost(phase, _why(error, seconds), timed_out=isinstance(error, TimeoutError))


def _why(error: BaseException, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no reply within {seconds:g} s"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {tls_fault(error)}"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "the server closed the connection"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _dot_stuffed(content: bytes) -> bytes:
    """CRLF line ends and doubled leading dots (RFC 5321 section 4.5.2), without the final dot."""
    text = b"\r\n".join(content.splitlines()) + b"\r\n"
    if text.startswith(b"."):
        text = b"." + text
    # No look at what follows the last dot: of a mail in base64, that is nearly all.
    return text.replace(b"\n.", b"\n..") if text.find(b"\n.", 0, text.rfind(b".") + 1) >= 0 else text
