"""A server that refuses, says nothing, is locked or loads: as a broker apart from the store, and as the store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.faults.world import World
from tests.rig.proxy import Proxy
from tests.rig.redis_server import RedisServer
from tests.rig.resp_peer import LOADING, LOCKED, SILENCE, RespPeer
from tests.rig.waiting import wait_for

#: Seconds. The promise: a hook returns within this whatever Redis does.
BOUND = 0.5
#: None of them makes another moot, so that each ends as a mail.
TYPES = ("approval_requested", "approval_approved", "approval_rejected")
#: What a server says that is there and of no use. While it loads it greets all the same.
ANSWERS = {"silent": SILENCE, "locked": LOCKED, "loading": LOADING}
GREETINGS = {"loading": {"CLIENT": b"+OK\r\n", "SELECT": b"+OK\r\n"}}
FAULTS = ("refused", *ANSWERS)


class Way:
    """The way to a server, on which trouble can be had in its stead."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._proxy = Proxy(server.port)
        self._peers = {fault: RespPeer(answer, GREETINGS.get(fault)) for fault, answer in ANSWERS.items()}

    @property
    def url(self) -> str:
        return self._proxy.redis_url

    def __enter__(self) -> Way:
        for peer in self._peers.values():
            peer.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._proxy.refuse()
        for peer in self._peers.values():
            peer.__exit__()

    def meets(self, fault: str) -> None:
        if fault == "refused":
            self._proxy.refuse()
        else:
            self._proxy.turn_to(self._peers[fault].port)

    def is_mended(self) -> None:
        """Lead to the server again."""
        self._proxy.turn_to(self._server.port)
        self._proxy.accept()


@pytest.fixture
def ways(request: pytest.FixtureRequest) -> Iterator[Callable[[RedisServer], Way]]:
    with contextlib.ExitStack() as stack:
        yield lambda server: stack.enter_context(Way(server))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RedisServer]:
    """A server apart from the store."""
    (tmp_path / "broker").mkdir()
    server = RedisServer(tmp_path / "broker").start()
    yield server
    server.kill()


def let_wake_ups_be_due(client: redis.Redis) -> None:
    """What five seconds without an answer to the last wake-up would do."""
    client.delete("approval_mail:{store}:wake", "approval_mail:{store}:window")


@pytest.mark.fault("broker refused, silent, locked or loading")
def test_a_broker_in_trouble_is_told_of_once_and_costs_no_event(
    world: World, broker: RedisServer, ways: Callable[[RedisServer], Way]
) -> None:
    """Each event would wake gather; the store takes them all the same, and they are sent once the broker is well."""
    paths = {fault: ways(broker) for fault in FAULTS}
    for fault, way in paths.items():
        way.meets(fault)
    more = 800 if world.thorough else 150
    hosts = [
        world.host(1_000_000, types=TYPES, per_second=20, changes={"CELERY_BROKER_URL": way.url})
        for way in paths.values()
    ]
    trouble, mended = "The broker cannot be used", "The broker can be used again"
    with world.client as client:

        def all_say(text: str) -> bool:
            let_wake_ups_be_due(client)
            return all(text in host.output() for host in hosts)

        wait_for(lambda: all_say(trouble))
        # Many more calls, each of which has reason to wake gather, for longer than a broker is left alone.
        told = len(world.receipts())
        wait_for(lambda: all_say(trouble) and len(world.receipts()) > told + more)
        for way in paths.values():
            way.is_mended()
        wait_for(lambda: all_say(mended))
        let_wake_ups_be_due(client)
    for host in hosts:
        assert host.stop(seconds=120) == 0, host.output()
        assert host.output().count(trouble) == host.output().count(mended) == 1
        assert "Traceback" not in host.output()
    assert set(world.receipts().values()) == {"accepted"}
    assert world.slowest_call() < BOUND
    world.settings["CELERY_BROKER_URL"] = broker.url
    world.worker()
    ledger = world.judge()
    assert ledger.sent == ledger.events


@pytest.mark.fault("broker refused, silent, locked or loading")
def test_a_store_in_trouble_is_told_of_once_and_its_events_are_spooled(
    world: World, ways: Callable[[RedisServer], Way]
) -> None:
    paths = {fault: ways(world.redis) for fault in FAULTS}
    for fault, way in paths.items():
        way.meets(fault)
    count = 100 if world.thorough else 10
    world.settings["CELERY_BROKER_URL"] = world.redis.url
    hosts = [world.host(count, types=TYPES, per_second=25, changes={"REDIS_URL": way.url}) for way in paths.values()]
    wait_for(lambda: len(world.spool.paths()) == 4 * count)
    for way in paths.values():
        way.is_mended()
    world.fault_ends()
    for host in hosts:
        assert host.process.wait(120) == 0, host.output()
        assert host.output().count("Redis cannot be used") == 1
        assert "Traceback" not in host.output()
    assert set(world.receipts().values()) == {"spooled"}
    assert world.slowest_call() < BOUND
    world.worker()
    assert world.judge().sent == 4 * count


@pytest.mark.fault("broker refused, silent, locked or loading")
@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("which", ["CELERY_BROKER_URL", "REDIS_URL"])
def test_the_same_worker_goes_on_after_every_such_trouble(
    world: World, broker: RedisServer, ways: Callable[[RedisServer], Way], which: str
) -> None:
    """A retry waits in the worker each time that the trouble begins."""
    servers = {"CELERY_BROKER_URL": broker, "REDIS_URL": world.redis}
    way = ways(servers[which])
    world.settings |= {"CELERY_BROKER_URL": broker.url, "CELERY_RESULT_BACKEND": broker.url, which: way.url}
    worker, beat = world.worker("--concurrency=2"), world.beat()
    for fault in FAULTS:
        refused = worker.output().count("Not accepted")
        world.smtp.on("rcpt", "451 greylisted", times=1)
        host = world.host(1_000_000, types=TYPES, per_second=20)
        wait_for(lambda refused=refused: worker.output().count("Not accepted") > refused)
        told = len(world.receipts())
        way.meets(fault)
        wait_for(lambda told=told: len(world.receipts()) > told + 100)
        way.is_mended()
        world.fault_ends()
        assert host.stop(seconds=120) == 0, host.output()
        assert world.judge().dead == 0
    assert world.slowest_call() < BOUND
    for program in (worker, beat):
        assert program.process.poll() is None, program.output()
