"""The state of every event and mail, in Redis, changed by atomic scripts alone."""

from approval_mail.store.clients import StoreError, hook_client, operator_client, url_fault, worker_client
from approval_mail.store.event_store import MAX_OPEN_TRIES, EventStore
from approval_mail.store.history import MAX_TRACE, History
from approval_mail.store.values import Change, Claim, Counts, DeadMail, Recorded, Survey, Verdict, WakeUp, Work

__all__ = [
    "MAX_OPEN_TRIES",
    "MAX_TRACE",
    "Change",
    "Claim",
    "Counts",
    "DeadMail",
    "EventStore",
    "History",
    "Recorded",
    "StoreError",
    "Survey",
    "Verdict",
    "WakeUp",
    "Work",
    "hook_client",
    "operator_client",
    "url_fault",
    "worker_client",
]
