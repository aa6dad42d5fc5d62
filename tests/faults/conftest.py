"""Fault tests: how much of them runs, from which seed, and the table at the end.

``pytest`` runs the quick ones; ``--faults`` (`make faults`) all of them, with leases that run out by themselves.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.matrix import FAULTS
from tests.faults.world import World


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--seed") is None:
        config.option.seed = random.SystemRandom().randrange(1_000_000)


def pytest_report_header(config: pytest.Config) -> str:
    return f"faults: seed {config.getoption('--seed')}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long ones unless asked for."""
    ours = [item for item in items if item.get_closest_marker("fault")]
    for item in ours:
        [name] = item.get_closest_marker("fault").args  # type: ignore[union-attr]
        if name not in FAULTS:
            raise pytest.UsageError(f"{item.nodeid}: no such fault in matrix.py: {name!r}")
        item.user_properties.append(("fault", name))
    if not config.getoption("--faults"):
        long = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture
def world(
    request: pytest.FixtureRequest, tmp_path: Path, record_property: Any, _clean_environment: None
) -> Iterator[World]:
    seed = request.config.getoption("--seed")
    print(f"replay with --seed={seed}")
    # Each test draws for itself, whichever others run.
    own = zlib.crc32(f"{seed} {request.node.nodeid}".encode())
    made = World(tmp_path, seed=own, thorough=request.config.getoption("--faults"), record=record_property)
    try:
        yield made
    finally:
        made.close()
    assert made.judged or request.node.stash.get(FAILED, False), "the test ended without a judgement"


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call" and not report.passed:
        item.stash[FAILED] = True
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table: one row per fault."""
    rows: dict[str, list[list[Any]]] = {fault: [] for fault in FAULTS}
    failed: set[str] = set()
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, ()):
            told = dict(report.user_properties)
            if "fault" not in told:
                continue
            if outcome != "passed":
                failed.add(told["fault"])
            if report.when == "call":
                rows[told["fault"]] += [value for name, value in report.user_properties if name == "ledger"]
    if not config.getoption("--faults"):
        return
    seed = config.getoption("--seed")
    terminalreporter.section(f"faults, seed {seed}: make faults SEED={seed}")
    for line in table(rows, failed):
        terminalreporter.write_line(line)


def table(rows: dict[str, list[list[Any]]], failed: set[str]) -> Iterator[str]:
    """Markdown: fault, runs, events, lost, duplicates, longest recovery in seconds."""
    yield "| fault | runs | events | lost | duplicates | longest recovery, s |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for fault, ledgers in rows.items():
        events, lost, duplicates = (sum(ledger[n] for ledger in ledgers) for n in range(3))
        recoveries = [ledger[3] for ledger in ledgers if ledger[3] is not None]
        longest = f"{max(recoveries):.1f}" if recoveries else "-"
        mark = " (FAILED)" if fault in failed else "" if ledgers else " (not tried)"
        yield f"| {fault}{mark} | {len(ledgers)} | {events} | {lost} | {duplicates} | {longest} |"
