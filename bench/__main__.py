"""``python -m bench``: measures, prints the table, and writes it into docs/performance.md if asked."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from collections.abc import Callable

from bench import report
from bench.sink import postfix

#: Modules with ``rows(repeat, quick, tell)``: together they are the table of goals, in this order.
MEASURES = {
    "bursts": "bench.measures.bursts",
    "slow": "bench.measures.slow",
    "hook_cost": "bench.measures.hook_cost",
    "latency": "bench.measures.latency",
    "backlog": "bench.measures.backlog",
    "scaling": "bench.measures.scaling",
    "memory": "bench.measures.memory",
    "imports": "bench.measures.imports",
}
#: Those of them whose ``rows`` takes the kind of the plain sink besides.
TO_EITHER_SINK = ("bursts",)
#: Modules with ``table(quick, tell)``, Markdown that stands between markers of its own; they run if named alone.
TABLES = {"tuning": "bench.measures.tuning"}


def main() -> int:
    """0, also where a goal is missed; 1 if something could not be measured, and then nothing is written."""
    given = _arguments()
    command = " ".join(("python -m bench", *sys.argv[1:]))
    if given.only in TABLES:
        head = report.circumstances(command, 1, "plain")
        text = importlib.import_module(TABLES[given.only]).table(given.quick, _tell_of(given.only))
        _finish(given.only, f"{head}\n{text}", write=given.write)
        return 0
    sink = "postfix" if postfix.installed() and not given.own_sink else "plain"
    head = report.circumstances(command, given.repeat, sink)
    rows = []
    failed = False
    for name in given.only.split(",") if given.only else MEASURES:
        either = {"sink": sink} if name in TO_EITHER_SINK else {}
        try:
            rows += importlib.import_module(MEASURES[name]).rows(given.repeat, given.quick, _tell_of(name), **either)
        except Exception:  # What was measured so far took long: it is shown.
            traceback.print_exc()
            failed = True
    _finish("goals", f"{head}\n{report.table(rows)}", write=given.write and not failed)
    return int(failed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small counts, to see that all of it works")
    parser.add_argument("--only", default="", help=f"some of {','.join(MEASURES)}; or one of {','.join(TABLES)}")
    parser.add_argument("--repeat", type=int, default=0, help="repetitions, each of every peer in turn; 3, quick: 1")
    parser.add_argument(
        "--own-sink", action="store_true", help="none of Postfix's smtp-sink, even where it is installed"
    )
    parser.add_argument("--write", action="store_true", help="also into docs/performance.md")
    given = parser.parse_args()
    given.repeat = given.repeat or (1 if given.quick else 3)
    unknown = set(filter(None, given.only.split(","))) - set(MEASURES)
    if unknown and given.only not in TABLES:
        parser.error(f"--only: {', '.join(sorted(unknown))} is not there")
    if given.write and given.only and given.only not in TABLES:
        parser.error("--write needs all of the table: leave out --only")
    return given


def _tell_of(name: str) -> Callable[[str], None]:
    began = time.monotonic()

    def tell(fact: str) -> None:
        print(f"{name} {time.monotonic() - began:.0f} s: {fact}", file=sys.stderr, flush=True)

    return tell


def _finish(name: str, text: str, *, write: bool) -> None:
    print(text)
    if write:
        report.DOCUMENT.write_text(report.put(report.DOCUMENT.read_text("utf-8"), name, text), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
