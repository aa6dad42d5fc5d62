"""A terminal with a program on it: what its screen shows, its keyboard, its window's size."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyte

from tests.rig.waiting import wait_for

#: Makes the terminal the program's own, so that Ctrl-C on it reaches the program, as it does one that a shell started.
_CLAIM = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"

#: Seconds. A screen that nothing was written to for so long is whole.
_STILL = 0.05


class Terminal:
    """Runs the ``main`` of a module of ours on a pseudo-terminal of its own, and keeps all that it writes."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        folder: Path,
        settings: Mapping[str, str],
        columns: int = 100,
        lines: int = 30,
        without: str = "",
    ) -> None:
        """``without`` names a module that the program does not find."""
        hide = f"import sys; sys.modules[{without!r}] = None; " if without else ""
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        #: Everything that was written to it.
        self.written = b""
        self._master, self._slave = pty.openpty()
        self._set_size(columns, lines)
        #: Its settings before the program changed them.
        self.mode: list[Any] = termios.tcgetattr(self._slave)
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{_CLAIM}; {hide}from {module} import main; main()", *arguments],
            cwd=folder,
            env={"TERM": "xterm-256color", "LANG": "C.UTF-8", **settings},
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._slave)
        os.close(self._master)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # The terminal is closed.
            while data := os.read(self._master, 65536):
                with self._lock:
                    self.written += data
                    self._stream.feed(data)

    def shown(self) -> list[str]:
        """The lines of its screen, none of them half drawn."""
        while True:
            before = len(self.written)
            time.sleep(_STILL)
            with self._lock:
                if len(self.written) == before:
                    return [line.rstrip() for line in self._screen.display]

    def wait_for(self, *texts: str, seconds: float = 120) -> list[str]:
        """Wait until each of the texts is in a line; answers what is shown then."""

        def found() -> list[str]:
            shown = self.shown()
            return shown if all(any(text in line for line in shown) for text in texts) else []

        try:
            return wait_for(found, seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{texts} did not come within {seconds:g} s:\n" + "\n".join(self.shown())) from error

    def colours(self) -> set[str]:
        """The colours of what its screen shows."""
        with self._lock:
            return {cell.fg for row in self._screen.buffer.values() for cell in row.values()}

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        with self._lock:
            self._screen.resize(lines, columns)
            self._screen.reset()
        self._set_size(columns, lines)

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def mode_now(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    def exit_code(self, seconds: float = 20) -> int:
        return self.process.wait(seconds)
