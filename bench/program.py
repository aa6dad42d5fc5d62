"""Programs that are measured, with what they cost."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.rig import programs


class Program(programs.Program):
    """A program in a process group of its own, and the CPU time of its processes."""

    def __init__(self, command: Sequence[str], *, folder: Path, env: Mapping[str, str], name: str) -> None:
        super().__init__(*command, folder=folder, settings=env, name=name)
        self._root = psutil.Process(self.process.pid)

    def pool(self) -> list[psutil.Process]:
        """The processes that the main one has begun: of a Celery worker, its pool."""
        return self._root.children(recursive=True)

    def cpu(self) -> float:
        """Seconds of user and system time of all its processes, those that have ended included."""
        total = 0.0
        for process in (self._root, *self.pool()):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total
