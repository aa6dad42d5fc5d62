"""Hooks against a real Redis-compatible server that is well, gone, frozen, full or lying."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from approval_mail import celery, hooks, services
from approval_mail.errors import InvalidEvent
from approval_mail.hooks import Receipt
from approval_mail.settings import Settings
from approval_mail.store import EventStore
from tests.rig.addresses import NAME, silent_addresses
from tests.rig.proxy import Proxy
from tests.rig.redis_server import RedisServer, free_port
from tests.rig.resp_peer import FORBIDDEN, FULL, LOADING, LOCKED, NO_REDIS, REPLICA, SILENCE, RespPeer
from tests.rig.stopwatch import Stopwatch
from tests.rig.waiting import wait_for

#: Seconds. The promise: a hook returns within this whatever Redis does.
BOUND = 0.5

Configure = Callable[..., Settings]


@pytest.fixture
def configure(redis_server: RedisServer, tmp_path: Path) -> Iterator[Configure]:
    def make(**changes: Any) -> Settings:
        made = replace(Settings(enabled=True, redis_url=redis_server.url, spool_dir=tmp_path / "spool"), **changes)
        hooks.configure(made)
        return made

    yield make
    hooks.configure(Settings())
    wait_for(lambda: not [t for t in threading.enumerate() if t.name == "approval-mail-spool"], seconds=20)


def request(request_id: str = "abc12345", **more: Any) -> Receipt:
    return hooks.approval_requested(request_id=request_id, user_id="kim", tool_name="git_commit", **more)


def timed(call: Callable[[], Receipt]) -> Receipt:
    """Call, and hold the call to the promise's bound."""
    with Stopwatch() as watch:
        receipt = call()
    assert watch.seconds < BOUND
    return receipt


def pending(server: RedisServer) -> int:
    with server.client as client:
        return EventStore(client).count().pending


def queued(server: RedisServer) -> int:
    """Wake-ups on Celery's queue, those with a countdown too."""
    with server.client as client:
        return int(client.llen("approval_mail"))


def test_each_hook_records_its_event(configure: Configure, redis_server: RedisServer) -> None:
    configure()
    told = {"request_id": "r1", "user_id": "kim", "tool_name": "git_commit"}
    assert hooks.approval_requested(**told, expires_at="2030-01-01T00:00:00Z", arguments={"a": 1}) == "accepted"
    assert hooks.approval_timeout(**told) == "accepted"
    assert hooks.approval_approved(**told, responder_id="lee", reason="fine") == "accepted"
    assert hooks.approval_rejected(**told) == "accepted"
    assert hooks.emit("approval_rejected", told) == "duplicate"
    assert pending(redis_server) == 4


def test_at_most_one_wake_up_is_sent(configure: Configure, redis_server: RedisServer) -> None:
    configure()
    for n in range(9):
        request(f"r{n}")
    assert queued(redis_server) == 1
    with redis_server.client as client:
        message = json.loads(client.lindex("approval_mail", 0))
    assert message["headers"]["task"] == "approval_mail.gather"


