"""smtplib's client with total deadlines."""

from __future__ import annotations

import base64
import io
import re
import smtplib
import socket
import ssl
import time
from typing import Any

from approval_mail.addresses import is_address
from approval_mail.mailer.trouble import Refused

#: What a part of a secret in a reply would be, or be part of.
_WORD = re.compile(rb"[\w.~+/-]{8,}=*")
#: Bytes. A shorter secret may well be a word of the server's own.
_SHORT_SECRET = 3
#: Bytes of one reply. A server that offers everything says less than a tenth of it.
_MAX_REPLY = 65_536


class Wire(smtplib.SMTP):
    """smtplib's client with one total deadline per step where smtplib has a timeout per recv."""

    def __init__(self) -> None:
        super().__init__(local_hostname=_local_name())
        #: By time.monotonic().
        self.deadline = 0.0
        #: Bytes since the step began.
        self.received = 0
        self.secured = False
        #: Read only what is there already.
        self.peeking = False
        #: The server has closed.
        self.ended = False
        #: What the login shows to the server and to nobody else, in each form that is sent.
        self._secrets: tuple[bytes, ...] = ()

    def begin_step(self, seconds: float) -> None:
        """Give the next step so many seconds, all that it does together."""
        self.deadline, self.received = time.monotonic() + seconds, 0

    def remaining(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def open(self, host: str, port: int) -> None:
        """Connect to the first address that answers, under one deadline of which each gets its share."""
        fault: OSError = ConnectionError(f"{host} has no address")
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for left, (family, kind, protocol, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
            attempt = socket.socket(family, kind, protocol)
            try:
                attempt.settimeout(self.remaining() / left)
                attempt.connect(address)
            except OSError as error:
                attempt.close()
                fault = error
                continue
            # The final dot travels alone: with Nagle's algorithm it would wait for an ACK, 44 ms a mail.
            attempt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._use(attempt)
            return
        raise fault

    def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Wrap the socket; what the server said in the clear is forgotten (RFC 3207 section 4.2)."""
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected
        self.sock.settimeout(self.remaining())
        self._use(context.wrap_socket(self.sock, server_hostname=host))
        self.secured = True
        self.helo_resp = self.ehlo_resp = None
        self.esmtp_features = {}
        self.does_esmtp = False

    def _use(self, sock: socket.socket) -> None:
        self.sock = sock
        self.file = io.BufferedReader(_TimedReader(self, sock))

    def send(self, s: Any) -> None:
        """Send all of ``s`` before the deadline."""
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("not connected")
        view = memoryview(s.encode("ascii") if isinstance(s, str) else s)
        while view:
            self.sock.settimeout(self.remaining())
            view = view[self.sock.send(view) :]

    def send_commands(self, sender: str, mail_options: list[str], recipient: str) -> None:
        """MAIL, RCPT and DATA as one group, whose replies come in this order (RFC 2920 section 3.1)."""
        mail = " ".join((f"MAIL FROM:{_path(sender)}", *mail_options))
        self.send(f"{mail}\r\nRCPT TO:{_path(recipient)}\r\nDATA\r\n")

    def log_in(self, user: str, password: str) -> bool:
        """Log in once, by one mechanism: smtplib's login would offer a refused password to each in turn.

        Answers whether the server offers one that is known here; raises Refused.
        """
        self.user, self.password = user, password
        self._secrets = (password.encode(), _base64(password), _base64(self.auth_plain()))
        offered = self.offered_logins()
        known: tuple[tuple[str, Any], ...] = (("PLAIN", self.auth_plain), ("LOGIN", self.auth_login))
        hashed = (("CRAM-MD5", self.auth_cram_md5),)
        for mechanism, respond in known + hashed if self.secured else hashed + known:
            if mechanism in offered:
                self._authenticate(mechanism, respond)
                return True
        return False

    def log_in_with_token(self, user: str, token: str) -> None:
        """Log in by SASL XOAUTH2, within the AUTH exchange of RFC 4954; raises Refused.

        Google defined it ("OAuth 2.0 Mechanism", developers.google.com/workspace/gmail/imap/xoauth2-protocol) and
        Microsoft speaks it ("Authenticate an IMAP, POP or SMTP connection using OAuth", learn.microsoft.com); RFC
        7628 made OAUTHBEARER of it. A refusal is a challenge with JSON; an empty line gets the final reply.
        """
        response = f"user={user}\x01auth=Bearer {token}\x01\x01"
        self._secrets = (token.encode(), _base64(response))
        self._authenticate("XOAUTH2", lambda challenge=None: response if challenge is None else "")

    def _authenticate(self, mechanism: str, respond: Any) -> None:
        try:
            self.auth(mechanism, respond)
        except smtplib.SMTPAuthenticationError as error:
            raise Refused("auth", error.smtp_code, error.smtp_error) from error

    def offered_logins(self) -> list[str]:
        return self.esmtp_features.get("auth", "").upper().split()

    def getreply(self) -> tuple[int, bytes]:
        """A reply without the login's secrets: some servers repeat a line that they refuse, or its beginning."""
        code, text = super().getreply()
        if not self._secrets:
            return code, text
        for secret in self._secrets:
            if len(secret) > _SHORT_SECRET:
                text = text.replace(secret, b"****")
        return code, _WORD.sub(self._masked, text)

    def _masked(self, word: re.Match[bytes]) -> bytes:
        bare = word[0].rstrip(b".")
        return b"****" if any(bare in secret for secret in self._secrets) else word[0]

    def said_something(self) -> bool:
        """Tell whether the server has spoken unasked or closed; not over TLS, whose records need not be for us."""
        if self.secured or self.file is None:
            return False
        self.peeking = True
        try:
            return bool(self.file.peek(1)) or self.ended
        except OSError:
            return True  # Reading the reply tells which.
        finally:
            self.peeking = False


class _TimedReader(io.RawIOBase):
    """Reads a socket under its wire's deadline."""

    def __init__(self, wire: Wire, sock: socket.socket) -> None:
        super().__init__()
        self._wire = wire
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(0 if self._wire.peeking else self._wire.remaining())
        try:
            count = self._sock.recv_into(buffer)
        except BlockingIOError:
            return None
        self._wire.ended = count == 0
        self._wire.received += count
        if self._wire.received > _MAX_REPLY:
            raise OSError("the server's reply has no end")
        return count


def _path(address: str) -> str:
    # smtplib makes something harmless of what is no address, at a price.
    return f"<{address}>" if is_address(address) else smtplib.quoteaddr(address)


def _base64(text: str) -> bytes:
    return base64.b64encode(text.encode())


def _local_name() -> str:
    """This host's name for EHLO, without the DNS look-up that smtplib would do for each connection."""
    name = socket.gethostname()
    return name if name.isascii() and "." in name and " " not in name else "[127.0.0.1]"
