"""Workers killed -9: in every phase, and at random."""

from __future__ import annotations

import pytest

from tests.faults.failpoints import PHASES
from tests.faults.world import World
from tests.rig.waiting import wait_for


@pytest.mark.fault("pool child killed -9 at each phase")
@pytest.mark.parametrize("phase", PHASES)
def test_a_pool_child_killed_in_any_phase_loses_nothing(world: World, phase: str) -> None:
    """A duplicate only if it died between the final dot and the record; recovery within a minute."""
    fired = world.folder / "fired"
    worker = world.worker(
        "--concurrency=1", "-I", "tests.faults.failpoints", FAILPOINT=phase, FAILPOINT_FIRED=str(fired)
    )
    world.beat()
    world.tell(3, types=["approval_requested"])
    wait_for(fired.exists)
    world.fault_begins()
    worker.wait_for_line("signal 9 (SIGKILL)")
    world.leases_run_out()
    ledger = world.judge(explained=1 if phase.startswith("after 250") or phase == "after the dot" else 0)
    assert ledger.sent == 3