def test_configured_settings_go_before_what_the_host_gives_its_own_celery(
    configure: Configure, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery itself would send to these without a word."""
    elsewhere = f"redis://127.0.0.1:{free_port()}/0"
    for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
        monkeypatch.setenv(name, elsewhere)
    configure()
    request()
    assert queued(redis_server) == 1
    assert celery.app.connection_for_read().as_uri() == celery.app.connection_for_write().as_uri()
    assert f":{redis_server.port}/" in celery.app.connection_for_read().as_uri()
    assert f":{redis_server.port}/" in celery.app.backend.as_uri()


def test_a_spool_that_is_configured_as_a_text_takes_events(
    configure: Configure, own_redis: RedisServer, tmp_path: Path
) -> None:
    configure(redis_url=own_redis.url, spool_dir=str(tmp_path / "text"))
    own_redis.kill()
    assert timed(request) is Receipt.SPOOLED
    assert len(list((tmp_path / "text").glob("*.json"))) == 1
    own_redis.start()
    wait_for(lambda: pending(own_redis) == 1)


def test_the_guides_log_line_is_written(configure: Configure, caplog: pytest.LogCaptureFixture) -> None:
    configure()
    with caplog.at_level(logging.INFO, "approval_mail"):
        request()
    assert "Event enqueued: ApprovalEvent(approval_requested, abc12345)" in caplog.messages


@pytest.mark.parametrize("field", ["request_id", "user_id", "tool_name"])
def test_a_missing_field_raises_and_nothing_is_recorded(
    configure: Configure, redis_server: RedisServer, field: str
) -> None:
    configure()
    told = {"request_id": "r1", "user_id": "kim", "tool_name": "git_commit"}
    del told[field]
    with pytest.raises(InvalidEvent, match=f"'{field}' is missing"):
        hooks.approval_approved(**told)
    with redis_server.client as client:
        assert client.keys("*") == []


def test_data_that_cannot_be_read_raises_nothing_else(configure: Configure) -> None:
    class Odd(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("dictionary changed size during iteration")

    configure()
    with pytest.raises(InvalidEvent, match="cannot be read"):
        request(arguments=Odd(a=1))


def test_disabled_touches_nothing(configure: Configure, redis_server: RedisServer, tmp_path: Path) -> None:
    configure(enabled=False)
    assert request() is Receipt.DISABLED
    with redis_server.client as client:
        assert client.keys("*") == []
    assert not (tmp_path / "spool").exists()


def test_a_refused_redis_spools_and_says_so_once(
    configure: Configure, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    configure(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    assert [timed(lambda n=n: request(f"r{n}")) for n in range(20)] == [Receipt.SPOOLED] * 20  # type: ignore[misc]
    assert len(services.spool().paths()) == 20
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1
    for path in services.spool().paths():
        path.unlink()


def test_what_was_spooled_is_replayed_by_the_process_itself(
    configure: Configure, own_redis: RedisServer, tmp_path: Path
) -> None:
    configure(redis_url=own_redis.url)
    own_redis.kill()
    assert timed(request) is Receipt.SPOOLED
    own_redis.start()
    wait_for(lambda: pending(own_redis) == 1)
    wait_for(lambda: services.spool().paths() == [])
    assert request() is Receipt.DUPLICATE


def test_what_an_earlier_process_left_is_replayed_at_the_first_contact(
    configure: Configure, redis_server: RedisServer, tmp_path: Path
) -> None:
    port = free_port()
    code = (
        "from approval_mail import hooks; print(hooks.approval_timeout(request_id='left', user_id='u', tool_name='t'))"
    )
    environment = {
        **os.environ,
        "NOTIFICATION_ENABLED": "true",
        "REDIS_URL": f"redis://127.0.0.1:{port}/0",
        "NOTIFICATION_SPOOL_DIR": str(tmp_path / "spool"),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "spooled\n"
    configure()
    assert request() is Receipt.ACCEPTED
    wait_for(lambda: pending(redis_server) == 2)


def test_a_frozen_redis_costs_each_call_a_bounded_time_and_loses_nothing(
    configure: Configure, own_redis: RedisServer
) -> None:
    configure(redis_url=own_redis.url)
    assert request("before") is Receipt.ACCEPTED
    own_redis.signal(signal.SIGSTOP)
    receipts = [timed(lambda n=n: request(f"r{n}")) for n in range(10)]  # type: ignore[misc]
    assert set(receipts) == {Receipt.SPOOLED}
    own_redis.signal(signal.SIGCONT)
    wait_for(lambda: pending(own_redis) == 11)
    wait_for(lambda: services.spool().paths() == [])


def test_a_redis_that_never_answers_is_bounded(configure: Configure) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        configure(redis_url=f"redis://:password@127.0.0.1:{listener.getsockname()[1]}/3")
        assert timed(request) is Receipt.SPOOLED
    for path in services.spool().paths():
        path.unlink()


def test_a_broker_that_never_answers_is_not_waited_for_by_each_call(
    configure: Configure, redis_server: RedisServer
) -> None:
    took = []
    with RespPeer(SILENCE) as peer, redis_server.client as client:
        configure(celery_broker_url=peer.redis_url)
        for n in range(5):
            # Each call has reason to wake gather.
            client.delete("approval_mail:{store}:wake", "approval_mail:{store}:window")
            started = time.perf_counter()
            assert timed(lambda n=n: request(f"r{n}")) is Receipt.ACCEPTED  # type: ignore[misc]
            took.append(time.perf_counter() - started)
    assert sum(seconds > 0.15 for seconds in took) < 3, took
    assert pending(redis_server) == 5


def test_a_broker_that_refuses_does_not_fail_the_hook(
    configure: Configure, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    configure(celery_broker_url=f"redis://127.0.0.1:{free_port()}/0")
    assert timed(request) is Receipt.ACCEPTED
    assert "The broker cannot be used" in caplog.text


@pytest.mark.parametrize("answer", [LOADING, LOCKED, FULL, REPLICA, FORBIDDEN, NO_REDIS, SILENCE])
def test_whatever_redis_answers_the_event_is_kept(configure: Configure, answer: bytes) -> None:
    with RespPeer(answer) as peer:
        configure(redis_url=peer.redis_url)
        assert timed(request) is Receipt.SPOOLED
        assert peer.commands
        for path in services.spool().paths():
            path.unlink()


def test_the_time_limit_of_the_hosts_own_task_reaches_it_and_the_event_is_kept(configure: Configure) -> None:
    def expire(*_: object) -> None:
        raise SoftTimeLimitExceeded

    def wait_and_tell(peer: RespPeer) -> None:
        wait_for(lambda: peer.commands)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, expire)
    try:
        with RespPeer(SILENCE) as peer:
            configure(redis_url=peer.redis_url)
            threading.Thread(target=wait_and_tell, args=(peer,)).start()
            with pytest.raises(SoftTimeLimitExceeded):
                request()
    finally:
        signal.signal(signal.SIGUSR1, before)
    [path] = services.spool().paths()
    path.unlink()


def test_a_first_hook_in_a_process_without_another_file_to_open_raises_nothing(tmp_path: Path) -> None:
    lines = (
        "import os, resource",
        "from approval_mail import hooks",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')) - 1,) * 2)",
        "print(hooks.approval_requested(request_id='r1', user_id='kim', tool_name='deploy'))",
    )
    changes = {"NOTIFICATION_ENABLED": "true", "NOTIFICATION_SPOOL_DIR": str(tmp_path / "spool")}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=tmp_path,
        env=os.environ | changes,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "refused\n", done.stderr


def test_a_full_redis_spools_and_takes_the_events_when_it_has_room(
    configure: Configure, redis_server: RedisServer
) -> None:
    configure()
    request("before")
    with redis_server.client as client:
        client.config_set("maxmemory", 1)
        assert timed(lambda: request("during")) is Receipt.SPOOLED
        client.config_set("maxmemory", 0)
    wait_for(lambda: pending(redis_server) == 2)


def test_a_stale_pooled_connection_is_no_reason_to_spool(configure: Configure, own_redis: RedisServer) -> None:
    configure(redis_url=own_redis.url)
    assert request("before") is Receipt.ACCEPTED
    own_redis.kill()
    own_redis.start()
    assert request("after") is Receipt.ACCEPTED


def test_neither_redis_nor_disk_is_told_and_does_not_raise(
    configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    configure(redis_url=f"redis://127.0.0.1:{free_port()}/0", spool_dir=tmp_path / "file")
    assert [timed(lambda n=n: request(f"r{n}")) for n in range(3)] == [Receipt.REFUSED] * 3  # type: ignore[misc]
    assert [record.levelno for record in caplog.records if "Event lost" in record.getMessage()] == [
        logging.ERROR,
        logging.WARNING,
        logging.WARNING,
    ], "each is named, the cause once"


def test_invalid_settings_are_one_log_line_and_events_are_spooled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, configure: Configure
) -> None:
    monkeypatch.setenv("NOTIFICATION_ENABLED", "true")
    monkeypatch.setenv("SMTP_PORT", "not a port")
    monkeypatch.setenv("NOTIFICATION_SPOOL_DIR", str(tmp_path / "spool"))
    services.configure(None)
    assert [request(f"r{n}") for n in range(3)] == [Receipt.SPOOLED] * 3
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "SMTP_PORT=not a port" in errors[0]
    assert len(services.spool().paths()) == 3


def test_a_doubtful_enabled_setting_spools_rather_than_drops(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, configure: Configure
) -> None:
    monkeypatch.setenv("NOTIFICATION_ENABLED", "ture")
    monkeypatch.setenv("NOTIFICATION_SPOOL_DIR", str(tmp_path / "spool"))
    services.configure(None)
    assert request() is Receipt.SPOOLED


@pytest.mark.parametrize(
    "environment",
    [
        {"REDIS_URL": "redis://127.0.0.1/0?socket_timeout=abc"},
        {"REDIS_URL": "redis://127.0.0.1/0?nonsense=1"},
        {"REDIS_URL": "redis://redis..svc/0"},
        {"REDIS_URL": f"redis://{'x' * 64}.example/0"},
        {"NOTIFICATION_TEMPLATE_DIR": "~nosuchuser/mails"},
        {"SMTP_PASSWORD_FILE": "~nosuchuser/password"},
        {"SMTP_TLS_CA_FILE": "x" * 5000},
    ],
)
def test_no_operators_mistake_reaches_the_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, configure: Configure, environment: dict[str, str]
) -> None:
    settings = {"NOTIFICATION_ENABLED": "true", "NOTIFICATION_SPOOL_DIR": str(tmp_path / "spool"), **environment}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    services.configure(None)
    assert timed(request) is Receipt.SPOOLED
    for path in services.spool().paths():
        path.unlink()


def test_nor_does_a_mistake_in_settings_that_the_host_made_itself(configure: Configure) -> None:
    configure(redis_url="localhost:6379")
    assert timed(request) is Receipt.SPOOLED
    for path in services.spool().paths():
        path.unlink()


def test_a_deleted_working_directory_is_no_matter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, configure: Configure
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    services.configure(None)
    assert request() is Receipt.DISABLED
    monkeypatch.chdir(tmp_path)  # What follows the test need not do without one.


@pytest.mark.parametrize("name", ["file", "x" * 300])
def test_a_spool_that_cannot_be_listed_does_not_fail_an_accepted_event(
    configure: Configure, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").touch()
    configure(spool_dir=tmp_path / name)
    assert request() is Receipt.ACCEPTED


@pytest.mark.parametrize("slow", ["redis_url", "celery_broker_url", "both"])
@pytest.mark.parametrize("delay", [0.05, 0.15])
def test_steps_that_are_each_slow_are_bounded_together(
    configure: Configure, redis_server: RedisServer, slow: str, delay: float
) -> None:
    configure()
    assert request("warm-up") is Receipt.ACCEPTED
    with redis_server.client as client:
        client.delete("approval_mail:{store}:wake", "approval_mail:{store}:window")

    def hold_back(_: bytes, __: bytes) -> bool:
        time.sleep(delay)
        return True

    with Proxy(redis_server.port, hold_back) as proxy:
        names = ["redis_url", "celery_broker_url"] if slow == "both" else [slow]
        configure(**dict.fromkeys(names, proxy.redis_url))
        for n in range(3):
            assert timed(lambda n=n: request(f"r{n}")) in (Receipt.ACCEPTED, Receipt.SPOOLED)  # type: ignore[misc]
        wait_for(lambda: pending(redis_server) == 4)
        wait_for(lambda: services.spool().paths() == [])
        services.configure(None)


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_many_silent_addresses_cost_no_more_than_one(
    configure: Configure, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    configure(**{"redis_url" if scheme == "redis" else "celery_broker_url": f"{scheme}://{NAME}:6379/0"})
    with silent_addresses(monkeypatch, 4):
        assert timed(request) is (Receipt.SPOOLED if scheme == "redis" else Receipt.ACCEPTED)
        for path in services.spool().paths():
            path.unlink()


def test_threads_may_share_the_hooks(configure: Configure, redis_server: RedisServer) -> None:
    configure()
    with ThreadPoolExecutor(16) as pool:
        receipts = list(pool.map(lambda n: request(f"r{n}"), range(300)))
    assert set(receipts) == {Receipt.ACCEPTED}
    assert pending(redis_server) == 300


def test_a_running_event_loop_may_call_the_hooks(configure: Configure, redis_server: RedisServer) -> None:
    configure()

    async def handler(n: int) -> Receipt:
        return request(f"r{n}")

    async def serve() -> list[Receipt]:
        return list(await asyncio.gather(*(handler(n) for n in range(20))))

    assert set(asyncio.run(serve())) == {Receipt.ACCEPTED}


FORKING = """
import os, sys
from approval_mail import hooks

def tell(name):
    return hooks.approval_requested(request_id=name, user_id="u", tool_name="t")

assert tell("parent") == "accepted"
children = []
for child in range(4):
    pid = os.fork()
    if pid == 0:
        os._exit(any(tell(f"{child}-{n}") != "accepted" for n in range(50)))
    children.append(pid)
mine = [tell(f"parent-{n}") for n in range(50)]
assert set(mine) == {"accepted"}, mine
assert not any(os.waitpid(pid, 0)[1] for pid in children)
"""


def test_web_workers_forked_after_first_use_have_their_own_connections(
    configure: Configure, redis_server: RedisServer, settings: dict[str, str]
) -> None:
    with redis_server.client as client:
        before = client.info("stats")["total_connections_received"]
        subprocess.run([sys.executable, "-c", FORKING], env={**settings, "NOTIFICATION_BATCH_SIZE": "7"}, check=True)
        assert client.info("stats")["total_connections_received"] - before >= 5
    assert pending(redis_server) == 1 + 4 * 50 + 50
    with redis_server.client as client:
        for message in client.lrange("approval_mail", 0, -1):
            assert json.loads(message)["headers"]["task"] == "approval_mail.gather"


def test_importing_the_hooks_loads_nothing_heavy() -> None:
    code = (
        "import sys; from approval_mail import hooks; "
        "print([m for m in ('jinja2', 'smtplib', 'css_inline', 'flower', 'fastapi', 'aiosmtpd', 'celery.bin', "
        "'approval_mail.tasks', 'approval_mail.cli') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_app_is_nobodys_default(configure: Configure) -> None:
    from celery import current_app

    assert current_app.main != "approval_mail"
    assert celery.app.main == "approval_mail"


def test_delay_from_a_host_is_bounded_when_the_broker_is_gone(configure: Configure) -> None:
    from approval_mail.tasks import notify

    configure(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    for _ in range(2):  # The first call also pays for imports.
        with Stopwatch() as watch, pytest.raises(Exception, match=r"refused|restarted"):
            notify.delay("approval_requested", {})
    assert watch.seconds < BOUND


def test_settings_told_anew_close_every_connection_of_the_old(configure: Configure, own_redis: RedisServer) -> None:
    from approval_mail.tasks import notify

    configure(redis_url=own_redis.url)
    with own_redis.client as client:
        before = len(client.client_list())
        gc.disable()  # It would close some of them, sooner or later.
        try:
            notify.delay("approval_requested", {})
            assert len(client.client_list()) > before
            configure(redis_url=own_redis.url)
            wait_for(lambda: len(client.client_list()) == before)
        finally:
            gc.enable()
