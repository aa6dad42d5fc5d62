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

from tests.faults import report
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
    ended = yield
    if ended.when == "call" and not ended.passed:
        item.stash[FAILED] = True
    return ended


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table: one row per fault, kept in the document if every fault was tried and nothing failed."""
    if not config.getoption("--faults"):
        return
    runs: dict[str, list[report.Run]] = {fault: [] for fault in FAULTS}
    servers: set[str] = set()
    failed = {"failed", "error"} & set(terminalreporter.stats)
    for outcome in ("passed", "failed"):
        for ended in terminalreporter.stats.get(outcome, ()):
            told = dict(ended.user_properties)
            if ended.when == "call" and "fault" in told:
                runs[told["fault"]] += [report.Run(*row) for name, row in ended.user_properties if name == "judgement"]
                servers |= {value for name, value in ended.user_properties if name == "server"}
    seed = config.getoption("--seed")
    lines = [report.conditions(seed, ", ".join(sorted(servers))), "", *report.table(runs)]
    terminalreporter.section("faults")
    for line in lines:
        terminalreporter.write_line(line)
    missing = [fault for fault, judged in runs.items() if not judged]
    if missing or failed:
        terminalreporter.write_line(f"{report.DOCUMENT.name} is left as it is; not tried: {', '.join(missing) or '-'}")
    else:
        report.write(lines)
