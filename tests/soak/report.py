"""The table that `make soak` ends with, and its place in docs/reliability.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from tests.faults.report import DOCUMENT
from tests.soak.flatness import Verdict, worst
from tests.soak.soak import Outcome

#: Around the part of the document that is written here.
BEGIN, END = "<!-- written by make soak -->\n", "<!-- end of what make soak writes -->\n"


def lines(outcome: Outcome) -> Iterator[str]:
    """Markdown: the circumstances, what became of the events, the table of figures, what was left in Redis."""
    yield conditions(outcome)
    yield ""
    ledger, receipts = outcome.ledger, outcome.receipts
    told = ", ".join(f"{number:,} {receipt}" for receipt, number in sorted(receipts.items()))
    yield (
        f"Hooks answered {told}. Of {ledger.events:,} events {ledger.sent:,} ended as sent, {ledger.dead:,} as dead, "
        f"{ledger.suppressed:,} as suppressed, {len(ledger.lost)} were lost; {ledger.duplicates} mails came twice."
    )
    yield ""
    yield f"Meanwhile: {', '.join(f'{what} ({number}x)' for what, number in outcome.happened.items())}."
    yield ""
    yield from table(outcome.verdicts)
    yield ""
    yield from left(outcome)


def table(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """One row per figure: that of the longest life, or of one that was not flat."""
    yield "| figure | watched, s | first window | last window | may grow by | flat |"
    yield "| --- | ---: | ---: | ---: | ---: | --- |"
    for verdict in worst(verdicts):
        unit = f" {verdict.bound.unit}" if verdict.bound.unit else ""
        if not verdict.is_judged:
            yield f"| {verdict.bound.title} | {verdict.seconds:.0f} | - | - | - | too short to tell |"
            continue
        early, late, allowed = (
            f"{number:.{1 if unit else 0}f}{unit}"
            for number in (verdict.early or 0, verdict.late or 0, verdict.allowed)
        )
        answer = "yes" if verdict.is_flat else "**no**"
        yield f"| {verdict.bound.title} | {verdict.seconds:.0f} | {early} | {late} | {allowed} | {answer} |"


def left(outcome: Outcome) -> Iterator[str]:
    """What Redis still held at the end."""
    stay = ", ".join(f"`{_shown(key)}`" for key in outcome.stay)
    when = f"{outcome.waited:.0f} s after the last mail" if outcome.waited else "After the last mail"
    going = ", ".join(f"{name} {number:,}" for name, number in sorted(outcome.going.items())) or "nothing"
    yield f"{when} Redis held {len(outcome.stay)} keys that stay ({stay}); with a time to live: {going}."


def conditions(outcome: Outcome) -> str:
    """When, with what and on what it ran, and the command that runs it again."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("celery", "kombu", "redis"))
    return (
        f"`make soak SECONDS={outcome.seconds:.0f}` on {datetime.now().astimezone():%Y-%m-%d}, "
        f"{outcome.per_second:g} events/s: CPython {platform.python_version()}, {packages}, {outcome.server}, "
        f"{os.cpu_count()} cores ({platform.machine()}, {platform.system()})."
    )


def write(rows: Sequence[str], *, document: Path = DOCUMENT) -> None:
    """Put the lines into the document; raises ValueError where it has no place for them."""
    before, begin, rest = document.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{document} has no {BEGIN.strip()} ... {END.strip()}")
    document.write_text(f"{before}{BEGIN}\n{chr(10).join(rows)}\n\n{END}{after}", "utf-8")


def _shown(key: str) -> str:
    return key.replace("\x06\x16", r"\x06\x16")
