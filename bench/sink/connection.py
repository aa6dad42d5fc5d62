"""The server's side of one SMTP session of the sink."""

from __future__ import annotations

import base64
import re
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

#: Who may log in to a sink that wants a login.
USER, PASSWORD = "bench", "secret"
_CREDENTIALS = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
_LOCAL_PART = re.compile(r"<(.*)@")
_END = b"\r\n.\r\n"


@dataclass(frozen=True, slots=True)
class Manner:
    """How a sink behaves."""

    #: With it, STARTTLS and then a login are required.
    tls: ssl.SSLContext | None = None
    #: Seconds before each reply, and before the one to the final dot.
    delay: float = 0
    dot_delay: float = 0


class Connection:
    """Commands that came together are answered together, as Postfix does; a slow sink answers each in its turn."""

    def __init__(self, sock: socket.socket, manner: Manner, keep: Callable[[str], None]) -> None:
        """``keep`` takes the local part of the recipient of each mail that is accepted."""
        self._sock = sock
        self._manner = manner
        self._keep = keep
        self._received = bytearray()
        self._replies: list[str] = []
        self._secured = False
        self._welcome = manner.tls is None
        self._recipient = ""

    def serve(self) -> None:
        """Answer until the client leaves; raises OSError if it does so without a word."""
        try:
            self._say("220 sink ESMTP")
            while (command := self._read_to(b"\r\n").decode("ascii", "replace").strip()).upper() != "QUIT":
                self._answer(command[:4].upper(), command)
            self._say("221 2.0.0 Bye")
            self._flush()
        finally:
            self._sock.close()

    def _answer(self, verb: str, command: str) -> None:
        if verb in ("EHLO", "HELO"):
            self._say(self._features())
        elif verb == "STAR" and self._manner.tls:
            self._say("220 2.0.0 Ready to start TLS")
            self._flush()
            self._sock = self._manner.tls.wrap_socket(self._sock, server_side=True)
            self._secured = True
        elif verb == "AUTH":
            self._welcome = self._secured and command.rpartition(" ")[2] == _CREDENTIALS
            self._say("235 2.7.0 Authentication successful" if self._welcome else "535 5.7.8 Authentication failed")
        elif not self._welcome:
            self._say("530 5.7.0 Authentication required")
        elif verb == "RCPT":
            found = _LOCAL_PART.search(command)
            self._recipient = found[1] if found else ""
            self._say("250 2.1.5 Ok")
        elif verb == "DATA":
            self._say("354 End data with <CR><LF>.<CR><LF>")
            self._read_to(_END)
            time.sleep(self._manner.dot_delay - self._manner.delay)
            self._say("250 2.0.0 Ok: queued")
            self._keep(self._recipient)
        else:
            self._say("250 2.0.0 Ok")

    def _features(self) -> str:
        features = ["sink", "PIPELINING", "SIZE 10240000", "ENHANCEDSTATUSCODES", "8BITMIME"]
        if self._manner.tls:
            features.append("AUTH PLAIN" if self._secured else "STARTTLS")
        return "\r\n".join([*(f"250-{feature}" for feature in features[:-1]), f"250 {features[-1]}"])

    def _say(self, reply: str) -> None:
        self._replies.append(f"{reply}\r\n")
        if self._manner.delay:
            time.sleep(self._manner.delay)
            self._flush()

    def _flush(self) -> None:
        if self._replies:
            self._sock.sendall("".join(self._replies).encode())
            self._replies.clear()

    def _read_to(self, end: bytes) -> bytes:
        """What comes up to and with ``end``; before more is waited for, what was said goes out."""
        searched = 0
        while (found := self._received.find(end, searched)) < 0:
            searched = max(0, len(self._received) - len(end))
            self._flush()
            chunk = self._sock.recv(65_536)
            if not chunk:
                raise ConnectionError("the client left")
            self._received += chunk
        found += len(end)
        taken = bytes(self._received[:found])
        del self._received[:found]
        return taken
