"""The demo's processes, each under a guard and with a log of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from approval_mail.demo.guard import GRACE
from approval_mail.errors import ApprovalMailError

#: Seconds between two looks into a log that a line is awaited from.
_LOOK_AGAIN = 0.02
#: Seconds beyond the guard's own grace until a guard that does not end is killed.
_GUARD_SLACK = 2.0


class DemoFailed(ApprovalMailError):
    """The demo cannot go on; the message is one sentence and says where to look."""


class GuardedProcess:
    """A command that ends with this process, whichever way this process ends."""

    def __init__(
        self, name: str, command: Sequence[str], *, folder: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        """Start ``command`` in ``folder``, its output going to ``<folder>/<name>.log``.

        ``settings`` are added to this process's environment.
        """
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            # The pipe's write end is not inheritable (PEP 446), so no sibling keeps it open.
            self._guard = subprocess.Popen(  # noqa: S603 the demo's own commands
                [sys.executable, "-m", "approval_mail.demo.guard", "--", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                # What a process that had to be killed leaves of its own goes with the folder.
                env={**os.environ, "TMPDIR": str(folder), **(settings or {})},
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        """The command's exit code; None while it runs."""
        return self._guard.poll()

    def check(self) -> None:
        """Raise DemoFailed if the command has ended."""
        if self.exit_code is not None:
            raise DemoFailed(f"{self.name} ended with exit code {self.exit_code}; its log is {self.log}")

    def wait_for_line(self, text: str, timeout: float) -> None:
        """Return once ``text`` is in the log; raises DemoFailed if it is not within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while text.encode() not in self.log.read_bytes():
            self.check()
            if time.monotonic() > deadline:
                raise DemoFailed(f"{self.name} was not ready within {timeout:.0f} s; its log is {self.log}")
            time.sleep(_LOOK_AGAIN)

    def let_go(self) -> None:
        """Tell the guard to end the command; returns at once."""
        if self._guard.stdin:
            self._guard.stdin.close()

    def stop(self) -> None:
        """End the command and everything that it started; returns when that is done."""
        self.let_go()
        try:
            self._guard.wait(GRACE + _GUARD_SLACK)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()


def stop_together(*processes: GuardedProcess) -> None:
    """Stop several in the time of the slowest."""
    for process in processes:
        process.let_go()
    for process in processes:
        process.stop()
