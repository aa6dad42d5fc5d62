"""Clocks an hour off: a worker's, a host's, beat's. The store's clock alone decides who holds what, and until when."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.faults.messages import freeze, idle_worker, lose, thaw
from tests.faults.world import ROOT, World
from tests.rig.programs import Program
from tests.rig.waiting import wait_for

AHEAD, BEHIND = "+3600s", "-3600s"
#: Seconds. A batch timeout or a quick retry, and what a busy machine may take: far below an hour, and below a lease.
SOON = 15

clocks = pytest.mark.fault("worker's clock an hour off")
either_way = pytest.mark.parametrize("offset", [AHEAD, BEHIND], ids=["ahead", "behind"])
#: Both if there is time.
one_way = pytest.mark.parametrize(
    "offset", [pytest.param(AHEAD, id="ahead"), pytest.param(BEHIND, id="behind", marks=pytest.mark.long)]
)


def clock(offset: str) -> dict[str, str]:
    """What to change in a program's environment, so that its clock is off.

    Without libfaketime the test is skipped, in CI it fails.
    """
    if not shutil.which("faketime"):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("libfaketime is not installed: apt-get install faketime")
    shown = subprocess.run(["faketime", "-m", "-f", offset, "env"], capture_output=True, text=True, check=True).stdout
    found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    # The command would share its state with all that it starts; each program here has a clock of its own.
    return {
        "LD_PRELOAD": found["LD_PRELOAD"],
        "FAKETIME": found["FAKETIME"],
        # Waits and timeouts are by the monotonic clock.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": f"{Path(__file__).parent / 'sleep'}:{ROOT}",
    }


def in_five_minutes() -> str:
    return (datetime.now(timezone.utc) + timedelta(minutes=5)).isoformat()


def is_off(worker: Program, offset: str) -> bool:
    """Whether a worker's log begins an hour off: else the test would show nothing."""
    began = re.search(r"\[(\d{4}-.*?),", worker.output())
    assert began
    off = (datetime.fromisoformat(began[1]).astimezone() - datetime.now(timezone.utc)).total_seconds()
    return off > 3000 if offset == AHEAD else off < -3000


@clocks
@pytest.mark.parametrize(
    "offset", [pytest.param(AHEAD, id="ahead", marks=pytest.mark.long), pytest.param(BEHIND, id="behind")]
)
def test_a_worker_that_is_off_sends_in_usual_time_and_expires_nothing(world: World, offset: str) -> None:
    """Without beat; an outcome alone, and a request whose first try fails while it is still to be answered."""
    world.hurry_beat()
    worker = world.worker("--loglevel=INFO", **clock(offset))
    world.fault_begins()
    world.tell(1, patient=True)
    assert world.judge(within=SOON).sent == 1
    world.smtp.on("rcpt", "451 greylisted", times=1)
    world.tell(1, patient=True, types=["approval_requested"], expires_at=in_five_minutes())
    assert world.judge(within=SOON).sent == 2
    asked = world.smtp.mails[-1].message
    text = asked.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert re.search(r"[45]분( \d+초)? 남음", text), f"the time left is by the store's clock: {text}"
    assert abs((asked["Date"].datetime - datetime.now(timezone.utc)).total_seconds()) < SOON
    assert is_off(worker, offset)


@clocks
def test_hosts_that_are_off_are_served_in_usual_time(world: World) -> None:
    """Without beat: a countdown that Celery sends as a time by the host's clock would last for an hour."""
    world.hurry_beat()
    world.worker()
    world.fault_begins()
    for sent, offset in enumerate((AHEAD, BEHIND), start=1):
        world.tell(1, patient=True, changes=clock(offset))
        assert world.judge(within=SOON).sent == sent


@clocks
@pytest.mark.long
@either_way
def test_a_beat_that_is_off_makes_up_for_lost_wake_ups(world: World, offset: str) -> None:
    world.hurry_beat()
    worker = idle_worker(world)
    freeze(world, worker)
    world.tell(1)
    assert lose(world)
    thaw(worker)
    world.fault_begins()
    world.beat(**clock(offset))
    assert world.judge(within=SOON).sent == 1


@clocks
@pytest.mark.long
@either_way
def test_a_retry_is_handed_on_between_workers_whose_clocks_differ(world: World, offset: str) -> None:
    """By the next worker's clock it is due in an hour, or was an hour ago; its lease lasts for less than a minute."""
    world.smtp.on("rcpt", "451 greylisted", times=1)
    worker = world.worker("--loglevel=INFO", **clock(offset))
    world.tell(1, types=["approval_requested"])
    worker.wait_for_line("Retry in")
    assert worker.stop() == 0
    world.fault_begins()
    successor = world.worker()
    assert world.judge(within=SOON).sent == 1
    assert "Rescued" not in successor.output()


@clocks
@one_way
@pytest.mark.long
def test_a_worker_that_is_off_steals_no_lease_and_copies_do_no_harm(world: World, offset: str) -> None:
    """It gathers every second, and takes messages of the other worker for an hour old: kombu goes by its clock."""
    world.hurry_beat()
    usual = world.worker("--concurrency=1", "--loglevel=INFO", "--hostname=usual@%h")
    world.smtp.slowness = 1.5
    world.smtp.on("rcpt", "451 greylisted", times=1)
    world.beat()
    world.tell(1, types=["approval_requested"])
    usual.wait_for_line("Retry in")
    looks = ("-I", "tests.faults.redelivery")
    other = world.worker("--hostname=other@%h", "--loglevel=INFO", *looks, VISIBILITY_TIMEOUT="300", **clock(offset))
    world.tell(2, types=["approval_approved"])
    wait_for(lambda: other.output().count("Task approval_mail.gather") >= 3)
    world.fault_begins()
    assert world.judge(within=30).sent == 3
    assert is_off(other, offset)
    assert "Rescued" not in usual.output() + other.output()
