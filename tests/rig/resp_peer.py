"""A peer that speaks Redis's protocol and answers what the test says: it loads, it is locked, it says nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping
from typing import BinaryIO

#: The answer to a client that would speak RESP3.
HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"
LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"
LOCKED = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
FULL = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
REPLICA = b"-READONLY You can't write against a read only replica.\r\n"
#: Of a script's write, as Redis 6.2 says it.
SCRIPT_ON_A_REPLICA = b"-ERR Error running script (call to f_0): @user_script:9: @user_script: 9: " + REPLICA
FORBIDDEN = b"-NOPERM this user has no permissions to run the 'evalsha' command\r\n"
NO_REDIS = b"HTTP/1.1 400 Bad Request\r\n\r\n"
SILENCE = b""


class RespPeer:
    """Listens on 127.0.0.1; each command gets the answer of its name, or else the usual one."""

    def __init__(self, usual: bytes, answers: Mapping[str, bytes] | None = None) -> None:
        """``answers`` is by upper-case name: ``{"PING": b"+PONG\\r\\n"}``."""
        #: What a command without an answer of its own is told.
        self.usual = usual
        self._answers = answers or {}
        #: Names of all commands so far.
        self.commands: list[str] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> RespPeer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # A blocked accept() keeps the port listening until it is woken.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with peer, peer.makefile("rb") as file, contextlib.suppress(OSError):  # The client went away.
            while name := _command(file):
                self.commands.append(name)
                peer.sendall(self._answers.get(name, self.usual))


def _command(file: BinaryIO) -> str:
    """Read one command, an array of bulk strings; answers its name, empty at the end."""
    head = file.readline()
    if not head:
        return ""
    words = []
    for _ in range(int(head[1:])):
        length = int(file.readline()[1:])
        words.append(file.read(length + 2)[:-2])
    return words[0].decode().upper()
