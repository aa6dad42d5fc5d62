"""The state of every event and mail, in Redis, changed by atomic scripts alone."""

from approval_mail.store.clients import StoreError, hook_client, operator_client, url_fault, worker_client
from approval_mail.store.event_store import MAX_OPEN_TRIES, EventStore
from approval_mail.store.history import MAX_TRACE, History
from approval_mail.store.values import (
    OUTCOMES,
    Addressed,
    Change,
    Claim,
    Counts,
    DeadMail,
    Failure,
    Recorded,
    Survey,
    Taken,
    Verdict,
    WakeUp,
    Work,
)

__all__ = [
    "MAX_OPEN_TRIES",
    "MAX_TRACE",
    "OUTCOMES",
    "Addressed",
    "Change",
    "Claim",
    "Counts",
    "DeadMail",
    "EventStore",
    "Failure",
    "History",
    "Recorded",
    "StoreError",
    "Survey",
    "Taken",
    "Verdict",
    "WakeUp",
    "Work",
    "hook_client",
    "operator_client",
    "url_fault",
    "worker_client",
]
