"""The spool when its own disk fails, and under a storm of hosts that write, replay and die."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from approval_mail.spool_room import MAX_BYTES
from tests.faults.world import World
from tests.rig.programs import Program
from tests.rig.waiting import wait_for

#: Seconds. The promise: a hook returns within this whatever fails.
BOUND = 0.5
#: Bytes. A limit that what these hosts write of one event breaks, and all else keeps.
LIMIT = 50_000
ARGUMENTS = ["x" * 3_900] * 15

Fault = Callable[[Path, Program], contextlib.AbstractContextManager[str]]


@contextlib.contextmanager
def file_size_limit(_folder: Path, host: Program) -> Iterator[str]:
    """A part of each event is written before it fails."""
    usual = resource.prlimit(host.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(host.process.pid, resource.RLIMIT_FSIZE, (LIMIT, usual[1]))
    yield "cannot be written: File too large"
    resource.prlimit(host.process.pid, resource.RLIMIT_FSIZE, usual)


@contextlib.contextmanager
def full_disk(folder: Path, _host: Program) -> Iterator[str]:
    with _mounted(folder, "size=1m"):
        with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        yield "cannot be written: No space left on device"


@contextlib.contextmanager
def read_only(folder: Path, _host: Program) -> Iterator[str]:
    with _mounted(folder, "size=1m,ro"):
        yield "cannot be written: Read-only file system"


@contextlib.contextmanager
def no_folder(folder: Path, _host: Program) -> Iterator[str]:
    folder.rmdir()
    folder.touch()
    yield "cannot be written: Not a directory"
    folder.unlink()


@contextlib.contextmanager
def too_much(folder: Path, _host: Program) -> Iterator[str]:
    """What someone else left there takes all the room."""
    core = folder / "core"
    core.touch()
    os.truncate(core, MAX_BYTES)
    yield "is full"
    core.unlink()


@contextlib.contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        # The host may be looking just now.
        wait_for(lambda: subprocess.run(["umount", str(folder)], check=False).returncode == 0)


def errors(host: Program) -> list[str]:
    return [line for line in host.output().splitlines() if " ERROR " in line and "Event lost" in line]


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def _can_mount(folder: Path) -> bool:
    done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True, check=False)
    return done.returncode == 0 and subprocess.run(["umount", str(folder)], check=False).returncode == 0


def _faults(folder: Path, *, thorough: bool) -> list[Fault]:
    found: list[Fault] = [file_size_limit, too_much, *([no_folder] if thorough else [])]
    if _can_mount(folder):
        return [*found, read_only, *([full_disk] if thorough else [])]
    print("not tried: a full and a read-only disk, for nothing can be mounted here")
    return found


@pytest.mark.fault("spool's disk full or read-only")
def test_a_spool_that_takes_nothing_is_told_once_and_all_goes_on_when_it_is_mended(world: World) -> None:
    """Neither Redis nor the disk: each call returns in time, and leaves nothing half-written behind."""
    folder = world.spool.folder
    folder.mkdir(mode=0o700)
    for fault in _faults(folder, thorough=world.thorough):
        host = world.host(10_000, per_second=40, types=["approval_requested"], arguments=ARGUMENTS)

        def told(receipt: str, host: str = f"host{world._hosts}-") -> int:
            return sum(event_id.startswith(host) and found == receipt for event_id, found in world.receipts().items())

        wait_for(lambda: told("accepted") >= 3)
        world.fault_begins()
        with fault(folder, host) as says:
            before = names(folder)
            world.redis.kill()
            wait_for(lambda: told("refused") >= 5)
            wait_for(lambda: names(folder) == before)  # noqa: B023 - called at once
            [line_told] = errors(host)
            assert f"the spool {folder} {says}" in line_told
            if fault is not file_size_limit:  # It is the host's own.
                [line] = json.loads(world.ask("check", "--only", "spool", "--json").stdout)
                assert not line["ok"]
                assert says in line["detail"]
                assert line_told.endswith(line["next_step"])
            if fault is too_much or world.thorough:
                world.redis.start()
                shown = json.loads(world.ask("status", "--json").stdout)["spool"]
                assert (shown["fault"] is None) == (fault is file_size_limit)
                world.redis.kill()
        assert told("spooled") == 0
        wait_for(lambda: told("spooled") >= 3)
        world.redis.start()
        world.fault_ends()
        taken = told("accepted")
        wait_for(lambda: told("accepted") > taken and not world.spool.paths())  # noqa: B023 - called at once
        assert errors(host) == [line_told], "told once"
        host.kill()
    assert world.slowest_call() < BOUND
    world.worker()
    ledger = world.judge()
    assert ledger.sent == ledger.events


@pytest.mark.fault("spool's disk full or read-only")
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_hosts_that_write_replay_and_die_at_once_lose_nothing(world: World) -> None:
    """Redis goes and comes back again and again; the worker replays together with the hosts.

    How long a call takes is no matter here: the hosts alone keep every core busy.
    """
    count, rounds = (1_000, 6) if world.thorough else (250, 2)
    world.redis.kill()
    hosts = [world.host(count, threads=4) for _ in range(3)]
    spooled = 0
    for n in range(rounds):
        spooled += world.random.randrange(30, 60)
        wait_for(lambda: list(world.receipts().values()).count("spooled") >= spooled)  # noqa: B023 - called at once
        if n == 1:
            hosts.pop(world.random.randrange(len(hosts))).kill()
        world.redis.start()
        if n < rounds - 1:
            taken = len(world.receipts()) + world.random.randrange(1, 60)
            wait_for(lambda: len(world.receipts()) >= taken)  # noqa: B023 - called at once
            world.redis.kill()
    world.fault_ends()
    world.worker()
    for host in hosts:
        assert host.process.wait(100) == 0, host.output()
    world.judge(within=240)
    assert [name for name in os.listdir(world.spool.folder) if not name.endswith(".tmp")] == []
