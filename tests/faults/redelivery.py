"""A broker that takes a worker for dead soon, and looks often; for a worker with ``-I tests.faults.redelivery``.

VISIBILITY_TIMEOUT, in seconds, is set after the worker has checked the order of its times, which would refuse it.
"""

from __future__ import annotations

import os

from approval_mail.celery import app

app.conf.broker_transport_options.update(
    visibility_timeout=float(os.environ["VISIBILITY_TIMEOUT"]),
    unacked_restore_interval=0.2,
    unacked_restore_throttle=1,
)
