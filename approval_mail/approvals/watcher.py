"""Waits for many requests at once, in one thread with one connection: nobody polls."""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from approval_mail.approvals import untold
from approval_mail.approvals.approval_store import Ended
from approval_mail.approvals.desk import Desk
from approval_mail.approvals.errors import ApprovalsUnavailable, UnknownApproval
from approval_mail.approvals.values import Approval, Status
from approval_mail.outage import Outage
from approval_mail.store import StoreError

logger = logging.getLogger(__name__)

#: Seconds. All that is waited for is looked at this often, for a deadline or a notification that was lost.
_LOOK_AGAIN = 1.0

Waiter = concurrent.futures.Future[Approval]


class Watcher:
    """Completes a future for each request that ends, by Redis's notification or by looking once a second.

    Its thread runs while anybody waits. While Redis is out of reach the waiters wait on.
    """

    def __init__(self, desk: Desk, listen: Callable[[], Ended]) -> None:
        self._desk = desk
        self._listen = listen
        self._lock = threading.Lock()
        self._waiters: defaultdict[str, set[Waiter]] = defaultdict(set)
        #: Requests that the host was told nobody was told of, until they end or are over.
        self._told: dict[str, datetime] = {}
        self._thread: threading.Thread | None = None
        self._outage = Outage(0)

    @contextlib.contextmanager
    def waiting(self, request_id: str) -> Iterator[Waiter]:
        """A future for the request once it has ended; given up when the context is left."""
        future: Waiter = concurrent.futures.Future()
        with self._lock:
            self._waiters[request_id].add(future)
        try:
            self._start()
            yield future
        finally:
            with self._lock:
                self._waiters[request_id].discard(future)
                if not self._waiters[request_id]:
                    del self._waiters[request_id]

    def _start(self) -> None:
        """Run the thread, if it does not run; raises RuntimeError if this process can have none."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._watch, name="approval-mail-watcher", daemon=True)
                thread.start()
                self._thread = thread

    def look(self, request_ids: Sequence[str]) -> None:
        """Complete the futures of those that have ended; raises ApprovalsUnavailable."""
        found = self._desk.look(request_ids)
        for request_id in request_ids:
            approval = found.get(request_id)
            if approval is None:
                self._complete(request_id, UnknownApproval.of(request_id))
                continue
            if approval.untold:
                self._tell(approval)
            if approval.status is not Status.PENDING:
                self._complete(request_id, approval)

    def _complete(self, request_id: str, outcome: Approval | UnknownApproval) -> None:
        with self._lock:
            self._told.pop(request_id, None)
            waiters = list(self._waiters.get(request_id, ()))
        for waiter in waiters:
            # Whoever waited may have given up meanwhile, or have been told by another look.
            with contextlib.suppress(concurrent.futures.InvalidStateError):
                if isinstance(outcome, Approval):
                    waiter.set_result(outcome)
                else:
                    waiter.set_exception(outcome)

    def _tell(self, approval: Approval) -> None:
        with self._lock:
            if approval.request_id not in self._waiters or approval.request_id in self._told:
                return
            now = approval.read_at or approval.expires_at
            # Who waits no longer is not heard of again when its request ends.
            self._told = {name: expires for name, expires in self._told.items() if expires > now}
            self._told[approval.request_id] = approval.expires_at
        untold.tell(approval)

    def _watch(self) -> None:
        ended: Ended | None = None
        while names := self._go_on():
            try:
                ended = ended or self._listen()
                self._wait_and_look(ended)
            except Exception as error:  # Whatever it is: whoever waits here would wait for good without this thread.
                _close(ended)
                ended = None
                if self._outage.note_failure():
                    expected = isinstance(error, (ApprovalsUnavailable, StoreError, OSError))
                    logger.error(
                        "Approvals are waited for (%d) and cannot be read: %s",
                        len(names),
                        error,
                        exc_info=None if expected else error,
                    )
                time.sleep(_LOOK_AGAIN)
            else:
                if self._outage.note_success():
                    logger.info("Approvals can be read again")
        _close(ended)

    def _wait_and_look(self, ended: Ended) -> None:
        """Look at all that is waited for, then at each request that ends within the next second."""
        self.look(self._names())
        until = time.monotonic() + _LOOK_AGAIN
        while (left := until - time.monotonic()) > 0:
            request_id = ended.next(left)
            if request_id in self._names():
                self.look([request_id])

    def _go_on(self) -> list[str]:
        """What is waited for; where that is nothing the thread ends, and the next waiter starts another."""
        with self._lock:
            if not self._waiters:
                self._thread = None
            return list(self._waiters)

    def _names(self) -> list[str]:
        with self._lock:
            return list(self._waiters)


def _close(ended: Ended | None) -> None:
    if ended:
        ended.close()
