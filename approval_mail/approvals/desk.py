"""Everything that can be done with approval requests, over one Redis client."""

from __future__ import annotations

import contextlib
import logging
import secrets
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from approval_mail.approvals import records
from approval_mail.approvals.approval_store import ApprovalStore, Ending, Kept
from approval_mail.approvals.errors import ApprovalExists, ApprovalsUnavailable, NotPending, UnknownApproval
from approval_mail.approvals.values import Approval, Page, Stats, Status
from approval_mail.errors import InvalidRecord
from approval_mail.events import ApprovalEvent
from approval_mail.redaction import redact
from approval_mail.settings import Settings
from approval_mail.store import StoreError, WakeUp
from approval_mail.store.history import moment

logger = logging.getLogger(__name__)

#: Rounds of one sweep, so that it ends however much is due.
_ROUNDS = 25


class Desk:
    """Asks, decides and reads; fails closed: what raises has given no permission.

    Every method raises ApprovalsUnavailable while Redis cannot be used, and InvalidEvent naming a field that is
    malformed. What changes a request raises UnknownApproval, or NotPending once the request has ended.
    """

    def __init__(
        self,
        store: ApprovalStore,
        settings: Settings,
        wake: Callable[[WakeUp], object],
        *,
        patience: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """``wake`` sends the Celery message that starts gather; ``patience`` bounds what is done within it."""
        self._store = store
        self._settings = settings
        self._wake = wake
        self._patience = patience

    def ask(
        self,
        *,
        user_id: str,
        tool_name: str,
        arguments: Any = None,
        timeout: float | None = None,
        request_id: str | None = None,
        email_to: Any = None,
        **extra: Any,
    ) -> Approval:
        """Ask for permission, until ``timeout`` seconds from now (APPROVAL_TIMEOUT_SECONDS if None).

        ``arguments`` and ``extra`` are JSON values; values under keys of APPROVAL_REDACT_KEYS are replaced before they
        leave this process. ``request_id`` is made if None. Raises ApprovalExists for one that was used.
        """
        seconds = records.seconds("timeout", self._settings.approval_timeout if timeout is None else timeout)
        given = {**redact(extra, self._settings.approval_redact_keys), "arguments": arguments}
        given["arguments"] = redact(arguments, self._settings.approval_redact_keys)
        nonce = secrets.token_hex(8)
        with self._steps():
            asked = self._store.now()
            expires = asked + round(seconds * 1000)
            event = records.asked(
                {
                    **given,
                    "request_id": records.request_id(str(uuid.uuid4()) if request_id is None else request_id),
                    "user_id": user_id,
                    "tool_name": tool_name,
                    "email_to": email_to,
                },
                asked=moment(asked),
                expires=moment(expires),
            )
            answer = self._store.ask(
                event,
                nonce=nonce,
                asked=asked,
                expires=expires,
                fractions=self._settings.approval_reminders,
                mailed=self._settings.enabled,
            )
            if answer.word == "exists":
                raise ApprovalExists(f"request {event.request_id} was made before; an id is used once: leave it out")
            self._announce(event, answer.wake_up)
            if not self._settings.enabled:
                logger.warning("No mail goes out about %s: NOTIFICATION_ENABLED is off", event)
        return records.approval(event, {"status": "pending", "asked": str(asked), "expires": str(expires)})

    def read(self, request_id: str) -> Approval:
        """The request as it is, put on record as expired first if its deadline has passed; raises UnknownApproval."""
        with self._steps():
            return self._approval(self._current(request_id))

    def look(self, request_ids: Sequence[str]) -> dict[str, Approval]:
        """Read several at once; those not on record are left out."""
        with self._steps():
            found = [self._seen(kept) for kept in self._store.read(request_ids)]
            return {approval.request_id: approval for approval in found if approval is not None}

    def approve(self, request_id: str, *, responder_id: str, reason: str = "") -> Approval:
        """Give permission; ``responder_id`` says who does."""
        return self._finish(request_id, Status.APPROVED, records.responder(responder_id), records.reason(reason))

    def reject(self, request_id: str, *, responder_id: str, reason: str = "") -> Approval:
        """Refuse permission; ``responder_id`` says who does."""
        return self._finish(request_id, Status.REJECTED, records.responder(responder_id), records.reason(reason))

    def cancel(self, request_id: str, *, responder_id: str = "", reason: str = "") -> Approval:
        """Withdraw the request: nobody need answer any more. No mail says so."""
        who = records.responder(responder_id, required=False)
        return self._finish(request_id, Status.CANCELLED, who, records.reason(reason))

    def extend(self, request_id: str, seconds: float) -> Approval:
        """Put a pending request's deadline off by ``seconds``, with its reminders and all else that hangs on it."""
        longer = round(records.seconds("seconds", seconds) * 1000)
        nonce = secrets.token_hex(8)
        with self._steps():
            while True:
                kept = self._pending(request_id)
                expires = kept.expires + longer
                records.seconds("seconds", (expires - kept.asked) / 1000)
                event = replace(records.event(kept), expires_at=moment(expires))
                reminders = [records.reminder(event, fraction) for fraction in records.fractions(kept)]
                word = self._store.extend(kept, expires, [event, *reminders], nonce=nonce)
                if word == "extended":
                    logger.info("Approval %s extended by %g s", kept.request_id[:8], longer / 1000)
                    return self._approval(self._current(request_id))

    def find(self, text: str) -> list[str]:
        """The ids of requests that are ``text``, or else that begin with it, sorted."""
        with self._steps():
            return self._store.find(text)

    def page(
        self,
        *,
        status: Status | str | None = None,
        user_id: str | None = None,
        tool_name: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Up to ``limit`` requests, newest first; ``cursor`` is that of the page before.

        Raises ValueError for a bad status or cursor.
        """
        wanted = Status(status) if status else None
        found: list[Approval] = []
        with self._steps():
            for kept in self._store.listing(wanted, records.read_cursor(cursor) if cursor else None):
                approval = self._seen(kept)
                if approval is None:
                    continue
                if (
                    (wanted is None or approval.status is wanted)
                    and (not user_id or approval.user_id == user_id)
                    and (not tool_name or approval.tool_name == tool_name)
                ):
                    if len(found) == limit:
                        return Page(tuple(found), records.cursor(found[-1]))
                    found.append(approval)
        return Page(tuple(found), None)

    def stats(self) -> Stats:
        """How many requests there are of each status."""
        with self._steps():
            return self._store.stats()

    def sweep(self) -> tuple[Approval, ...]:
        """Do what the clock asks for: expire and remind; answers requests newly found that nobody was told of.

        Any number of sweeps may run at once: each thing is done once.
        """
        untold: list[Approval] = []
        with self._steps():
            for _ in range(_ROUNDS):
                due = self._store.due()
                for kept in self._store.read(due.expired):
                    self._expire(kept)
                self._remind_all(due.reminders)
                seen = map(self._seen, self._store.read(due.untold))
                untold += [approval for approval in seen if approval is not None]
                if not due.more:
                    break
        for approval in untold:
            logger.error(
                "Nobody was told of approval %s: no mail about it was accepted in half of its time; "
                "see approval-mail status, approval-mail trace %s",
                approval.request_id[:8],
                approval.request_id,
            )
        return tuple(untold)

    @contextlib.contextmanager
    def _steps(self) -> Iterator[None]:
        try:
            with self._patience():
                yield
        except (StoreError, OSError) as error:
            raise ApprovalsUnavailable(
                f"Redis cannot be used ({error}): whether anything was changed is not known; check REDIS_URL, ask again"
            ) from error

    def _current(self, request_id: str) -> Kept:
        found = self._store.read([request_id])
        if not found:
            raise UnknownApproval.of(request_id)
        return self._expire(found[0]) if found[0].is_over else found[0]

    def _pending(self, request_id: str) -> Kept:
        kept = self._current(request_id)
        if kept.status is not Status.PENDING:
            approval = self._approval(kept)
            raise NotPending(records.ending(approval, self._settings.timezone), approval)
        return kept

    def _finish(self, request_id: str, status: Status, responder: str, reason: str) -> Approval:
        ending = Ending(status, secrets.token_hex(8), responder, reason)
        with self._steps():
            while True:
                kept = self._pending(request_id)
                if self._end(kept, records.outcome(kept, status, responder, reason), ending):
                    return self._approval(self._current(request_id))

    def _expire(self, kept: Kept) -> Kept:
        """Put on record that a request has run out, unless it was extended or someone else did; answers what it is."""
        try:
            event = records.outcome(kept, Status.EXPIRED, "", "")
        except InvalidRecord as error:
            logger.error("Approval %s expires without a mail: %s", kept.request_id[:8], error)
            event = None
        self._end(kept, event, Ending(Status.EXPIRED, secrets.token_hex(8)))
        return next(iter(self._store.read([kept.request_id])), kept)

    def _end(self, kept: Kept, event: ApprovalEvent | None, ending: Ending) -> bool:
        told = event if self._settings.enabled else None
        answer = self._store.finish(kept, told, ending)
        if answer.word != "done":
            return False
        logger.info("Approval %s %s", kept.request_id[:8], ending.status)
        self._announce(told, answer.wake_up)
        return True

    def _remind_all(self, reminders: Sequence[tuple[str, str]]) -> None:
        latest: dict[str, str] = {}
        for request_id, fraction in reminders:
            latest[request_id] = max(fraction, latest.get(request_id, "0"), key=float)
        for kept in self._store.read(list(latest)):
            with contextlib.suppress(InvalidRecord):  # Its expiry tells.
                self._remind(kept, latest[kept.request_id])

    def _remind(self, kept: Kept, fraction: str) -> None:
        event = records.reminder(records.event(kept), fraction, now=moment(kept.now))
        if fraction == records.fractions(kept)[-1] and self._settings.approval_escalate_to:
            usual = event.email_to or self._settings.email_to
            event = replace(event, email_to=tuple(dict.fromkeys((*usual, *self._settings.approval_escalate_to))))
        answer = self._store.remind(kept, event, nonce=secrets.token_hex(8))
        if answer.word == "reminded":
            self._announce(event, answer.wake_up)

    def _announce(self, event: ApprovalEvent | None, wake_up: WakeUp | None) -> None:
        if event is not None and self._settings.enabled:
            logger.info("Event enqueued: %s", event)
        if wake_up:
            self._wake(wake_up)

    def _seen(self, kept: Kept) -> Approval | None:
        """The request as it is, expired if its time is over; None, with a log line, if its record is damaged."""
        try:
            return self._approval(self._expire(kept) if kept.is_over else kept)
        except UnknownApproval as error:
            logger.error("%s", error)
            return None

    @staticmethod
    def _approval(kept: Kept) -> Approval:
        try:
            return records.approval(records.event(kept), kept.fields, now=kept.now)
        except InvalidRecord as error:
            raise UnknownApproval(f"approval {kept.request_id} cannot be read: {error}") from error
