"""The clock of approval requests, as a Celery task."""

from __future__ import annotations

from approval_mail import services
from approval_mail.approvals import desks, untold
from approval_mail.celery import app
from approval_mail.tasks import DescribedTask, wake_for_what_remains


# Without events: it comes each second, and Flower's rows would be of nothing else.
@app.task(base=DescribedTask, name="approval_mail.sweep_expired", ignore_result=True, send_events=False)
def sweep_expired() -> None:
    """Expire requests that ran out, remind of those that wait, and tell of those that nobody was told of.

    It also sees to an urgent event whose wake-up was lost: beat gathers only every NOTIFICATION_BATCH_TIMEOUT.
    """
    desks.clock().sweep(untold.tell)
    if services.store().urgent_waits():
        wake_for_what_remains()
