"""Workers that are killed at random, lose their messages, get them twice, or are asked to stop."""

from __future__ import annotations

import signal
import threading

import pytest

from approval_mail.events import EVENT_TYPES
from tests.faults.messages import BATCHES, WAKE_UPS, double, freeze, idle_worker, lose, thaw
from tests.faults.world import World
from tests.rig.programs import Program
from tests.rig.smtp_server import Connection
from tests.rig.waiting import wait_for

#: Events of a burst: more batches than the processes of a worker take at once.
BURST = 160
PROCESSES = 2
NOT_ACCEPTED = "Not accepted ApprovalEvent("


def freeze_with_batches_queued(world: World, worker: Program) -> None:
    """Tell a burst of events, and freeze the worker while batches of it wait in the queue."""
    goal = len(world.smtp.mails) + world.random.randrange(1, 10)
    host = world.host(BURST, types=["approval_requested", "approval_approved"], threads=4)
    wait_for(lambda: len(world.smtp.mails) >= goal and world.client.llen(BATCHES) > 1)
    freeze(world, worker)
    assert host.process.wait(120) == 0, host.output()
    assert world.client.llen(BATCHES), "batches wait in the queue"


@pytest.mark.fault("worker group killed -9 at random under load")
@pytest.mark.timeout(1200)
@pytest.mark.long
def test_worker_groups_killed_at_random_lose_nothing(world: World) -> None:
    """Of each, at most the one mail that each process had in flight is sent twice."""
    kills = 22 if world.thorough else 3
    types = [name for name, kind in EVENT_TYPES.items() if not kind.recurs]
    world.smtp.slowness = 0.02
    world.hurry_beat()
    world.beat()
    host = world.host(1_000_000, types=types, per_second=30)
    for _ in range(kills):
        worker = world.worker(f"--concurrency={PROCESSES}")
        goal = len(world.smtp.mails) + world.random.randrange(1, 40)
        wait_for(lambda goal=goal: len(world.smtp.mails) >= goal, seconds=90)
        worker.kill()
        world.fault_begins()
        world.leases_run_out()
    assert host.process.poll() is None, "the last kill was under load as well"
    host.kill()
    world.worker(f"--concurrency={PROCESSES}")
    # Events pile up meanwhile: to be quiet takes a lease, and as long as the server takes for all of them.
    assert world.judge(explained=kills * PROCESSES, within=240).suppressed == 0


@pytest.mark.fault("broker message lost")
@pytest.mark.long
def test_a_message_lost_between_the_broker_and_a_killed_worker_costs_seconds(world: World) -> None:
    """A frozen worker has asked for a message already: it is handed out, and dies with the worker."""
    worker = world.worker()
    worker.signal_group(signal.SIGSTOP)
    told = 1
    world.tell(1, types=["approval_requested"])
    while world.client.llen(WAKE_UPS):
        # The worker was stopped between two of its requests to the broker, each of which lasts for a second.
        thaw(worker)
        wait_for(world.is_quiet)
        worker.signal_group(signal.SIGSTOP)
        told += 1
        world.tell(1, types=["approval_requested"])
    worker.kill()
    world.fault_begins()
    assert world.counts()["pending"] == 1
    world.worker()
    assert world.judge(within=10).sent == told


@pytest.mark.fault("broker message lost")
def test_beat_makes_up_for_a_lost_wake_up(world: World) -> None:
    world.hurry_beat()
    worker = idle_worker(world)
    freeze(world, worker)
    world.tell(12)
    assert lose(world) >= 2, "for the first event, and for a full batch"
    thaw(worker)
    world.fault_begins()
    world.beat()
    assert world.judge(within=10).sent == 12


