"""Turns settings into desks, the clock and the watcher, once per process; who waits decides for how long."""

from __future__ import annotations

import functools
from typing import Any

from approval_mail import services, timing
from approval_mail.approvals.approval_store import ApprovalStore
from approval_mail.approvals.book import Book
from approval_mail.approvals.clock import Clock
from approval_mail.approvals.desk import Desk
from approval_mail.approvals.rows import Pace
from approval_mail.approvals.watcher import Watcher
from approval_mail.bounded import within
from approval_mail.celery import wake_gather
from approval_mail.store import hook_client, operator_client, worker_client


@services.per_process
def for_hosts() -> Desk:
    """A desk that answers or fails within half a second, as hooks do."""
    client = hook_client(services.settings().redis_url)
    return Desk(_book(client, patience=functools.partial(within, timing.HOST_BUDGET)))


@services.per_process
def for_operators() -> Desk:
    """A desk for whom a person waits: it says soon what is wrong."""
    return Desk(_book(operator_client(services.settings().redis_url)))


@services.per_process
def clock() -> Clock:
    """The clock as workers run it: it outlasts a restart of Redis."""
    return Clock(_book(worker_client(services.settings().redis_url)))


@services.per_process
def watcher() -> Watcher:
    """Waits for requests, on connections of its own."""
    book = _book(operator_client(services.settings().redis_url))
    return Watcher(Desk(book), book.store.listen)


def _store(client: Any) -> ApprovalStore:
    found = services.settings()
    return ApprovalStore(
        client,
        pace=Pace(found.batch_size, found.batch_timeout, found.urgent_timeout),
        history=found.history_days * 86400,
    )


def _book(client: Any, **more: Any) -> Book:
    return Book(_store(client), services.settings(), wake_gather, **more)
