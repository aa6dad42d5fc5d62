"""``python -m tests.soak``: hours of use in one, its table, and its place in docs/reliability.md if nothing failed."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.soak import report
from tests.soak.soak import run

#: Settings of whoever runs this must not reach what is measured.
_OURS = ("NOTIFICATION_", "SMTP_", "EMAIL_", "REDIS_", "CELERY_", "APPROVAL_")


def main() -> int:
    """0 if nothing was lost and everything is flat, else 1."""
    given = _arguments()
    for name in [name for name in os.environ if name.startswith(_OURS) and name != "APPROVAL_MAIL_TEST_REDIS"]:
        del os.environ[name]
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"samples: {folder}/samples.csv", file=sys.stderr)
    outcome, problems = run(
        folder,
        seconds=given.seconds,
        per_second=given.rate,
        until_forgotten=given.until_forgotten or given.write,
        plant=given.plant,
        tell=lambda fact: print(fact, file=sys.stderr, flush=True),
    )
    rows = list(report.lines(outcome))
    print(*rows, "", sep="\n")
    if problems:
        print("Not as it must be:", *problems, f"The logs are in {folder}.", sep="\n")
        return 1
    if given.write:
        report.write(rows)
    if not given.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="length of the load; 3600")
    parser.add_argument("--rate", type=float, default=50, help="events a second; 50")
    parser.add_argument(
        "--until-forgotten", action="store_true", help="wait for the history to go, a quarter of an hour"
    )
    parser.add_argument("--keep", action="store_true", help="keep samples and logs also if all is well")
    parser.add_argument("--write", action="store_true", help="also into docs/reliability.md; waits until forgotten")
    parser.add_argument("--plant", default="", help="a leak: memory, connection or history")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
