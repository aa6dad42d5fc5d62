"""What is measured every few seconds of everything that runs, as rows of a CSV."""

from __future__ import annotations

import contextlib
import csv
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import psutil

from tests.soak import keys
from tests.soak.stage import Stage

_MEGABYTE = 1024 * 1024
#: Seconds between two counts of all keys by family, which ask Redis for each key's name.
_COUNT_KEYS_EVERY = 30.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure at one moment."""

    #: Seconds since the soak began.
    at: float
    #: What was measured, such as ``worker, pool``.
    subject: str
    #: Which of several, or which life of one that is started anew.
    life: str
    #: Such as ``uss``.
    measure: str
    value: float


class Sampler:
    """Takes samples of a `Stage`, and writes each down at once."""

    def __init__(self, stage: Stage, file: Path) -> None:
        self.samples: list[Sample] = []
        self._stage = stage
        self._file = file.open("w", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow([field.name for field in fields(Sample)])
        self._began = time.monotonic()
        self._counted = float("-inf")

    def __enter__(self) -> Sampler:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def now(self) -> float:
        """Seconds since the soak began."""
        return time.monotonic() - self._began

    def sample(self) -> None:
        """Take one of everything."""
        at = self.now()
        rows = [*self._processes(), *self._servers(), *self._places()]
        taken = [Sample(round(at, 1), *row) for row in rows]
        self.samples += taken
        self._writer.writerows(astuple(row) for row in taken)
        self._file.flush()

    def _processes(self) -> Iterator[tuple[str, str, str, float]]:
        stage = self._stage
        life = str(stage.lives)
        yield from _process("worker, main", life, psutil.Process(stage.current_worker.process.pid))
        for number, child in enumerate(stage.pool()):
            yield from _process("worker, pool", f"{life}.{number} ({child.pid})", child)
        yield from _program("beat", stage.current_beat.process.pid)
        for number, host in enumerate(stage.hosts):
            if host.process.poll() is None:
                yield from _process("host", str(number), psutil.Process(host.process.pid))
        for name, (program, url) in stage.servers.items():
            with urllib.request.urlopen(url, timeout=10) as answer:
                answer.read()
            yield from _program(name, program.process.pid)

    def _servers(self) -> Iterator[tuple[str, str, str, float]]:
        stage = self._stage
        assert stage.redis.process is not None
        with stage.redis.client as client:
            info: Any = client.info()
            yield "Redis", "", "used memory", info["used_memory"] / _MEGABYTE
            yield "Redis", "", "clients", info["connected_clients"]
            yield "Redis", "", "keys", client.dbsize()  # type: ignore[misc]
            if self.now() - self._counted >= _COUNT_KEYS_EVERY:
                self._counted = self.now()
                for family, number in keys.count(client).items():
                    yield "Redis", "", f"keys {family}", number
        redis = psutil.Process(stage.redis.process.pid)
        yield "Redis", "", "rss", redis.memory_info().rss / _MEGABYTE
        yield "Redis", "", "fds", redis.num_fds()
        yield "Redis", "", "files", stage.redis_folder_bytes() / _MEGABYTE
        found = psutil.Process(stage.mail_server.process.pid).net_connections("tcp4")
        yield "mail server", "", "connections", sum(row.status != psutil.CONN_LISTEN for row in found)

    def _places(self) -> Iterator[tuple[str, str, str, float]]:
        files, size = self._stage.spool_size()
        yield "spool", "", "spooled", files
        yield "spool", "", "size", size / _MEGABYTE


def _program(subject: str, pid: int) -> Iterator[tuple[str, str, str, float]]:
    yield from _process(subject, str(pid), psutil.Process(pid))


def _process(subject: str, life: str, process: psutil.Process) -> Iterator[tuple[str, str, str, float]]:
    with contextlib.suppress(psutil.NoSuchProcess):
        memory = process.memory_full_info()
        yield subject, life, "rss", memory.rss / _MEGABYTE
        yield subject, life, "uss", memory.uss / _MEGABYTE
        yield subject, life, "fds", process.num_fds()
        yield subject, life, "threads", process.num_threads()
