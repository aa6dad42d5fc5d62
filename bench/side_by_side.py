"""An application that calls a hook and what it is measured against in turn, so that all meet the same machine."""

from __future__ import annotations

import itertools
import json
import os
import time
from typing import Any

from approval_mail import hooks
from approval_mail.celery import app
from approval_mail.store import hook_client
from bench.events import request
from bench.pace import ticks

#: Rounds at the start that do not count: connections are made and scripts loaded in them.
_WARM_UP = 20


def durations(*, count: int, rate: float) -> dict[str, list[float]]:
    """Seconds of ``count`` calls of each kind, each kind at ``rate`` a second, in an order that changes each round.

    ``hook`` is approval_requested; ``write`` a SET of its record's size through the client that hooks use;
    ``publish`` such a SET and then an empty task, through the connection that hooks wake gather by.
    """
    client = hook_client(os.environ["REDIS_URL"])

    def write(fields: dict[str, Any], record: str) -> None:
        client.set(f"bench:{fields['request_id']}", record)

    def publish(fields: dict[str, Any], record: str) -> None:
        write(fields, record)
        app.send_task("celery.accumulate", ignore_result=True, retry=False)  # Celery's own, which does nothing.

    def hook(fields: dict[str, Any], _record: str) -> None:
        hooks.approval_requested(**fields)

    orders = list(itertools.permutations((hook, write, publish)))
    taken: dict[str, list[float]] = {call.__name__: [] for call in orders[0]}
    for number in ticks(3 * rate, 3 * (count + _WARM_UP)):
        of_round, place = divmod(number, 3)
        call = orders[of_round % len(orders)][place]
        fields = request(number)
        # What the hook records holds two fields of its own.
        record = json.dumps({"type": "approval_requested", "occurred_at": fields["requested_at"], **fields})
        began = time.perf_counter()
        call(fields, record)
        if of_round >= _WARM_UP:
            taken[call.__name__].append(time.perf_counter() - began)
    return taken
