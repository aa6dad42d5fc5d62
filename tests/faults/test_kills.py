"""Workers and their pool children killed -9 at a known moment."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.faults.failpoints import PHASES
from tests.faults.world import World
from tests.rig.programs import Program
from tests.rig.waiting import wait_for

#: Seconds. What any one kill -9 may cost by default settings.
RECOVERY = 60

killed = pytest.mark.fault("pool child killed -9 at each phase")
each_phase = pytest.mark.parametrize(
    "phase", [pytest.param(phase, marks=[pytest.mark.long] if "retry" in phase else []) for phase in PHASES]
)


def pool_child(worker: Program) -> int:
    """The process id of a worker's only pool child."""
    found = subprocess.run(["pgrep", "-P", str(worker.process.pid)], capture_output=True, text=True, check=True)
    [child] = found.stdout.split()
    return int(child)


@killed
@each_phase
def test_a_pool_child_killed_in_any_phase_loses_nothing(world: World, phase: str) -> None:
    """A duplicate only if it died between the final dot and the record; recovery within a minute."""
    world.hurry_beat()
    fired = world.folder / "fired"
    if "retry" in phase:
        world.smtp.on("rcpt", "451 greylisted", times=3 * 3 if "last" in phase else 3)
    worker = world.worker(
        "--concurrency=1", "-I", "tests.faults.failpoints", FAILPOINT=phase, FAILPOINT_FIRED=str(fired)
    )
    world.beat()
    world.tell(3, types=["approval_requested"])
    wait_for(fired.exists)
    world.fault_begins()
    worker.wait_for_line("signal 9 (SIGKILL)")
    world.leases_run_out()
    doubled = phase in ("after the dot", "after 250 before the record")
    ledger = world.judge(explained=1 if doubled else 0, within=RECOVERY)
    assert ledger.sent == 3
    assert ledger.duplicates == doubled


@killed
@pytest.mark.long
def test_a_retry_that_waits_outlives_the_pool_child_that_asked_for_it(world: World) -> None:
    """The wait is the main process's: another child runs the retry when its countdown is over."""
    world.smtp.on("rcpt", "451 greylisted", times=1)
    # Without beat: at the kill the child has nothing to do.
    worker = world.worker("--concurrency=1", "--loglevel=INFO")
    world.tell(1, types=["approval_requested"])
    worker.wait_for_line("Retry in 2s")
    os.kill(pool_child(worker), signal.SIGKILL)
    world.fault_begins()
    assert world.judge(within=10).sent == 1
    assert "Rescued" not in worker.output()


@killed
@pytest.mark.parametrize("failures", [1, pytest.param(3, marks=pytest.mark.long)])
def test_a_worker_killed_while_a_retry_waits_costs_the_lease_that_was_extended_over_it(
    world: World, failures: int
) -> None:
    """The last of the quick retries waits longest: its lease ends 53 s after it was asked for."""
    world.hurry_beat()
    world.smtp.on("rcpt", "451 greylisted", times=failures)
    worker = world.worker("--concurrency=1", "--loglevel=INFO")
    world.beat()
    world.tell(1, types=["approval_requested"])
    worker.wait_for_line("Retry in", times=failures)
    worker.kill()
    world.fault_begins()
    world.leases_run_out()
    world.worker("--concurrency=1")
    assert world.judge(within=RECOVERY).sent == 1
