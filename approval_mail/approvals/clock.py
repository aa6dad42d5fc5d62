"""What time does with requests: they expire, are reminded of, or turn out to be known to nobody."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence

from approval_mail.approvals import records
from approval_mail.approvals.book import Book
from approval_mail.approvals.rows import Kept
from approval_mail.approvals.values import Approval
from approval_mail.errors import InvalidRecord
from approval_mail.store.arguments import moment

logger = logging.getLogger(__name__)

#: Rounds of one sweep, so that it ends however much is due.
_ROUNDS = 25


class Clock:
    """Does what is due; any number of clocks may run at once, and each thing is done once."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def sweep(self, tell: Callable[[Approval], object]) -> None:
        """Do what the clock asks for; ``tell`` is called for each request newly found that nobody was told of.

        Raises ApprovalsUnavailable while Redis cannot be used.
        """
        with self._book.steps():
            for _ in range(_ROUNDS):
                due = self._book.store.due()
                for kept in self._read(due.expired):
                    self._book.expire(kept)
                self._remind_all(due.reminders)
                for kept in self._read(due.unheard):
                    if self._book.store.mark_untold(kept.request_id):
                        self._tell(kept, tell)
                if not due.more:
                    break

    def _read(self, request_ids: Sequence[str]) -> list[Kept]:
        """Those that can be read; the others are due no longer."""
        found = self._book.store.read(request_ids)
        self._book.store.pass_over(sorted(set(request_ids) - {kept.request_id for kept in found}))
        return found

    def _tell(self, kept: Kept, tell: Callable[[Approval], object]) -> None:
        logger.error(
            "Nobody was told of approval %s: no mail about it was accepted in half of its time; "
            "see approval-mail status, approval-mail trace %s",
            kept.request_id[:8],
            kept.request_id,
        )
        approval = self._book.seen(kept)
        if approval is not None:
            tell(approval)

    def _remind_all(self, reminders: Sequence[tuple[str, str]]) -> None:
        latest: dict[str, str] = {}
        for request_id, fraction in reminders:
            latest[request_id] = max(fraction, latest.get(request_id, "0"), key=float)
        found = self._book.store.read(list(latest))
        readable = {kept.request_id for kept in found}
        self._book.store.pass_over([f"{part} {name}" for name, part in reminders if name not in readable])
        for kept in found:
            try:
                self._remind(kept, latest[kept.request_id])
            except InvalidRecord as error:
                logger.error("Approval %s is not reminded of: %s", kept.request_id[:8], error)
                self._book.store.pass_over([f"{latest[kept.request_id]} {kept.request_id}"])

    def _remind(self, kept: Kept, fraction: str) -> None:
        event = self._book.reminder(kept, records.event(kept), fraction, now=moment(kept.now))
        answer = self._book.store.remind(kept, event, nonce=secrets.token_hex(8))
        if answer.word == "reminded":
            self._book.announce(event, answer.wake_up)
