"""An application that tells events for hours at a steady rate: a process of its own, which is measured as well.

``python -m tests.soak.host SPEC`` with a JSON object: ``receipts`` (file), ``prefix`` and ``per_second``. A line of the
file is ``<event_id> <receipt>``. SIGTERM ends it once each request it began has its outcome and its spool is empty.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any

from approval_mail import hooks, services
from bench.pace import ticks
from tests.faults.accounting import SENDER_DOMAIN

#: Seconds from a request to what becomes of it: so long that its own mail has usually gone.
_THINKING = 3.0
#: Whom the server refuses for good, and whom it tells to come back later, for ever.
GONE, LATER = f"gone@{SENDER_DOMAIN}", f"later@{SENDER_DOMAIN}"
#: People who are named again and again.
_TEAM = [f"person{number}@{SENDER_DOMAIN}" for number in range(12)]
_OUTCOMES = ("approval_approved", "approval_rejected", "approval_timeout")

#: What is told now, and with how many seconds' wait later.
_Step = tuple[float, str, dict[str, Any]]


def story(number: int) -> Iterator[_Step]:
    """One request's life; of twenty, some are reminded of, told twice, refused, moot, or for several people."""
    now = datetime.now(timezone.utc)
    asked = {
        "requested_at": now.isoformat(),
        "expires_at": (now + timedelta(minutes=5)).isoformat(),
        "arguments": {"path": "services/payments", "message": f"change {number} of the day", "lines": list(range(20))},
    }
    outcome = _OUTCOMES[number % len(_OUTCOMES)]
    answered = {"responder_id": "lee", "reason": "Looks right to me."}
    kind = number % 20
    if kind == 0:
        yield 0, "approval_requested", asked | {"email_to": GONE}
    elif kind in (1, 2):
        # Tried in vain at once, and pointless by the second try.
        yield 0, "approval_requested", asked | {"email_to": LATER}
        yield 1, outcome, answered
        return
    elif kind in (3, 4):
        people = [_TEAM[(number + step) % len(_TEAM)] for step in (0, 1, 5)]
        yield 0, "approval_requested", asked | {"email_to": people}
    elif kind == 5:
        yield 0, "approval_requested", asked
        yield 0, "approval_requested", asked
    elif kind in (6, 7):
        yield 0, "approval_requested", asked
        yield _THINKING / 2, "approval_reminder", asked | {"fraction": "0.5"}
    else:
        yield 0, "approval_requested", asked
    yield _THINKING, outcome, answered


def main(spec: dict[str, Any]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
    numbers = count()
    #: Told later, by when; each story's own steps are in order.
    waiting: deque[tuple[float, str, str, dict[str, Any]]] = deque()
    with open(spec["receipts"], "a") as file:

        def tell(request_id: str, event_type: str, fields: dict[str, Any]) -> None:
            data = {"request_id": request_id, "user_id": "kim", "tool_name": "git_commit", **fields}
            receipt = hooks.emit(event_type, data)
            suffix = f":{fields['fraction']}" if "fraction" in fields else ""
            file.write(f"{request_id}:{event_type}{suffix} {receipt.value}\n")
            file.flush()

        for _ in ticks(spec["per_second"], sys.maxsize):
            if ending:
                break
            now = time.monotonic()
            if not waiting or waiting[0][0] > now:
                number = next(numbers)
                steps = [(now + wait, f"{spec['prefix']}{number}", *step) for wait, *step in story(number)]
                waiting = deque(sorted([*waiting, *steps], key=lambda step: step[0]))
            tell(*waiting.popleft()[1:])
        while waiting:
            tell(*waiting.popleft()[1:])
    while services.spool().paths():
        time.sleep(0.1)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
