"""Everything that a person or a program can do with approval requests."""

from __future__ import annotations

import logging
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from approval_mail.approvals import records
from approval_mail.approvals.book import Book
from approval_mail.approvals.errors import ApprovalExists, NotPending
from approval_mail.approvals.rows import Ending, Kept
from approval_mail.approvals.values import Approval, Page, Stats, Status
from approval_mail.redaction import redact
from approval_mail.store.arguments import milliseconds, moment

logger = logging.getLogger(__name__)


class Desk:
    """Asks, decides and reads; fails closed: what raises has given no permission.

    Every method raises ApprovalsUnavailable while Redis cannot be used, and InvalidEvent naming a field that is
    malformed. What changes a request raises UnknownApproval, or NotPending once the request has ended.
    """

    def __init__(self, book: Book) -> None:
        self.book = book

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
        seconds = records.seconds("timeout", self.book.settings.approval_timeout if timeout is None else timeout)
        given = redact({**extra, "arguments": arguments}, self.book.settings.approval_redact_keys)
        nonce = secrets.token_hex(8)
        with self.book.steps():
            asked = self.book.store.now()
            expires = asked + milliseconds(seconds)
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
            answer = self.book.store.ask(
                event,
                nonce=nonce,
                asked=asked,
                expires=expires,
                fractions=self.book.settings.approval_reminders,
                mailed=self.book.settings.enabled,
            )
            if answer.word == "exists":
                raise ApprovalExists(f"request {event.request_id} was made before; an id is used once: leave it out")
            self.book.announce(event, answer.wake_up)
            if not self.book.settings.enabled:
                logger.warning("No mail goes out about %s: NOTIFICATION_ENABLED is off", event)
        fields = {"status": "pending", "asked": str(asked), "expires": str(expires), "record": event.to_json()}
        return records.approval(Kept(event.request_id, fields, asked))

    def read(self, request_id: str) -> Approval:
        """The request as it is, put on record as expired first if its deadline has passed; raises UnknownApproval."""
        with self.book.steps():
            return self.book.approval(self.book.current(request_id))

    def look(self, request_ids: Sequence[str]) -> dict[str, Approval]:
        """Read several at once; those not on record are left out."""
        with self.book.steps():
            found = [self.book.seen(kept) for kept in self.book.store.read(request_ids)]
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
        longer = milliseconds(records.seconds("seconds", seconds))
        nonce = secrets.token_hex(8)
        with self.book.steps():
            while True:
                kept = self._pending(request_id)
                expires = kept.expires + longer
                records.seconds("seconds", (expires - kept.asked) / 1000)
                event = replace(records.event(kept), expires_at=moment(expires))
                reminders = [self.book.reminder(kept, event, fraction) for fraction in records.fractions(kept)]
                word = self.book.store.extend(kept, expires, [event, *reminders], nonce=nonce)
                if word == "extended":
                    logger.info("Approval %s extended by %g s", kept.request_id[:8], longer / 1000)
                    return self.book.approval(self.book.current(request_id))

    def find(self, text: str) -> list[str]:
        """The ids of requests that are ``text``, or else that begin with it, sorted."""
        with self.book.steps():
            return self.book.store.find(text)

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

        Raises InvalidEvent for a bad status or cursor.
        """
        wanted = records.status(status) if status else None
        found: list[Approval] = []
        with self.book.steps():
            for kept in self.book.store.listing(wanted, records.read_cursor(cursor) if cursor else None):
                approval = self.book.seen(kept)
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
        with self.book.steps():
            return self.book.store.stats()

    def _pending(self, request_id: str) -> Kept:
        """The request, as long as it can be decided; raises UnknownApproval, also if it is damaged, and NotPending."""
        kept = self.book.current(request_id)
        approval = self.book.approval(kept)
        if kept.status is not Status.PENDING:
            raise NotPending(records.ending(approval, self.book.settings.timezone), approval)
        return kept

    def _finish(self, request_id: str, status: Status, responder: str, reason: str) -> Approval:
        ending = Ending(status, secrets.token_hex(8), responder, reason)
        with self.book.steps():
            while True:
                kept = self._pending(request_id)
                if self.book.end(kept, records.outcome(kept, status, responder, reason), ending):
                    return self.book.approval(self.book.current(request_id))
