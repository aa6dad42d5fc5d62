"""An event's way into Redis, or onto this host's disk while Redis cannot be reached."""

from __future__ import annotations

import enum
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

import tenacity
from celery.exceptions import SoftTimeLimitExceeded

from approval_mail import timing
from approval_mail.bounded import within
from approval_mail.errors import InvalidEvent, SpoolUnavailable
from approval_mail.events import ApprovalEvent
from approval_mail.outage import Outage
from approval_mail.settings import Loaded
from approval_mail.spool import Spool, Spooled
from approval_mail.store import EventStore, Recorded, StoreError, WakeUp

logger = logging.getLogger(__name__)

#: Seconds. After a failure, events go to the spool without asking Redis again for this long.
_PAUSE = 0.25
#: Seconds. Longest wait between this process's own attempts to replay its spool.
_REPLAY_WAIT_MAX = 5.0
#: Seconds. One replay takes no longer: a gather that replays has events of its own to see to.
_REPLAY_SLICE = 1.0
#: Seconds. Why events are lost is told once in so many, however often the disk takes one in between.
_REFUSAL_AGAIN = 60.0


class Receipt(str, enum.Enum):
    """What became of an event that a hook was told of."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    SPOOLED = "spooled"
    DISABLED = "disabled"
    #: Neither Redis nor the spool could take it: it is in the log alone.
    REFUSED = "refused"

    __str__ = str.__str__


class Recorder:
    """Records events in bounded time and never fails its caller for an operator's or a network's fault."""

    def __init__(self, store: EventStore, spool: Spool, loaded: Loaded, wake: Callable[[WakeUp], object]) -> None:
        """``wake`` sends the Celery message that starts gather."""
        self._store = store
        self._spool = spool
        self._loaded = loaded
        self._wake = wake
        #: Of Redis, as this process's hooks meet it.
        self._outage = Outage(_PAUSE)
        #: What to do about a spool that takes nothing, as last told, and by time.monotonic() until when that holds.
        self._refusal_told = ("", 0.0)
        #: True until this process has looked for what an earlier one left in the spool.
        self._left_over = True
        self._replayer: threading.Thread | None = None
        #: Something was spooled since the replayer last began to look.
        self._to_replay = False
        self._lock = threading.RLock()  # A signal handler of the host may call a hook within one.

    def emit(self, event_type: str, data: Mapping[str, Any]) -> Receipt:
        """Check and record an event; raises InvalidEvent naming the field, and lets the host's own time limit pass."""
        settings = self._loaded.usable
        if not settings.enabled and "NOTIFICATION_ENABLED" not in self._loaded.faulty:
            return Receipt.DISABLED
        event = self._read(event_type, data)
        nonce = secrets.token_hex(8)
        if self._loaded.problems or self._outage.turns_away():
            return self._keep(event, nonce)
        with within(timing.HOST_BUDGET):
            try:
                recorded = self._record(event, nonce)
            except SoftTimeLimitExceeded:  # The host's own Celery task is told to end.
                self._keep(event, nonce)
                raise
            except Exception as error:  # The host must not fail for what its resolver, say, makes of REDIS_URL.
                self._redis_fails(error)
                return self._keep(event, nonce)
            logger.info("Event enqueued: %s" if recorded.new else "Event known already: %s", event)
            if recorded.wake_up:
                self._wake(recorded.wake_up)
        self._redis_works()
        return Receipt.ACCEPTED if recorded.new else Receipt.DUPLICATE

    def _read(self, event_type: str, data: Mapping[str, Any]) -> ApprovalEvent:
        now = datetime.now(timezone.utc)
        try:
            return ApprovalEvent.from_dict(event_type, data, now=now, localise=self._loaded.usable.localise)
        except (InvalidEvent, SoftTimeLimitExceeded):
            raise
        except Exception as error:  # A dict that another thread changes, or a value whose own methods raise.
            raise InvalidEvent(
                "data", f"{event_type}: the data cannot be read ({type(error).__name__}); pass plain values of your own"
            ) from error

    def replay(self) -> int:
        """Bring some of the spool's events into Redis; answers how many, 0 once none is left that can be.

        Takes a second or so. What redis-py raises ends it.
        """
        replayed = self._spool.replay(self._late_recorder(), seconds=_REPLAY_SLICE)
        if replayed:
            logger.info("Replayed %d events from the spool %s", replayed, self._spool.folder)
        return replayed

    def _record(self, event: ApprovalEvent, nonce: str, *, waited: float | None = None) -> Recorded:
        settings = self._loaded.usable
        return self._store.record(
            event,
            nonce=nonce,
            batch_size=settings.batch_size,
            batch_timeout=settings.batch_timeout,
            urgent_timeout=settings.urgent_timeout,
            waited=waited,
        )

    def _late_recorder(self) -> Callable[[Spooled], None]:
        """What one replay does with each event that was spooled."""
        woken = False

        def record(spooled: Spooled) -> None:
            nonlocal woken
            # By the clock of the host that wrote it down, which is this one.
            waited = (datetime.now(timezone.utc) - spooled.event.occurred_at).total_seconds()
            recorded = self._record(spooled.event, spooled.nonce, waited=max(0.0, waited))
            if recorded.new and not recorded.again:
                logger.info("Event enqueued: %s", spooled.event)
            # Before the file goes: a host that waits for that alone may end then. Of events that are known already, as
            # they all are to the second of two who replay at once, one wake-up gathers all.
            if recorded.wake_up and not (recorded.again and woken):
                self._wake(recorded.wake_up)
                woken = woken or not recorded.wake_up.seconds

        return record

    def _keep(self, event: ApprovalEvent, nonce: str) -> Receipt:
        try:
            self._spool.write(event, nonce=nonce)
        except SpoolUnavailable as error:
            if self._is_news(error.next_step):
                logger.error("Event lost: %s: %s; %s", event, error, error.next_step)
            else:
                logger.warning("Event lost: %s", event)
            return Receipt.REFUSED
        logger.info("Event spooled: %s", event)
        if not self._loaded.problems:
            self._start_replayer()
        return Receipt.SPOOLED

    def _is_news(self, next_step: str) -> bool:
        now = time.monotonic()
        with self._lock:
            told, until = self._refusal_told
            if told == next_step and now < until:
                return False
            self._refusal_told = (next_step, now + _REFUSAL_AGAIN)
            return True

    def _redis_fails(self, error: Exception) -> None:
        if self._outage.note_failure():
            logger.error(
                "Redis cannot be used (%s): events are spooled in %s; check REDIS_URL and the server",
                error if isinstance(error, StoreError) else f"{type(error).__name__}: {error}",
                self._spool.folder,
                exc_info=None if _is_outage(error) else error,
            )

    def _redis_works(self) -> None:
        if self._outage.note_success():
            logger.info("Redis can be used again")
        if self._left_over:
            self._left_over = False
            if self._spool.paths():
                self._start_replayer()

    def _start_replayer(self) -> None:
        """Replay in a thread of its own until the spool is empty: the caller's call stays short."""
        with self._lock:
            self._to_replay = True
            if self._replayer is None or not self._replayer.is_alive():
                self._replayer = threading.Thread(
                    target=self._replay_until_empty, name="approval-mail-spool", daemon=True
                )
                try:
                    self._replayer.start()
                except RuntimeError:  # The interpreter is shutting down; the files stay.
                    self._replayer = None

    def _replay_until_empty(self) -> None:
        patiently = tenacity.Retrying(
            wait=tenacity.wait_exponential(multiplier=_PAUSE, max=_REPLAY_WAIT_MAX),
            before_sleep=_tell_what_is_no_outage,
        )
        while self._has_to_replay():
            time.sleep(_PAUSE)
            while patiently(self.replay):
                self._redis_works()

    def _has_to_replay(self) -> bool:
        """Whether anything was spooled meanwhile; once not, a thread is started for what is spooled next."""
        with self._lock:
            due, self._to_replay = self._to_replay, False
            if not due:
                self._replayer = None
            return due


def _tell_what_is_no_outage(state: tenacity.RetryCallState) -> None:
    """An outage is told when it begins and when it ends; anything else that stops a replay is told each time."""
    error = state.outcome.exception() if state.outcome else None
    if error and not _is_outage(error):
        logger.error("What is spooled could not be replayed; it is tried again", exc_info=error)


def _is_outage(error: BaseException) -> bool:
    """Whether it is what a server out of reach comes to; anything else is told with its traceback."""
    return isinstance(error, (StoreError, OSError))
