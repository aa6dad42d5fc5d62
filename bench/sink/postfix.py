"""Postfix's smtp-sink: a server that nobody here wrote. It is plain, and tells arrivals by the files it leaves."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from bench.sink.handle import Sink
from tests.rig.redis_server import free_port
from tests.rig.waiting import wait_for

#: Where Postfix's programs are, which a user's search path often lacks.
_SYSTEM = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin"
#: Memory that looks like a folder, so that a mail's file costs little.
_MEMORY = Path("/dev/shm")
#: Bytes that must be free there: many times what the mails of a burst take until they are counted.
_ROOM = 512 * 1024 * 1024
#: Who smtp-sink becomes if root starts it: it refuses to stay root.
_NOBODY = "nobody"
_LOCAL_PART = re.compile(rb"^X-Rcpt-Args: <(.*)@", re.MULTILINE)


def installed() -> bool:
    """Whether smtp-sink is there."""
    return bool(_program("smtp-sink"))


class PostfixSink(Sink):
    """A process of smtp-sink that writes each mail into a file (its option -d), which is read, counted and deleted.

    The last that it does before the 250 is to end the file with an empty line; so this is when the mail arrived.
    Files have the kernel's coarse clock: an arrival may be told some milliseconds too early.
    """

    def __init__(self) -> None:
        self.name = f"smtp-sink of Postfix {_version()}"
        port = free_port()
        self.settings = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(port), "SMTP_USE_TLS": "false"}
        self._accepted = 0
        self._arrivals: dict[str, float] = {}
        #: Seconds from the clock of files to time.monotonic().
        self._offset = time.monotonic() - time.time()
        roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM
        # Not in the world's folder: nobody may look into that.
        self._folder = tempfile.TemporaryDirectory(prefix="bench-", dir=_MEMORY if roomy else None)
        self._process = subprocess.Popen(
            [_program("smtp-sink"), *self._as_whom(), "-d", f"{self._folder.name}/", f"127.0.0.1:{port}", "1024"],
            start_new_session=True,
        )
        wait_for(lambda: _answers(port), saying="smtp-sink answering")

    def accepted(self) -> int:
        self._take()
        return self._accepted

    def recipients(self) -> int:
        self._take()
        return len(self._arrivals)

    def arrivals(self) -> dict[str, float]:
        self._take()
        return dict(self._arrivals)

    def reset(self) -> None:
        self._take()
        self._accepted = 0
        self._arrivals.clear()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def _as_whom(self) -> tuple[str, ...]:
        if os.geteuid():
            return ()
        shutil.chown(self._folder.name, _NOBODY)
        return ("-u", _NOBODY)

    def _take(self) -> None:
        """Count and delete the files of the mails that were accepted; others are still being written.

        One of those whose part so far happens to end with an empty line counts a moment too early, and once.
        """
        for name in os.listdir(self._folder.name):
            with contextlib.suppress(FileNotFoundError):  # The client left: smtp-sink deletes what it had begun.
                self._read(f"{self._folder.name}/{name}")

    def _read(self, path: str) -> None:
        with open(path, "rb") as file:
            written = os.fstat(file.fileno()).st_mtime + self._offset
            mail = file.read()
        found = _LOCAL_PART.search(mail)
        if found and mail.endswith(b"\n\n"):
            os.unlink(path)
            self._accepted += 1
            key = found[1].decode()
            self._arrivals[key] = min(written, self._arrivals.get(key, written))


def _program(name: str) -> str:
    return shutil.which(name, path=_SYSTEM) or ""


def _version() -> str:
    # -d: of what was built in; without it there must be a main.cf.
    command = [_program("postconf"), "-d", "-h", "mail_version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
