"""Real servers for tests: Redis-compatible, SMTP, and settings that point at them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from approval_mail import services
from approval_mail.store import EventStore, worker_client
from tests.rig.redis_server import RedisServer
from tests.rig.smtp_server import SMTPServer

#: Settings of whoever runs the tests must not reach what is tested.
_OURS = ("NOTIFICATION_", "SMTP_", "EMAIL_", "REDIS_", "CELERY_", "APPROVAL_", "FLOWER_")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Of tests/faults; options are read before the conftest.py of a folder below is."""
    parser.addoption("--faults", action="store_true", help="every fault, as long as it takes")
    parser.addoption("--seed", type=int, default=None, help="replay what a fault's test left to chance")


@pytest.fixture(scope="session", autouse=True)
def _nobodys_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What programs inherit, those of module fixtures as well; a proxy is for packages alone."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(_OURS) and name != "APPROVAL_MAIL_TEST_REDIS":
                patch.delenv(name)
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, ",".join(filter(None, ("127.0.0.1,localhost,::1", os.environ.get(name)))))
        # Where the spool is that no setting names.
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    services.configure(None)


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """A running server without any data."""
    with shared_redis.client as client:
        client.flushall()
        client.config_set("maxmemory", 0)
    return shared_redis


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, to kill and freeze."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder).start()
    yield server
    server.kill()


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with worker_client(redis_server.url) as client:
        yield client


@pytest.fixture
def store(client: redis.Redis) -> EventStore:
    return EventStore(client)


@pytest.fixture
def smtp() -> Iterator[SMTPServer]:
    with SMTPServer() as server:
        yield server


@pytest.fixture
def settings(redis_server: RedisServer, smtp: SMTPServer, tmp_path: Path) -> dict[str, str]:
    """An environment for programs: everything at loopback, the spool in the test's folder."""
    return environment(redis_server, smtp, tmp_path)


def environment(redis_server: RedisServer, smtp: SMTPServer, folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "NOTIFICATION_ENABLED": "true",
        "REDIS_URL": redis_server.url,
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(smtp.port),
        "NOTIFICATION_SPOOL_DIR": str(folder / "spool"),
        "NOTIFICATION_BATCH_TIMEOUT": "0.3",
        "PYTHONUNBUFFERED": "1",
    }
