"""smtplib's client with total deadlines, and what can go wrong on a connection."""

from __future__ import annotations

import io
import smtplib
import socket
import ssl
import time
from typing import Any


class Wire(smtplib.SMTP):
    """smtplib's client with one total deadline per step where smtplib has a timeout per recv."""

    def __init__(self) -> None:
        super().__init__(local_hostname=_local_name())
        #: By time.monotonic().
        self.deadline = 0.0
        self.secured = False
        #: Read only what is there already.
        self.peeking = False
        #: The server has closed.
        self.ended = False

    def remaining(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def open(self, host: str, port: int) -> None:
        """Connect to the first address that answers, all of them under one deadline."""
        fault: OSError = ConnectionError(f"{host} has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            attempt = socket.socket(family, kind, protocol)
            try:
                attempt.settimeout(self.remaining())
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

    def log_in(self, user: str, password: str) -> None:
        """Log in once, by one mechanism: smtplib's login would offer a refused password to each in turn.

        Raises SMTPNotSupportedError if the server offers none that is known here, else what smtplib's auth does.
        """
        self.user, self.password = user, password
        offered = self.esmtp_features.get("auth", "").upper().split()
        known: tuple[tuple[str, Any], ...] = (("PLAIN", self.auth_plain), ("LOGIN", self.auth_login))
        hashed = (("CRAM-MD5", self.auth_cram_md5),)
        for mechanism, respond in known + hashed if self.secured else hashed + known:
            if mechanism in offered:
                self.auth(mechanism, respond)
                return
        raise smtplib.SMTPNotSupportedError(f"the server offers {' '.join(offered) or 'no login'}")

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
        return count


def _local_name() -> str:
    """This host's name for EHLO, without the DNS look-up that smtplib would do for each connection."""
    name = socket.gethostname()
    return name if name.isascii() and "." in name and " " not in name else "[127.0.0.1]"
