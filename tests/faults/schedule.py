"""A shorter schedule, for tests that cannot wait: it exists only in a worker with ``-I tests.faults.schedule``.

SCHEDULE is a JSON object of constants of approval_mail.timing, by name. Those of Celery's autoretry are not among
them, for the task has read them by then: the waits of round one are 2, 4 and 8 s in every test.
"""

from __future__ import annotations

import json
import os

from approval_mail import timing
from approval_mail.mailer import transaction

#: What is read anew at each use.
_NAMES = {"QUICK_RETRIES", "ROUND_BACKOFF", "ROUND_BACKOFF_MAX", "HOLD_BACKOFF", "HOLD_BACKOFF_MAX"}

for name, value in json.loads(os.environ.get("SCHEDULE", "{}")).items():
    if name == "FINAL_DOT_TIMEOUT":
        transaction.FINAL_DOT_TIMEOUT = value
    elif name in _NAMES:
        setattr(timing, name, value)
    else:
        raise ValueError(f"SCHEDULE: {name} cannot be set")
