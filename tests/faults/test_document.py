"""docs/reliability.md and the README say what the code and the last full run say."""

from __future__ import annotations

import re
from pathlib import Path

from tests.faults.matrix import FAULTS
from tests.faults.planted import PLANTS
from tests.faults.report import BEGIN, DOCUMENT, END

README = Path(__file__).parents[2] / "README.md"


def rows(text: str) -> list[list[str]]:
    """The cells of each row of the tables in a text."""
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ") and "---" not in line]


def test_every_fault_was_tried_and_lost_nothing() -> None:
    written = DOCUMENT.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    _, *table = rows(written)
    assert [row[0] for row in table] == list(FAULTS)
    for fault, runs, events, lost, *_ in table:
        assert int(runs) > 0, fault
        assert int(events) > 0, fault
        assert int(lost) == 0, fault


def test_every_planted_mistake_is_listed_with_its_test() -> None:
    listed = rows(DOCUMENT.read_text("utf-8").partition("## The tests bite")[2].partition("\n## ")[0])
    assert listed[1:] == [[plant.name, plant.test.replace("::", ": ")] for plant in PLANTS]


def test_the_promise_is_the_same_wherever_it_stands() -> None:
    promises = [
        re.findall(
            r"^- \*\*(?:Accepted|Delivery|Duplicates|Not promised)\.\*\*[^#]*?(?=\n- \*\*|\n\n)",
            path.read_text("utf-8"),
            re.M,
        )
        for path in (README, DOCUMENT)
    ]
    assert len(promises[0]) == 4
    assert promises[0] == promises[1]
