"""Approval requests in Redis; each change of status is one script, which records its event as well."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import redis

from approval_mail.approvals.rows import CHUNK, Answer, Due, Ending, Kept, Pace
from approval_mail.approvals.values import Stats, Status
from approval_mail.events import ApprovalEvent
from approval_mail.store.arguments import (
    RECORD_ARGS,
    clock_milliseconds,
    milliseconds,
    record_args,
    time_of,
    wake_up,
)
from approval_mail.store.lua import Scripts, texts

logger = logging.getLogger(__name__)

_PACKAGE = "approval_mail.approvals"
texts(_PACKAGE)


class ApprovalStore:
    """The state machine of approval requests.

    ::

        ask ──▶ pending ──finish──▶ approved | rejected | cancelled   before the deadline
                 ▲   │    └───────▶ expired                           from the deadline on
                 └───┘ extend, remind

    Keys, beside those of `EventStore` and on the same cluster slot (``P`` is ``<namespace>:{store}:``):

    ========================  =======  ================================================================
    P approval:<request_id>   hash     status, nonce, asked, expires, record (the approval_requested event), fractions,
                                       mailed, reminded, extender, told, untold; once it has ended finisher, responder,
                                       reason, ended; expires ``history`` after the end
    P approvals               zset     every request_id by when it was asked
    P approvals:<status>      zset     those of one status, likewise
    P ids                     zset     every request_id with score 0, for a search by its beginning
    P deadlines               zset     pending request_id by deadline
    P reminders               zset     ``<fraction> <request_id>`` of pending ones by when it is due
    P unheard                 zset     pending request_id no mail about which was accepted yet, by half of its window
    P untold                  zset     those of them past it, by when that was found
    P finished                zset     request_id by its end; forgotten after ``history``
    P ended                   channel  request_id, when it ends
    ========================  =======  ================================================================

    Times are milliseconds of Redis's clock.
    """

    def __init__(
        self, client: redis.Redis, *, pace: Pace, namespace: str = "approval_mail", history: float = 7 * 86400
    ) -> None:
        """``client`` decodes responses; ``history`` is seconds."""
        self._client: Any = client
        self._prefix = f"{namespace}:{{store}}:"
        self._history = milliseconds(history)
        self._pace = pace
        self._run = Scripts(client, self._prefix, _PACKAGE)

    def now(self) -> int:
        """Milliseconds since 1970 by Redis's clock."""
        return time_of(self._client)

    def ask(
        self, event: ApprovalEvent, *, nonce: str, asked: int, expires: int, fractions: Sequence[str], mailed: bool
    ) -> Answer:
        """Put the request that ``event`` tells of on record, and the event if ``mailed``: ``asked`` or ``exists``."""
        return _answer(
            self._run(
                "ask",
                *self._event(event if mailed else None, nonce),
                event.request_id,
                nonce,
                asked,
                expires,
                event.to_json(),
                ",".join(fractions),
            )
        )

    def finish(self, kept: Kept, event: ApprovalEvent | None, ending: Ending) -> Answer:
        """End a pending request, and record ``event`` with it.

        Answers ``done``; ``unknown``; ``ended`` (before, by another call); ``changed`` (its deadline is no longer that
        of ``kept``); ``late`` (only to expire is left) or ``early`` (it cannot expire yet).
        """
        return _answer(
            self._run(
                "finish",
                *self._event(event, ending.nonce),
                kept.request_id,
                ending.status.value,
                ending.nonce,
                ending.responder,
                ending.reason,
                kept.fields["expires"],
                self._history,
            )
        )

    def extend(self, kept: Kept, expires: int, events: Sequence[ApprovalEvent], *, nonce: str) -> str:
        """Put the deadline off; ``events`` are those that tell of it, as they are with the new one.

        Answers ``extended``, ``unknown``, ``ended``, ``late`` or ``changed``.
        """
        pairs = [part for event in events for part in (event.event_id, event.to_json())]
        return str(self._run("extend", kept.request_id, kept.expires, expires, nonce, *pairs))

    def remind(self, kept: Kept, event: ApprovalEvent, *, nonce: str) -> Answer:
        """Record the reminder ``event`` if it is still due: ``reminded`` or ``no``."""
        return _answer(self._run("remind", *self._event(event, nonce), kept.request_id, event.fraction, kept.expires))

    def due(self) -> Due:
        """What is due now, and forget what is older than history."""
        expired, reminders, unheard = self._run("due", CHUNK, self._history)
        pairs = (member.partition(" ") for member in reminders)
        return Due(tuple(expired), tuple((request_id, fraction) for fraction, _, request_id in pairs), tuple(unheard))

    def read(self, request_ids: Sequence[str]) -> list[Kept]:
        """The requests of these ids that are on record and sound, in the same order; a damaged one is logged."""
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            for request_id in request_ids:
                pipeline.hgetall(f"{self._prefix}approval:{request_id}")
            clock, *rows = pipeline.execute(raise_on_error=False)
        if isinstance(clock, Exception):
            raise clock
        now = clock_milliseconds(clock)
        found = [_sound(name, row, now) for name, row in zip(request_ids, rows, strict=True)]
        return [kept for kept in found if kept is not None]

    def mark_untold(self, request_id: str) -> bool:
        """Put on record that nobody was told of a pending request; True for the one call that did."""
        return bool(self._run("untold", request_id))

    def pass_over(self, members: Sequence[str]) -> None:
        """Let the clock forget what it cannot read: request ids, and reminders as `Due` has them."""
        if members:
            self._run("forget", *members)

    def find(self, text: str) -> list[str]:
        """The ids that begin with ``text``, sorted; one that is ``text`` comes first."""
        return list(self._client.zrangebylex(f"{self._prefix}ids", f"[{text}", f"({text}\x7f"))

    def listing(self, status: Status | None, after: tuple[int, str] | None) -> Iterator[Kept]:
        """Requests of one status or all, newest first; ``after`` is when the last one seen was asked, and its id."""
        key = f"{self._prefix}approvals" + (f":{status.value}" if status else "")
        newest = f"{after[0]}" if after else "+inf"
        start = 0
        while True:
            rows = self._client.zrevrangebyscore(key, newest, "-inf", start, CHUNK, withscores=True)
            found = [(int(asked), name) for name, asked in rows]
            yield from self.read([name for asked, name in found if after is None or (asked, name) < after])
            if len(found) < CHUNK:
                return
            # From the last one on, not by how many there were: requests come in and end meanwhile.
            after = found[-1]
            start = start + CHUNK if newest == f"{after[0]}" else 0
            newest = f"{after[0]}"

    def stats(self) -> Stats:
        now = time_of(self._client)
        with self._client.pipeline(transaction=False) as pipeline:
            for status in Status:
                pipeline.zcard(f"{self._prefix}approvals:{status.value}")
            pipeline.zcard(f"{self._prefix}untold")
            pipeline.zcount(f"{self._prefix}unheard", "-inf", now)  # No worker has come to these yet.
            *counts, untold, unheard = pipeline.execute()
        by_status = {status.value: count for status, count in zip(Status, counts, strict=True)}
        return Stats(**by_status, untold=untold + unheard)

    def listen(self) -> Ended:
        """Hear from now on of every request that ends."""
        return Ended(self._client, f"{self._prefix}ended")

    def _event(self, event: ApprovalEvent | None, nonce: str) -> list[str | int]:
        if event is None:
            return [""] * RECORD_ARGS
        return record_args(
            event,
            nonce=nonce,
            batch_size=self._pace.batch_size,
            batch_timeout=self._pace.batch_timeout,
            urgent_timeout=self._pace.urgent_timeout,
        )


class Ended:
    """Hears of requests that end."""

    def __init__(self, client: Any, channel: str) -> None:
        self._pubsub = client.pubsub(ignore_subscribe_messages=True)
        self._pubsub.subscribe(channel)

    def next(self, seconds: float) -> str | None:
        """The next request that ends within ``seconds``; None if none does."""
        message = self._pubsub.get_message(timeout=seconds)
        return str(message["data"]) if message else None

    def close(self) -> None:
        self._pubsub.close()


def _sound(request_id: str, row: Any, now: int) -> Kept | None:
    """A row that was read; None if there is none, or one that no code of ours wrote. Raises what redis-py found."""
    if isinstance(row, Exception) and not str(row).startswith("WRONGTYPE"):
        raise row
    if not row:
        return None
    kept = Kept(request_id, row if isinstance(row, dict) else {}, now)
    if kept.is_sound:
        return kept
    logger.error("Approval %s is damaged in Redis and passed over", request_id[:8])
    return None


def _answer(row: Any) -> Answer:
    word, *wake = row
    return Answer(word, wake_up(*wake))
