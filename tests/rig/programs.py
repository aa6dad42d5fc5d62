"""Celery workers and beats as real processes, each in a process group of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.rig.waiting import wait_for


def run_to_its_end(
    module: str, *arguments: str, folder: Path, settings: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the ``main`` of a module of ours as a program, with what it said."""
    return subprocess.run(
        [sys.executable, "-c", f"from {module} import main; main()", *arguments],
        cwd=folder,
        env=dict(settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


class Program:
    """``celery -A approval_mail worker`` or another command, its output in a file."""

    def __init__(self, *command: str, folder: Path, settings: Mapping[str, str], name: str) -> None:
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env=dict(settings), stdout=log, stderr=log, start_new_session=True
            )

    @classmethod
    def celery(cls, *arguments: str, folder: Path, settings: Mapping[str, str], name: str = "") -> Program:
        command = (sys.executable, "-m", "celery", "-A", "approval_mail", *arguments)
        return cls(*command, folder=folder, settings=settings, name=name or arguments[0])

    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def wait_for_line(self, text: str, *, times: int = 1, seconds: float = 120) -> None:
        wait_for(lambda: self.output().count(text) >= times, seconds=seconds, saying=f"{text!r} in {self.log}")

    def ready(self) -> Program:
        self.wait_for_line("Email notification worker started")
        return self

    def signal_group(self, number: int) -> None:
        if self.process.poll() is None or number == signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """kill -9 of the whole group."""
        self.signal_group(signal.SIGKILL)
        self.process.wait()

    def stop(self, seconds: float = 20) -> int:
        """SIGTERM to the main process; kill -9 of the group if that is not enough."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        self.kill()
        return self.process.returncode
