"""The table that `make faults` ends with, and its place in docs/reliability.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
#: Around the part of the document that is written here.
BEGIN, END = "<!-- written by make faults -->\n", "<!-- end of what make faults writes -->\n"


@dataclass(frozen=True, slots=True)
class Run:
    """One judgement."""

    events: int
    lost: int
    duplicates: int
    #: Seconds from the fault, or its end, until all was quiet; None where nothing had to recover.
    recovery: float | None


def table(runs: Mapping[str, Sequence[Run]]) -> Iterator[str]:
    """Markdown: fault, runs, events, lost, duplicates, longest recovery in seconds."""
    yield "| fault | runs | events | lost | duplicates | longest recovery, s |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for fault, judged in runs.items():
        longest = max((run.recovery for run in judged if run.recovery is not None), default=None)
        cells = (
            fault,
            len(judged),
            sum(run.events for run in judged),
            sum(run.lost for run in judged),
            sum(run.duplicates for run in judged),
            "-" if longest is None else f"{longest:.1f}",
        )
        yield f"| {' | '.join(map(str, cells))} |"


def conditions(seed: int, server: str) -> str:
    """When, with what and on what the table was made, and the command that makes it again."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("celery", "kombu", "redis"))
    today = f"{datetime.now().astimezone():%Y-%m-%d}"
    return (
        f"`make faults SEED={seed}` on {today}: CPython {platform.python_version()}, {packages}, {server}, "
        f"{os.cpu_count()} cores, four tests at a time."
    )


def write(lines: Sequence[str], *, document: Path = DOCUMENT) -> None:
    """Put the lines into the document; raises ValueError where it has no place for them."""
    before, begin, rest = document.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{document} has no {BEGIN.strip()} ... {END.strip()}")
    document.write_text(f"{before}{BEGIN}\n{chr(10).join(lines)}\n\n{END}{after}", "utf-8")
