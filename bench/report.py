"""The table in Markdown, what it was measured with, and its place in docs/performance.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from bench.ratios import Row
from bench.sink.own import OwnSink
from bench.world import World

#: Where what is measured is written.
DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
_HEAD = """\
| measure | goal | ratio: median (lowest..highest) | met | figures |
| --- | --- | --- | --- | --- |
"""
_PACKAGES = ("celery", "kombu", "redis", "hiredis", "celery-batches", "jinja2", "css-inline")


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    return _HEAD + "".join(f"| {' | '.join(_cells(row))} |\n" for row in rows)


def circumstances(command: str, repeat: int, sink: str) -> str:
    """When, with what and on what machine; by asking servers of the kinds that were measured."""
    with World(sink=sink) as world:
        server = world.redis.info("server")
        sinks = dict.fromkeys((world.sink.name, OwnSink.name))
    name = server.get("server_name", "redis")
    parts = [f"python {platform.python_version()}", *(f"{package} {version(package)}" for package in _PACKAGES)]
    parts.append(f"{name} {server.get(f'{name}_version', server['redis_version'])}")
    return (
        f"`{command}` on {datetime.now().astimezone():%Y-%m-%d}: repetitions: {repeat}, {os.cpu_count()} cores "
        f"({platform.machine()}, {platform.system()}); {', '.join(parts)}; sinks: {', '.join(sinks)}.\n"
    )


def put(document: str, name: str, text: str) -> str:
    """``document`` with ``text`` between the markers of this name; raises ValueError if it has none."""
    begin, end = f"<!-- bench {name} -->", f"<!-- end of bench {name} -->"
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{DOCUMENT.name} lacks {begin} or {end}")
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"


def _cells(row: Row) -> tuple[str, ...]:
    verdict = ("met" if row.met else f"missed by {row.missed_by:.0%}") if row.goal else ""
    figures = "; ".join(filter(None, (row.figures, row.note)))
    return row.measure, row.goal or "stated", f"{row.ratio} {row.unit}", verdict, figures
