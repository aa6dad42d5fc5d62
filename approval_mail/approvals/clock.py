"""What time does with requests: they expire, are reminded of, or turn out to be known to nobody."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Sequence
from dataclasses import replace

from approval_mail.approvals import records
from approval_mail.approvals.book import Book
from approval_mail.approvals.rows import Kept
from approval_mail.approvals.values import Approval
from approval_mail.errors import InvalidRecord
from approval_mail.store.history import moment

logger = logging.getLogger(__name__)

#: Rounds of one sweep, so that it ends however much is due.
_ROUNDS = 25


class Clock:
    """Does what is due; any number of clocks may run at once, and each thing is done once."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def sweep(self) -> tuple[Approval, ...]:
        """Do what the clock asks for: expire and remind; answers requests newly found that nobody was told of.

        Raises ApprovalsUnavailable while Redis cannot be used.
        """
        untold: list[Approval] = []
        with self._book.steps():
            for _ in range(_ROUNDS):
                due = self._book.store.due()
                for kept in self._book.store.read(due.expired):
                    self._book.expire(kept)
                self._remind_all(due.reminders)
                seen = map(self._book.seen, self._book.store.read(due.untold))
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

    def _remind_all(self, reminders: Sequence[tuple[str, str]]) -> None:
        latest: dict[str, str] = {}
        for request_id, fraction in reminders:
            latest[request_id] = max(fraction, latest.get(request_id, "0"), key=float)
        for kept in self._book.store.read(list(latest)):
            with contextlib.suppress(InvalidRecord):  # Its expiry tells.
                self._remind(kept, latest[kept.request_id])

    def _remind(self, kept: Kept, fraction: str) -> None:
        event = records.reminder(records.event(kept), fraction, now=moment(kept.now))
        if fraction == records.fractions(kept)[-1] and self._book.settings.approval_escalate_to:
            usual = event.email_to or self._book.settings.email_to
            event = replace(event, email_to=tuple(dict.fromkeys((*usual, *self._book.settings.approval_escalate_to))))
        answer = self._book.store.remind(kept, event, nonce=secrets.token_hex(8))
        if answer.word == "reminded":
            self._book.announce(event, answer.wake_up)
