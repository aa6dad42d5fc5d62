"""pytest-celery's setup, with its nodes on processes and, where a Docker engine answers, on containers.

The variant ``docker`` was written without an engine at hand: it has not been run yet.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
import redis
from celery import Celery, _state
from pytest_celery import (
    CeleryTestBackend,
    CeleryTestBroker,
    CeleryTestNode,
    CeleryTestWorker,
    RedisContainer,
    RedisTestBackend,
    RedisTestBroker,
)
from pytest_docker_tools import build, container, fxtr
from pytest_docker_tools.utils import tests_inside_container

from approval_mail import hooks
from approval_mail.celery import app
from approval_mail.settings import Settings
from approval_mail.store import worker_client
from tests.celery.nodes import RedisProcess, WorkerContainer, WorkerProcess
from tests.rig.redis_server import free_port
from tests.rig.smtp_server import SMTPServer

StartWorker = Callable[[str], CeleryTestWorker]

#: Without mingle: it waits a second for other workers.
WORKER = ("worker", "--concurrency=2", "--without-mingle")
#: Seconds. So long an outcome that is alone waits for company.
BATCH_TIMEOUT = 0.3


@pytest.fixture(params=["processes", pytest.param("docker", marks=pytest.mark.docker)])
def variant(request: pytest.FixtureRequest) -> str:
    """What the nodes run on; every test of this package runs on each."""
    if request.param == "docker":
        request.getfixturevalue("docker_client")
    return request.param


def begin(node: CeleryTestNode, request: pytest.FixtureRequest) -> None:
    """Start the node's process, which ends with the test however that goes."""
    request.addfinalizer(node.teardown)
    node.container.start()


@pytest.fixture
def celery_broker(variant: str, request: pytest.FixtureRequest, tmp_path: Path) -> CeleryTestBroker:
    """The broker, which is the store as well."""
    if variant == "docker":
        return request.getfixturevalue("celery_redis_broker")
    node = RedisTestBroker(RedisProcess("broker", tmp_path / "broker"))
    begin(node, request)
    return node


@pytest.fixture
def celery_backend(variant: str, request: pytest.FixtureRequest, tmp_path: Path) -> CeleryTestBackend:
    if variant == "docker":
        return request.getfixturevalue("celery_redis_backend")
    node = RedisTestBackend(RedisProcess("backend", tmp_path / "backend"))
    begin(node, request)
    return node


@pytest.fixture
def start_worker(
    variant: str,
    request: pytest.FixtureRequest,
    celery_setup_app: Celery,
    default_worker_env: dict[str, str],
    tmp_path: Path,
) -> StartWorker:
    """Start a worker by its name, ``worker`` or ``second_worker``."""

    def start(name: str) -> CeleryTestWorker:
        if variant == "docker":
            return CeleryTestWorker(request.getfixturevalue(f"{name}_container"), celery_setup_app)
        node = CeleryTestWorker(WorkerProcess(name, WORKER, tmp_path, default_worker_env), celery_setup_app)
        begin(node, request)
        return node

    return start


@pytest.fixture
def celery_worker(start_worker: StartWorker) -> CeleryTestWorker:
    return start_worker("worker")


@pytest.fixture
def default_worker_env(
    variant: str, smtp: SMTPServer, celery_worker_cluster_config: dict[str, dict[str, list[str]]], tmp_path: Path
) -> dict[str, str]:
    """A worker's settings: the other nodes and the SMTP server as they are reached from the worker."""
    (broker,) = celery_worker_cluster_config["celery_broker_cluster_config"]["urls"]
    (backend,) = celery_worker_cluster_config["celery_backend_cluster_config"]["urls"]
    inside = variant == "docker"
    return {
        "REDIS_URL": broker,
        "CELERY_RESULT_BACKEND": backend,
        "SMTP_HOST": "host.docker.internal" if inside else "127.0.0.1",
        "SMTP_PORT": str(smtp.port),
        "NOTIFICATION_ENABLED": "true",
        "NOTIFICATION_BATCH_TIMEOUT": str(BATCH_TIMEOUT),
        "NOTIFICATION_SPOOL_DIR": "/tmp/spool" if inside else str(tmp_path / "worker-spool"),
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture
def celery_setup_app(
    celery_setup_config: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Celery]:
    """This package's own app and hooks, with the nodes as they are reached from here."""
    # A node makes its app the current one when it restarts.
    monkeypatch.setattr(_state._tls, "current_app", app)
    hooks.configure(
        Settings(
            enabled=True,
            redis_url=celery_setup_config["broker_url"],
            celery_result_backend=celery_setup_config["result_backend"],
            batch_timeout=BATCH_TIMEOUT,
            spool_dir=tmp_path / "spool",
        )
    )
    yield app
    hooks.configure(Settings())
    # After a failed test: what a hook spooled would be tried again for as long as it is there.
    shutil.rmtree(tmp_path / "spool", ignore_errors=True)


@pytest.fixture
def client(celery_broker: CeleryTestBroker) -> Iterator[redis.Redis]:
    with worker_client(celery_broker.config()["host_url"]) as client:
        yield client


@pytest.fixture
def smtp(variant: str) -> Iterator[SMTPServer]:
    # A container comes from outside of this host's loopback.
    with SMTPServer(host="0.0.0.0" if variant == "docker" else "127.0.0.1") as server:
        yield server


@pytest.fixture(scope="session")
def docker_client() -> Iterator[docker.DockerClient]:
    """The client of pytest-docker-tools' fixtures, closed in the end; skips where no engine answers."""
    # In a process of its own: where nobody answers, the client leaves a socket open, and that is an error here.
    code = "import docker; docker.from_env(timeout=5).ping()"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if asked.returncode:
        pytest.skip(f"no Docker engine answers: {asked.stderr.splitlines()[-1]}")
    if tests_inside_container():
        pytest.skip("pytest-celery reaches its containers from their host only, and these tests run in a container")
    with contextlib.closing(docker.from_env()) as client:
        yield client


@pytest.fixture
def default_redis_broker_command() -> list[str]:
    """Keep acknowledged writes, as the delivery promise asks of Redis."""
    return RedisContainer.command("--appendonly", "yes")


@pytest.fixture
def default_redis_broker_ports() -> dict[str, int]:
    """A port that is the same after a restart: hooks go on using it."""
    return {"6379/tcp": free_port()}


approval_mail_image = build(path=str(Path(__file__).parents[2]), tag="approval-mail:test")

_worker = {
    "image": "{approval_mail_image.id}",
    "entrypoint": ["celery", "-A", "approval_mail"],
    "command": [*WORKER],
    "environment": fxtr("default_worker_env"),
    "network": "{default_pytest_celery_network.name}",
    "extra_hosts": {"host.docker.internal": "host-gateway"},
    "wrapper_class": WorkerContainer,
    "timeout": 60,
}
worker_container = container(**_worker)
second_worker_container = container(**_worker)
