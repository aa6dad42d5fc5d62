"""The units of ops/systemd, read as systemd reads them."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from approval_mail import timing

UNITS = sorted((Path(__file__).parents[2] / "ops" / "systemd").glob("*.service"))
BIN = Path(sys.executable).parent


def lines_of(unit: Path) -> dict[str, list[str]]:
    """Every ``Name=value``; a name may come several times."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_there_is_a_unit_for_each_program_that_stays() -> None:
    assert [unit.stem for unit in UNITS] == ["approval-mail-api", "approval-mail-beat", "approval-mail-worker"]


def test_a_stop_of_the_worker_cuts_no_batch_off() -> None:
    worker = lines_of(UNITS[2])
    assert worker["KillMode"] == ["mixed"], "its pool must not hear SIGTERM"
    assert int(worker["TimeoutStopSec"][0]) > timing.HARD_TIME_LIMIT


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_a_program_that_is_installed_with_options_that_it_knows(unit: Path) -> None:
    [command] = lines_of(unit)["ExecStart"]
    program, *options = shlex.split(command)
    asked = [BIN / Path(program).name, *options, "--help"]
    done = subprocess.run(asked, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_a_unit(unit: Path, tmp_path: Path) -> None:
    here = tmp_path / unit.name
    here.write_text(unit.read_text().replace("/opt/approval_mail/bin", str(BIN)).replace("User=approval_mail\n", ""))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", here], check=False, capture_output=True, text=True, timeout=60
    )
    about = [line for line in done.stderr.splitlines() if unit.name in line]
    assert about == []
