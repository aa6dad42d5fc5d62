"""A RabbitMQ node that tests may kill and start again on the same data; nothing of it reaches beyond 127.0.0.1."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from amqp.exceptions import NotFound
from kombu.connection import Connection

from tests.rig.redis_server import free_port
from tests.rig.waiting import wait_for

#: Seconds. Starting takes about five on two cores.
_PATIENCE = 90


def rabbitmq_server() -> Path:
    """Its start script; without one installed the test is skipped, in CI it fails."""
    found = shutil.which("rabbitmq-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "RabbitMQ is not installed: apt-get install rabbitmq-server"
        )
    # Debian's is a wrapper that changes to a user of its own; what it wraps lies beside it.
    return Path(found).resolve().with_name("rabbitmq-server")


class RabbitMQ:
    """A node of its own, with its own epmd, cookie, data and log in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._script = rabbitmq_server()
        self.folder = folder
        self.port = free_port()
        self._epmd_port, self._distribution_port = free_port(), free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            # This machine's own configuration is none of ours.
            "RABBITMQ_CONF_ENV_FILE": str(folder / "no-environment"),
            "RABBITMQ_CONFIG_FILE": str(folder / "no-configuration"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "no-configuration-either"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        (folder / "plugins").write_text("[].\n")

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> RabbitMQ:
        # In the foreground, so that it is ours to end; the node finds it and starts no daemon.
        epmd = shutil.which("epmd") or "epmd"
        self._begin(epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1")
        wait_for(lambda: _listens(self._epmd_port), saying="epmd listening")
        self._begin(str(self._script))
        wait_for(self.answers, seconds=_PATIENCE, saying=f"RabbitMQ answering; see {self.folder / 'rabbitmq.log'}")
        return self

    def _begin(self, *command: str) -> None:
        with (self.folder / "rabbitmq.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    command, cwd=self.folder, env=self._environment, stdout=log, stderr=log, start_new_session=True
                )
            )

    def answers(self) -> bool:
        """Whether it greets a client: it listens a little sooner than it serves."""
        if not self._processes or self._processes[-1].poll() is not None:
            return False
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as client:
            client.sendall(b"AMQP\x00\x00\x09\x01")
            return client.recv(8)[:1] == b"\x01"
        return False

    def depth(self, queue: str) -> int:
        """How many messages wait in a queue; none in one that does not exist."""
        with Connection(self.url) as connection, contextlib.suppress(NotFound):
            return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
        return 0

    def delete(self, queue: str) -> None:
        with Connection(self.url) as connection:
            connection.default_channel.queue_delete(queue)

    def purge(self, queue: str) -> None:
        with Connection(self.url) as connection:
            connection.default_channel.queue_purge(queue)

    def signal(self, number: int) -> None:
        """To the node's whole process group."""
        os.killpg(self._processes[-1].pid, number)

    def kill(self) -> None:
        """kill -9 of the node and its epmd."""
        while self._processes:
            process = self._processes.pop()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
