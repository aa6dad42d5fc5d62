"""The store under load: killed, frozen, full, demoted, and heard too late or not at all."""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.world import World
from tests.rig.programs import Program
from tests.rig.proxy import Loss, Proxy
from tests.rig.redis_server import RedisServer
from tests.rig.smtp_server import Connection
from tests.rig.waiting import wait_for

#: Seconds. The promise: a hook returns within this whatever Redis does.
BOUND = 0.5
#: None of them makes another moot, so that each ends as a mail.
TYPES = ("approval_requested", "approval_approved", "approval_rejected")


def under_load(world: World) -> Program:
    """A host that tells events at a steady pace until `ends_well`; returns once mails of them arrive."""
    told = len(world.smtp.mails)
    host = world.host(1_000_000, types=TYPES, per_second=30)
    wait_for(lambda: len(world.smtp.mails) > told + 3)
    return host


def hooks_spool(world: World, count: int) -> None:
    """Wait until so many events more are on disk."""
    goal = len(world.spool.paths()) + count
    wait_for(lambda: len(world.spool.paths()) >= goal, saying=f"{goal} spooled events")


def ends_well(world: World, host: Program, *workers: Program, explained: int = 0) -> None:
    """The host ends, nothing is lost, every call was short and the workers live."""
    assert host.stop(seconds=120) == 0, host.output()
    ledger = world.judge(explained=explained)
    assert ledger.sent == ledger.events
    assert world.slowest_call() < BOUND
    for worker in workers:
        assert worker.process.poll() is None, worker.output()


@pytest.mark.fault("store killed -9 under load")
@pytest.mark.timeout(900)
def test_a_store_killed_under_load_loses_nothing_and_the_same_worker_goes_on(world: World) -> None:
    """A retry waits in the worker at each kill, which once left kombu's worker dead without exiting."""
    kills = 3 if world.thorough else 1
    world.smtp.slowness = 0.01
    worker = world.worker("--concurrency=2")
    world.beat()
    host = under_load(world)
    for _ in range(kills):
        refused = worker.output().count("Not accepted")
        world.smtp.on("rcpt", "451 greylisted", times=1)
        wait_for(lambda refused=refused: worker.output().count("Not accepted") > refused)
        world.redis.kill()
        hooks_spool(world, world.random.randrange(5, 100 if world.thorough else 20))
        world.redis.start()
        world.fault_ends()
        world.leases_run_out()
        # The next kill comes under load again, not into what the last one left.
        arrived = len(world.smtp.mails)
        wait_for(lambda arrived=arrived: len(world.smtp.mails) > arrived + 3)
    ends_well(world, host, worker)


@pytest.mark.fault("store frozen and thawed")
@pytest.mark.timeout(900)
def test_a_frozen_store_costs_hooks_a_bounded_time_and_is_told_everything_once(world: World) -> None:
    """What a hook wrote before it gave up is still in the socket: the store reads it when it thaws."""
    worker = world.worker("--concurrency=2")
    world.beat()
    host = under_load(world)
    world.redis.signal(signal.SIGSTOP)
    # Longer than a worker waits for an answer; or just until hooks have spooled some.
    hooks_spool(world, 400 if world.thorough else 20)
    world.redis.signal(signal.SIGCONT)
    world.fault_ends()
    world.leases_run_out()
    ends_well(world, host, worker)


def fill(world: World) -> None:
    world.client.config_set("maxmemory-policy", "noeviction")
    world.client.config_set("maxmemory", 1)


def make_room(world: World) -> None:
    world.client.config_set("maxmemory", 0)
    world.fault_ends()


@pytest.mark.fault("store out of memory")
@pytest.mark.timeout(900)
def test_a_store_that_is_full_puts_accepted_mails_on_record_and_takes_events_again_later(world: World) -> None:
    """The same server is broker and result backend: retries, chords and results cannot be stored either."""
    world.smtp.slowness = 0.05
    worker = world.worker("--concurrency=2")
    world.beat()
    host = under_load(world)
    held, full = threading.Event(), threading.Event()

    def take_once_it_is_full(connection: Connection) -> None:
        held.set()
        full.wait(20)
        connection.say("250 taken")

    world.smtp.on("dot", act=take_once_it_is_full, times=1)
    assert held.wait(60)
    world.smtp.on("rcpt", "451 greylisted", times=1)
    fill(world)
    full.set()
    hooks_spool(world, 300 if world.thorough else 10)
    # That one, and what else was on its way.
    wait_for(lambda: world.counts().get("sent", 0) == len(world.smtp.mails), seconds=60)
    make_room(world)
    world.leases_run_out()
    ends_well(world, host, worker)


