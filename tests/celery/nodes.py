"""Processes in the shape of pytest-celery's containers, so that its nodes, clusters and setup run on them unchanged."""

from __future__ import annotations

import abc
import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGKILL, Signals

from pytest_celery import CeleryWorkerContainer

from tests.rig.programs import Program
from tests.rig.redis_server import RedisServer

#: What a worker logs once it takes messages.
STARTED = "Email notification worker started"


class Process(abc.ABC):
    """What a node asks of its container, answered by a process that leads a group of its own."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self._log = log

    @property
    @abc.abstractmethod
    def popen(self) -> subprocess.Popen[bytes] | None:
        """The process; None before the first start."""

    @abc.abstractmethod
    def start(self) -> None:
        """Start, after an earlier end as well, and wait until it is ready."""

    @property
    def status(self) -> str:
        return "running" if self.popen is not None and self.popen.poll() is None else "exited"

    def reload(self) -> None:  # noqa: B027 - a container's state is asked of the engine, `status` asks the process
        """Nothing is out of date."""

    def logs(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def kill(self, signal: str) -> None:
        """SIGKILL is the end of the whole group, as of all in a container; the process alone gets any other signal."""
        if signal == "SIGKILL":
            self.teardown()
        elif self.popen is not None:
            self.popen.send_signal(Signals[signal])

    def restart(self, timeout: float) -> None:
        """As Docker does it: SIGTERM, SIGKILL if the end takes longer than ``timeout`` seconds, the same again."""
        if self.popen is not None:
            self.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(timeout)
        self.teardown()
        self.start()

    def teardown(self) -> None:
        if self.popen is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.popen.pid, SIGKILL)
            self.popen.wait()


class RedisProcess(Process):
    """A broker or a result backend that finds its data again after a restart."""

    def __init__(self, name: str, folder: Path) -> None:
        folder.mkdir()
        super().__init__(name, folder / "redis.log")
        self._server = RedisServer(folder)

    @property
    def popen(self) -> subprocess.Popen[bytes] | None:
        return self._server.process

    @property
    def celeryconfig(self) -> dict[str, str]:
        return {"url": self._server.url, "host_url": self._server.url}

    def start(self) -> None:
        self._server.start()


class WorkerProcess(Process):
    """``celery -A approval_mail worker``, run by this interpreter."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path, settings: Mapping[str, str]) -> None:
        super().__init__(name, folder / f"{name}.log")
        # Workers in containers have the container's host name, and so differ in Celery's eyes.
        self._arguments = (*arguments, f"--hostname={name}@%h")
        self._folder = folder
        self._settings = {**os.environ, **settings}
        self._program: Program | None = None

    @property
    def popen(self) -> subprocess.Popen[bytes] | None:
        return self._program.process if self._program else None

    def start(self) -> None:
        starts = self.logs().count(STARTED) if self._program else 0
        self._program = Program.celery(*self._arguments, folder=self._folder, settings=self._settings, name=self.name)
        self._program.wait_for_line(STARTED, times=starts + 1)


class WorkerContainer(CeleryWorkerContainer):
    """A worker in a container. Written without a Docker engine at hand: not run yet."""

    @property
    def ready_prompt(self) -> str:
        return STARTED
