"""An application that calls hooks at a steady rate."""

from __future__ import annotations

import time
from typing import Any

from approval_mail import hooks
from bench.events import request
from bench.pace import ticks


def calls(*, kind: str, first: int, count: int, rate: float) -> dict[str, Any]:
    """Call the hook of this name ``count`` times at ``rate`` a second, for requests numbered from ``first`` on.

    Answers ``began`` (request id to time.monotonic() at the call), ``taken`` (seconds of each call) and
    ``not_accepted`` (how many got another receipt).
    """
    hook = getattr(hooks, kind)
    moments: dict[str, float] = {}
    taken = []
    not_accepted = 0
    for number in ticks(rate, count):
        fields = request(first + number)
        moments[fields["request_id"]] = began = time.monotonic()
        receipt = hook(**fields)
        taken.append(time.monotonic() - began)
        not_accepted += receipt != hooks.Receipt.ACCEPTED
    return {"began": moments, "taken": taken, "not_accepted": not_accepted}
