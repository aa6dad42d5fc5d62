"""One request at a time in Redis: read, ended, announced; what the desk and the clock share."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

from approval_mail.approvals import records
from approval_mail.approvals.approval_store import ApprovalStore
from approval_mail.approvals.errors import ApprovalsUnavailable, UnknownApproval
from approval_mail.approvals.rows import Ending, Kept
from approval_mail.approvals.values import Approval, Status
from approval_mail.errors import InvalidRecord
from approval_mail.events import ApprovalEvent
from approval_mail.settings import Settings
from approval_mail.store import StoreError, WakeUp

logger = logging.getLogger(__name__)


class Book:
    """The requests of one installation, over one Redis client."""

    def __init__(
        self,
        store: ApprovalStore,
        settings: Settings,
        wake: Callable[[WakeUp], object],
        *,
        patience: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """``wake`` sends the Celery message that starts gather; ``patience`` bounds what is done within it."""
        self.store = store
        self.settings = settings
        self._wake = wake
        self._patience = patience

    @contextlib.contextmanager
    def steps(self) -> Iterator[None]:
        """Do steps over the network in here; raises ApprovalsUnavailable while Redis cannot be used."""
        try:
            with self._patience():
                yield
        except (StoreError, OSError) as error:
            raise ApprovalsUnavailable(
                f"Redis cannot be used ({error}): a change may or may not have been made; check REDIS_URL and "
                "the server, then look again"
            ) from error

    def current(self, request_id: str) -> Kept:
        """The request, put on record as expired first if its time is over; raises UnknownApproval."""
        found = self.store.read([records.request_id(request_id)])
        if not found:
            raise UnknownApproval.of(request_id)
        return self.expire(found[0]) if found[0].is_over else found[0]

    def expire(self, kept: Kept) -> Kept:
        """Put on record that a request has run out, unless it was extended or someone else did; answers what it is."""
        try:
            event = records.outcome(kept, Status.EXPIRED, "", "")
        except InvalidRecord as error:
            logger.error("Approval %s expires without a mail: %s", kept.request_id[:8], error)
            event = None
        self.end(kept, event, Ending(Status.EXPIRED, secrets.token_hex(8)))
        return next(iter(self.store.read([kept.request_id])), kept)

    def end(self, kept: Kept, event: ApprovalEvent | None, ending: Ending) -> bool:
        """End a pending request and announce it; False if it is not as ``kept`` shows it any more."""
        told = event if self.settings.enabled else None
        answer = self.store.finish(kept, told, ending)
        if answer.word != "done":
            return False
        logger.info("Approval %s %s", kept.request_id[:8], ending.status)
        self.announce(told, answer.wake_up)
        return True

    def reminder(
        self, kept: Kept, request: ApprovalEvent, fraction: str, *, now: datetime | None = None
    ) -> ApprovalEvent:
        """The event that so much of a pending request's window is over; the last one escalates."""
        event = records.reminder(request, fraction, now=now)
        last = fraction == records.fractions(kept)[-1]
        return replace(event, also_to=self.settings.approval_escalate_to) if last else event

    def announce(self, event: ApprovalEvent | None, wake_up: WakeUp | None) -> None:
        """Say that ``event`` was recorded, and wake gather if the script asked for it."""
        if event is not None and self.settings.enabled:
            logger.info("Event enqueued: %s", event)
        if wake_up:
            self._wake(wake_up)

    def seen(self, kept: Kept) -> Approval | None:
        """The request as it is, expired if its time is over; None, with a log line, if its record is damaged."""
        try:
            return self.approval(self.expire(kept) if kept.is_over else kept)
        except UnknownApproval as error:
            logger.error("%s", error)
            return None

    @staticmethod
    def approval(kept: Kept) -> Approval:
        """What callers see of it; raises UnknownApproval if its record is damaged."""
        try:
            return records.approval(kept)
        except InvalidRecord as error:
            raise UnknownApproval(f"approval {kept.request_id} cannot be read: {error}") from error