@pytest.mark.fault("broker message lost")
@pytest.mark.long
@pytest.mark.timeout(900)
def test_messages_lost_again_and_again_under_load_lose_no_event(world: World) -> None:
    """Wake-ups, batches and their summaries alike; what a lost batch had claimed comes back with its lease."""
    rounds = 6 if world.thorough else 1
    world.smtp.slowness = 0.05
    world.hurry_beat()
    worker = world.worker(f"--concurrency={PROCESSES}")
    world.beat()
    for _ in range(rounds):
        freeze_with_batches_queued(world, worker)
        assert lose(world)
        thaw(worker)
        world.fault_begins()
        world.leases_run_out()
    assert world.judge(within=60 * rounds).sent == rounds * BURST


@pytest.mark.fault("task redelivered while its first copy runs")
def test_a_retry_that_the_broker_hands_out_twice_sends_once(world: World) -> None:
    """A retry waits for longer than the broker does: its copy runs at the same moment, and finds nothing to do."""
    copy_ended = threading.Event()

    def take_once_the_copy_ended(connection: Connection) -> None:
        copy_ended.wait(20)
        connection.say("250 taken")

    world.smtp.on("rcpt", "451 greylisted", times=1)
    world.smtp.on("dot", act=take_once_the_copy_ended, times=1)
    worker = world.worker(
        f"--concurrency={PROCESSES}", "--loglevel=INFO", "-I", "tests.faults.redelivery", VISIBILITY_TIMEOUT="1"
    )
    world.tell(1, types=["approval_requested"])
    worker.wait_for_line(NOT_ACCEPTED)
    worker.wait_for_line("'sent': 0")
    assert world.counts() == {"claimed": 1}, "the copy ended while the first was still at it"
    copy_ended.set()
    world.fault_begins()
    assert world.judge(within=20).sent == 1
    assert len(world.smtp.moments("rcpt")) == 2


@pytest.mark.fault("task redelivered while its first copy runs")
@pytest.mark.long
def test_messages_doubled_under_load_send_each_mail_once(world: World) -> None:
    """What the visibility timeout does to a message that waits for its worker, done to all of the queue."""
    rounds = 10 if world.thorough else 1
    world.smtp.slowness = 0.05
    world.hurry_beat()
    worker = world.worker(f"--concurrency={PROCESSES}")
    world.beat()
    for _ in range(rounds):
        freeze_with_batches_queued(world, worker)
        double(world)
        thaw(worker)
        wait_for(world.is_quiet)
        wait_for(lambda: not world.client.exists(WAKE_UPS, BATCHES), saying="every copy taken")
    assert world.judge(within=30).sent == rounds * BURST


@pytest.mark.fault("SIGTERM with a retry waiting")
@pytest.mark.parametrize("failures", [1, pytest.param(3, marks=pytest.mark.long)])
def test_a_retry_that_waits_goes_back_to_the_broker_on_sigterm(world: World, failures: int) -> None:
    """The next worker runs it, once and without waiting for the lease."""
    world.smtp.on("rcpt", "451 greylisted", times=failures)
    worker = world.worker("--loglevel=INFO")
    world.beat()
    world.tell(1, types=["approval_requested"])
    worker.wait_for_line("Retry in", times=failures)
    assert worker.stop() == 0
    world.fault_begins()
    successor = world.worker()
    assert world.judge(within=15).sent == 1
    assert "Rescued" not in successor.output()
    assert len(world.smtp.moments("rcpt")) == failures + 1


@pytest.mark.fault("SIGTERM with a retry waiting")
@pytest.mark.long
def test_sigterm_in_the_middle_of_a_mail_waits_for_it(world: World) -> None:
    """One claim is being sent while another one's retry waits: the former is finished, the latter handed on."""
    world.smtp.on("rcpt", "451 greylisted", times=1)
    worker = world.worker("--concurrency=1", "--loglevel=INFO")
    world.tell(1, types=["approval_requested"])
    worker.wait_for_line("Retry in")
    world.smtp.slowness = 1
    world.tell(1, types=["approval_requested"])
    wait_for(lambda: world.smtp.commands[-1:] == ["DATA"])
    assert worker.stop() == 0
    assert len(world.smtp.mails) == 1
    world.fault_begins()
    world.worker()
    assert world.judge(within=15).sent == 2
