"""The tests bite: each of some mistakes, planted in a copy of the code, fails the test that is named for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.planted import PLANTS, Plant

ROOT = Path(__file__).parents[2]
#: What a copy needs to run tests from.
PARTS = ("approval_mail", "celeryconfig.py", "setup.cfg", "templates", "tests")

each_plant = pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    copy = tmp_path / "checkout"
    copy.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, copy / part)
    return copy


def run(checkout: Path, test: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", test]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, timeout=300)


@each_plant
def test_each_mistake_can_be_planted_in_the_code_as_it_is(plant: Plant, checkout: Path) -> None:
    plant.plant(checkout)
    path, _, name = plant.test.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text("utf-8")


@pytest.mark.long
@each_plant
def test_a_planted_mistake_fails_its_test(plant: Plant, checkout: Path) -> None:
    sound = run(checkout, plant.test)
    assert sound.returncode == pytest.ExitCode.OK, sound.stdout
    plant.plant(checkout)
    planted = run(checkout, plant.test)
    assert planted.returncode == pytest.ExitCode.TESTS_FAILED, planted.stdout
    assert f"FAILED {plant.test}" in planted.stdout