@pytest.mark.fault("store out of memory")
@pytest.mark.long
def test_what_a_full_store_holds_is_sent_where_the_broker_has_room(world: World, broker: RedisServer) -> None:
    world.settings |= {"CELERY_BROKER_URL": broker.url, "CELERY_RESULT_BACKEND": broker.url}
    world.settings["NOTIFICATION_BATCH_TIMEOUT"] = "1"
    count = 500 if world.thorough else 25
    world.tell(count, types=TYPES)
    fill(world)
    worker = world.worker()
    wait_for(lambda: world.counts() == {"sent": count}, seconds=30)
    host = world.host(5)
    hooks_spool(world, 5)
    world.beat()
    make_room(world)
    ends_well(world, host, worker)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RedisServer]:
    """A server apart from the store."""
    (tmp_path / "broker").mkdir()
    server = RedisServer(tmp_path / "broker").start()
    yield server
    server.kill()


@pytest.fixture
def replica(world: World, tmp_path: Path) -> Iterator[RedisServer]:
    """A server that holds what the store holds."""
    (tmp_path / "replica").mkdir()
    world.client.config_set("repl-diskless-sync-delay", 0)
    server = RedisServer(tmp_path / "replica", "--replicaof", "127.0.0.1", str(world.redis.port)).start()
    wait_for(lambda: follows(server))
    yield server
    server.kill()


def follows(server: RedisServer) -> bool:
    with server.client as client:
        found = client.info("replication")
        return found["role"] == "slave" and found["master_link_status"] == "up"


def fail_over(master: RedisServer, to: RedisServer) -> None:
    """Let the replica be master, and the master its replica; no acknowledged write is lost by it."""
    with master.client as client:
        client.execute_command("FAILOVER", "TO", "127.0.0.1", to.port)
    wait_for(lambda: follows(master))


@pytest.mark.fault("failover")
@pytest.mark.timeout(900)
def test_a_master_that_is_a_replica_for_a_while_loses_nothing(world: World, replica: RedisServer) -> None:
    world.smtp.slowness = 0.05
    worker = world.worker("--concurrency=2")
    world.beat()
    host = under_load(world)
    fail_over(world.redis, replica)
    hooks_spool(world, 200 if world.thorough else 10)
    fail_over(replica, world.redis)
    world.fault_ends()
    world.leases_run_out()
    ends_well(world, host, worker)


@pytest.mark.fault("failover")
@pytest.mark.timeout(900)
def test_by_its_name_the_new_master_is_found_though_the_old_one_lives_on(world: World, replica: RedisServer) -> None:
    """As where a DNS name leads to the master: connections made before stay, to what is a replica now."""
    with Proxy(world.redis.port) as name:
        world.settings["REDIS_URL"] = name.redis_url
        worker = world.worker("--concurrency=1")
        world.beat()
        host = under_load(world)
        for master, successor in ((world.redis, replica), (replica, world.redis)):
            name.upstream = successor.port
            fail_over(master, successor)
            world.fault_ends()
            arrived = len(world.smtp.mails)
            wait_for(lambda arrived=arrived: len(world.smtp.mails) > arrived + 60, seconds=90, saying="mails again")
            wait_for(lambda: not world.spool.paths(), saying="an empty spool")
        world.leases_run_out()
        ends_well(world, host, worker)


@pytest.mark.fault("reply to a hook's write lost")
@pytest.mark.timeout(900)
def test_an_event_whose_reply_is_lost_is_one_event(world: World) -> None:
    """The connection is closed, half of it is, or nothing more is heard; or the reply comes after the hook has left."""
    answers: Counter[Loss | None] = Counter()

    def judge(loss: Loss | None, request: bytes, reply: bytes) -> bool:
        """Lose the first answer to a hook's write, not that to the same write told again, and then each third or so."""
        if b"git_commit" not in request or b"NOSCRIPT" in reply:
            return True
        answers[loss] += 1
        if answers[loss] == 2 or (answers[loss] > 2 and world.random.random() > 1 / 3):
            return True
        if loss is None:
            time.sleep(BOUND)
        return loss is None

    with contextlib.ExitStack() as stack:
        hosts = []
        for loss in (*Loss, None):
            proxy = Proxy(world.redis.port, functools.partial(judge, loss), loss=loss or Loss.CLOSED)
            stack.enter_context(proxy)
            changes = {"REDIS_URL": proxy.redis_url, "CELERY_BROKER_URL": world.redis.url}
            hosts.append(world.host(60 if world.thorough else 5, types=TYPES, per_second=20, changes=changes))
        for host in hosts:
            assert host.process.wait(120) == 0, host.output()
    assert set(answers) == {*Loss, None}
    assert set(world.receipts().values()) == {"accepted", "spooled"}, "a write told again is no duplicate"
    worker = world.worker()
    ends_well(world, hosts[0], worker)
