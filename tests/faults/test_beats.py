"""Beats: one too many, none at all, and one that comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.faults.messages import freeze, idle_worker, lose, thaw
from tests.faults.world import World
from tests.rig.waiting import wait_for

beats = pytest.mark.fault("two beats, no beat, beat restarted")


def status(world: World) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(world.ask("status", "--json").stdout)
    return answer


def batches(world: World) -> dict[str, int]:
    """In how many batches each event was tried, by event id: one that makes way for urgent events is given back."""
    found = {}
    for event_id in world.receipts():
        lines = world.client.lrange(f"approval_mail:{{store}}:trace:{event_id}", 0, -1)
        rows = [json.loads(line.partition(" ")[2]) for line in lines]
        claimed = sum(row[:2] == ["claimed", ""] for row in rows)
        found[event_id] = claimed - sum(row[2] == "given back untried" for row in rows)
    return found


@beats
@pytest.mark.long
def test_two_beats_put_each_event_into_one_batch(world: World) -> None:
    """Both gather at every moment, and two processes at once."""
    count = 300 if world.thorough else 60
    world.settings["NOTIFICATION_BATCH_TIMEOUT"] = "0.1"
    world.smtp.slowness = 0.01
    world.worker("--concurrency=3")
    world.beat()
    world.beat()
    world.tell(count, types=["approval_requested", "approval_approved"], per_second=40)
    world.fault_begins()
    assert world.judge(within=60).sent == count
    assert set(batches(world).values()) == {1}


@beats
@pytest.mark.long
def test_without_a_beat_the_hooks_wake_ups_deliver_and_one_that_returns_catches_up(world: World) -> None:
    world.hurry_beat()
    worker = world.worker()
    beat = world.beat()
    wait_for(lambda: world.client.get("approval_mail:{store}:beat"))
    beat.kill()

    # A minute, if there is time, of full batches, parts of one, and requests that wait for nobody.
    seconds = 60 if world.thorough else 2
    told = seconds * 5
    host = world.host(told, types=["approval_requested", "approval_approved"], per_second=5)
    assert host.process.wait(100) == 0, host.output()
    world.fault_ends()
    assert world.judge(within=10).sent == told
    found = status(world)
    assert found["workers"] == 1
    assert found["beat_seconds_ago"] >= seconds

    # What is told while its wake-up is lost, beat finds: no earlier wake-up is left, in the worker or on its way.
    assert worker.stop() == 0
    wait_for(lambda: not world.client.exists("approval_mail:{store}:wake"))
    lose(world)
    worker = idle_worker(world)
    freeze(world, worker)
    world.tell(1)
    assert lose(world)
    thaw(worker)
    world.beat()
    world.fault_begins()
    assert world.judge(within=10).sent == told + 1
    assert status(world)["beat_seconds_ago"] < 10


@pytest.mark.fault("broker message lost")
def test_the_clock_finds_a_request_whose_wake_up_was_lost_though_beat_gathers_once_in_an_hour(world: World) -> None:
    world.settings["NOTIFICATION_BATCH_TIMEOUT"] = "3600"
    worker = idle_worker(world)
    world.beat()
    freeze(world, worker)
    world.tell(1, types=["approval_requested"])
    assert lose(world)
    thaw(worker)
    world.fault_begins()
    assert world.judge(within=10).sent == 1
