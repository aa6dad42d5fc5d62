"""Everything that clients say to a Redis server, as its MONITOR shows it."""

from __future__ import annotations

import contextlib
import shlex
import socket
import threading

from tests.rig.waiting import wait_for


class Monitor:
    """Keeps MONITOR's lines while its context lasts."""

    def __init__(self, port: int, *login: str) -> None:
        """``login`` is a user and a password."""
        self.lines: list[str] = []
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._login = login
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Monitor:
        if self._login:
            self._socket.sendall(f"AUTH {' '.join(self._login)}\r\n".encode())
        self._socket.sendall(b"MONITOR\r\n")
        self._thread.start()
        wait_for(lambda: "+OK" in self.lines[-1:], saying="MONITOR")
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        with self._socket.makefile("r", encoding="utf-8", errors="replace") as file, contextlib.suppress(OSError):
            for line in file:
                self.lines.append(line.rstrip("\r\n"))

    def commands(self) -> list[list[str]]:
        """Each command with its arguments, as they were sent."""
        said = [line.partition("] ")[2] for line in list(self.lines) if line.startswith("+1")]
        return [[_sent(word) for word in shlex.split(text)] for text in said]


def _sent(shown: str) -> str:
    return shown.encode("latin-1", "backslashreplace").decode("unicode_escape", "replace") if "\\" in shown else shown
