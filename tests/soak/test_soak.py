"""A minute of what `make soak` does for an hour."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.soak import run

#: Seconds under load, at least, and events a second: other tests run beside it.
_LENGTH, _RATE = 50, 20


@pytest.mark.timeout(900)
def test_nothing_is_lost_and_nothing_grows_while_everything_is_restarted(tmp_path: Path) -> None:
    outcome, problems = run(tmp_path, seconds=_LENGTH, per_second=_RATE, tell=print)
    assert not problems, "\n".join(problems)
    assert outcome.happened.total() >= 7
    assert outcome.ledger.events > _LENGTH * _RATE / 2
    judged = {verdict.bound.subject for verdict in outcome.verdicts if verdict.is_judged}
    assert {"worker, main", "worker, pool", "host", "api", "mail server", "spool"} <= judged
