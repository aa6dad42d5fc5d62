"""The state machine of events and mails; what changes it is one script each."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import redis

from approval_mail import timing
from approval_mail.addresses import Recipient, split_addresses
from approval_mail.events import EVENT_TYPES, ApprovalEvent
from approval_mail.store.arguments import (
    WAKE_LIFETIME,
    call_name,
    flag,
    milliseconds,
    moment,
    record_args,
    seconds_or_none,
    time_of,
    wake_up,
)
from approval_mail.store.counters import parts
from approval_mail.store.history import History
from approval_mail.store.lua import Scripts, texts
from approval_mail.store.notices import Notices
from approval_mail.store.values import OUTCOMES, Addressed, Counts, Recorded, Survey, Taken, Verdict, WakeUp, Work

logger = logging.getLogger(__name__)

_PACKAGE = "approval_mail.store"
texts(_PACKAGE)

#: Tries of one mail whose outcome stays unknown (a dead worker, a lost reply after the final dot)
#: before it is buried rather than risk another duplicate.
MAX_OPEN_TRIES = 3
#: Events that one script call moves at the most, so that Redis never stalls for others.
_CHUNK = 1_000
#: Events that one script call takes or addresses at the most: each may have 50 mails, which are written down here.
_CHUNK_OF_CLAIMS = 200


class EventStore:
    """The state machine of events and their mails.

    ::

        record ──▶ pending ───take───▶ claimed ──settle──────────────────▶ sent
                    ▲ ▲ ▲               │ │ ├────settle, bury, address───▶ dead ──discard──▶ suppressed
                    │ │ └─ release, ────┘ │ └────address, begin, settle──▶ suppressed
                    │ │    rescue         │
                    │ └─── defer ─────────┘  (a later due time)
                    └───── reopen ◀── dead

    A mail, one recipient of an event, is open until it is sent, dead or suppressed; an event is
    finished once none of its mails is open: dead if any is dead, else sent if any was sent, else
    suppressed. What is taken is addressed before it is sent: its recipients are frozen, and its claim is named.
    What ``defer``, ``rescue`` or ``postpone`` would put off past ``max_age`` is dead.
    A lease ends by Redis's clock; ``rescue`` brings back what it covered.

    Keys, all on one cluster slot (``P`` is ``<namespace>:{store}:``):

    =========================  ======  ==================================================================
    P event:<event_id>         hash    record, type, request, nonce, recorded, replayed, since, expires, to, urgent,
                                       recurs, decidable, late, rounds, resolved, token, begun, due, and
                                       ``mail:<recipient>`` per mail; expires ``history`` after the event is finished
    P recurring:<request_id>   set     event_id of the request's events that recur; expires with the last finished
    P trace:<event_id>         list    what became of it since it was recorded, the last 1,000; expires with it
    P pending                  zset    event_id by due time; no expiry
    P urgent                   zset    the urgent ones of pending, likewise
    P claimed                  zset    event_id by end of lease; no expiry
    P sent, dead, suppressed   zset    finished event_id by when; entries older than ``history`` are removed
    P buried                   zset    event_id with at least one dead mail by when; likewise
    P parked                   set     event_id deferred only because the channel is held; until it works
    P counters                 hash    what counters.py names, counted for good; no expiry
    P failures                 list    the last 50 failures; no expiry
    P told:<topic>             string  it was told and is no news; what its caller says
    P routes                   hash    by place when it was said, and why its routes are not taken; half a minute
    P channel                  hash    since, reason, next_step, kind, failures, probe, probing (1, then the token of
                                       the claim that probes); only while held
    P take:<call>              string  JSON list of the event_id that this call of take.lua took; one lease
    P tally:<token>            hash    mails by what became of them in one claim; 15 min
    P wake                     string  due time of the outstanding wake-up; its wait and 5 s
    P room                     string  down to how many claimed events a gather finds room for any and for urgent ones;
                                       where some wait for it; timing.ROOM_EVERY
    P watch                    string  a wake-up for the end of a lease is on its way; one lease
    P window                   string  NOTIFICATION_URGENT_TIMEOUT after an urgent wake-up
    P beat                     string  time of the last gather that beat called; no expiry
    =========================  ======  ==================================================================

    Times are milliseconds of Redis's clock. Needs Redis 6.2 or later, or Valkey.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        namespace: str = "approval_mail",
        history: float = 7 * 86400,
        max_age: float = 86400,
    ) -> None:
        """``client`` decodes responses; ``history`` and ``max_age`` are seconds."""
        self._client: Any = client
        self._prefix = f"{namespace}:{{store}}:"
        #: What is on record, read without changing anything.
        self.history = History(client, self._prefix)
        #: What processes tell one another.
        self.notices = Notices(client, self._prefix)
        self._lifetime = milliseconds(history)
        self._max_age = milliseconds(max_age)
        self._run = Scripts(client, self._prefix, _PACKAGE)

    def server(self) -> dict[str, Any]:
        """What the server says of itself: name, aof (bool), maxmemory (bytes, 0: none) and maxmemory_policy."""
        found = self._client.info()
        name, version = (
            ("Valkey", found["valkey_version"]) if "valkey_version" in found else ("Redis", found["redis_version"])
        )
        return {
            "name": f"{name} {version}",
            "aof": bool(found.get("aof_enabled")),
            "maxmemory": found.get("maxmemory", 0),
            "maxmemory_policy": found.get("maxmemory_policy", ""),
        }

    def record(
        self,
        event: ApprovalEvent,
        *,
        nonce: str,
        batch_size: int,
        batch_timeout: float,
        urgent_timeout: float,
        waited: float | None = None,
    ) -> Recorded:
        """Record an event once.

        ``nonce`` names the hook's call: the same call told again is not a duplicate. ``waited`` is how long the
        event was in the spool, None if it was not: one that was is late. The timeouts are seconds.
        """
        answer, *wake = self._run(
            "record",
            *record_args(
                event,
                nonce=nonce,
                batch_size=batch_size,
                batch_timeout=batch_timeout,
                urgent_timeout=urgent_timeout,
                waited=waited,
            ),
        )
        return Recorded(new=answer != "duplicate", again=answer == "again", wake_up=wake_up(*wake))

    def wake(self, *, batch_size: int, batch_timeout: float, shortest: float = 0, longest: float = 60) -> WakeUp | None:
        """Ask for a wake-up for the work that remains; None if none is needed or one is outstanding.

        A full batch is due at once if there is room for it, a part of one after ``batch_timeout`` seconds.
        """
        return wake_up(
            *self._run(
                "wake",
                milliseconds(shortest),
                milliseconds(longest),
                batch_size,
                milliseconds(batch_timeout),
                milliseconds(timing.URGENT_PATIENCE),
                WAKE_LIFETIME,
            )
        )

    def wake_for_leases(self) -> bool:
        """Tell whether a wake-up is to be sent for when the leases now given have run out; once a lease."""
        return bool(self._run("wake_for_leases", milliseconds(timing.LEASE)))

    def rescue(self, *, by_beat: bool = False, due: int = 0) -> Survey:
        """Start a gather: bring back what lost its lease and look at what there is to do.

        ``due`` is that of the wake-up which started the gather.
        """
        rescued, waiting, urgent, claimed, lately, channel, noted, dead = self._run(
            "rescue",
            flag(by_beat),
            _CHUNK,
            self._lifetime,
            milliseconds(timing.LEASE),
            milliseconds(timing.LATELY),
            due,
            self._max_age,
        )
        self._report_dead(dead)
        return Survey(rescued, waiting, urgent, claimed, lately, channel, noted=bool(noted))

    def note_room(self, any_from: int | None, *, urgent_from: int | None = None) -> None:
        """Say down to how many claimed events a gather finds room for others, and for urgent ones; None: nothing waits.

        Until then, for timing.ROOM_EVERY at the most, no gather is asked for because of what waits.
        """
        rows = ("", "") if any_from is None else (any_from, urgent_from)
        self._run("room", *rows, milliseconds(timing.ROOM_EVERY))

    def urgent_waits(self) -> bool:
        """Whether an urgent event has waited so long that batches of others must give way."""
        patience = milliseconds(timing.URGENT_PATIENCE)
        return bool(self._client.zcount(f"{self._prefix}urgent", "-inf", time_of(self._client) - patience))

    def take(self, most: int, *, token: str, urgent: bool = False) -> list[Taken]:
        """Take due events under a lease, the urgent ones alone or all, up to ``most`` of them, oldest first.

        ``token`` names the take. `address` says who receives them before they are sent; until then a lease that
        runs out brings them back as they were.
        """
        taken: list[Taken] = []
        while most > 0:
            now = min(most, _CHUNK_OF_CLAIMS)
            try:
                rows = self._run("take", milliseconds(timing.LEASE), now, token, flag(urgent), call_name())
            except redis.RedisError:
                if not taken:
                    raise
                break  # What is taken goes out; whoever comes next meets the trouble and tells it.
            for event_id, record, email_to, addressed, failed, *mails in rows:
                open_mails = tuple(Recipient(*mail) for mail in mails) if addressed else None
                taken.append(Taken(event_id, record, tuple(split_addresses(email_to)), open_mails, bool(failed)))
            most -= now
            if len(rows) < now:
                break
        return taken

    def address(self, token: str, events: Sequence[Addressed]) -> set[str]:
        """Hand what was taken by ``token`` to its claims and freeze who receives what nobody was to receive yet.

        Answers the ids of the events that have mails to send. A gather that may probe the held channel says by this
        which claim does: the first with a mail to send or, also without events, one by ``token``.
        """
        left: set[str] = set()
        for start in range(0, len(events) or 1, _CHUNK_OF_CLAIMS):
            rows = [
                (
                    event.event_id,
                    event.token,
                    event.state,
                    event.phase,
                    event.reason,
                    [(one.address, one.language, one.timezone) for one in event.recipients],
                    event.before,
                )
                for event in events[start : start + _CHUNK_OF_CLAIMS]
            ]
            left.update(self._run("address", token, self._lifetime, json.dumps(rows)))
        return left

    def begin(self, token: str, event_ids: Sequence[str], *, attempt: int) -> tuple[list[Work], dict[str, str]]:
        """Begin try number ``attempt`` of a claim: what is to be sent, and what was suppressed with its reason.

        A copy of a try that has begun before, or of a claim whose lease ran out, gets nothing.
        """
        work, suppressed = [], {}
        for kind, event_id, *row in self._run(
            "begin", token, attempt, milliseconds(timing.LEASE), self._lifetime, _MOOT_RULES, call_name(), *event_ids
        ):
            if kind == "suppressed":
                suppressed[event_id] = row[0]
                continue
            if kind == "damaged":
                logger.error("Dead %s: the record of its mails is damaged", event_id)
                continue
            record, rounds, now, happened, *mails = row
            work.append(
                Work(
                    event_id,
                    record,
                    int(rounds),
                    moment(now),
                    moment(happened),
                    tuple(Recipient(*mail[:3]) for mail in mails),
                    frozenset(mail[0] for mail in mails if mail[3]),
                )
            )
        return work, suppressed

    def settle(
        self,
        token: str,
        *,
        settled: tuple[str, str, Verdict] | None = None,
        upcoming: tuple[str, str] | None = None,
        patient: bool = False,
    ) -> tuple[str, str]:
        """Settle one mail and mark the next as being tried.

        ``settled`` is event id, address and verdict; ``upcoming`` event id and address. Answers
        the settled event's final state, empty while a mail of it is open, and for the upcoming mail
        ``go``, ``done`` (no longer open), ``moot: ...`` (suppressed for this reason), ``buried`` (too many
        unknown outcomes), ``lost``, ``yield`` (an urgent event waits for a free worker: give back the rest; never
        if ``patient``) or empty.
        """
        state, answer = self._run("settle", *self._settling(token, settled, upcoming, patient=patient))
        return state, answer

    def settle_each(self, token: str, settled: Iterable[tuple[str, str, Verdict]]) -> list[str]:
        """Settle several mails in one round trip; answers each event's final state as `settle` does."""
        return [state for state, _ in self._run.each("settle", [self._settling(token, one, None) for one in settled])]

    def mark_each(self, token: str, upcoming: Iterable[tuple[str, str]]) -> list[str]:
        """Mark several mails as being tried, in one round trip; answers of each what `settle` does, but ``yield``."""
        calls = [self._settling(token, None, mail, patient=True) for mail in upcoming]
        return [answer for _, answer in self._run.each("settle", calls)]

    def _settling(
        self,
        token: str,
        settled: tuple[str, str, Verdict] | None,
        upcoming: tuple[str, str] | None,
        *,
        patient: bool = False,
    ) -> list[str | int]:
        """What settle.lua reads; a ``patient`` caller is never told to yield."""
        event_id, recipient, verdict = settled or ("", "", Verdict(""))
        return [
            token,
            self._lifetime,
            MAX_OPEN_TRIES,
            event_id,
            recipient,
            verdict.state,
            verdict.code or "",
            verdict.phase,
            verdict.reason,
            *(upcoming or ("", "")),
            "" if patient else milliseconds(timing.URGENT_PATIENCE),
            _MOOT_TYPES,
            call_name(),
            *(part for counted in verdict.counts.items() for part in counted),
        ]

    def renew(self, token: str, event_ids: Sequence[str], *, seconds: float = timing.LEASE) -> int:
        """Extend a lease; answers how many of the events the token still holds, of a probe without any 1."""
        return int(self._run("renew", token, milliseconds(seconds), *event_ids))

    def defer(
        self, token: str, waits: Mapping[str, float], *, reason: str, spend_round: bool = True
    ) -> tuple[int, int]:
        """Make events pending again after their wait in seconds; answers how many were deferred, how many died of age.

        ``spend_round`` is False when the channel is to blame, as ``reason`` says; else mails failed for their own.
        """
        pairs = [part for event_id, wait in waits.items() for part in (event_id, milliseconds(wait))]
        deferred, dead = self._run(
            "defer",
            token,
            milliseconds(timing.ROUND_BACKOFF_URGENT),
            self._max_age,
            self._lifetime,
            flag(spend_round),
            reason,
            *pairs,
        )
        self._report_dead(dead)
        return deferred, len(dead)

    def bury(self, token: str, event_id: str, *, phase: str, reason: str) -> int:
        """Make every open mail of a claimed event dead; answers how many."""
        return int(self._run("bury", token, event_id, phase, reason, self._lifetime))

    def release(self, token: str, event_ids: Sequence[str], *, unbegun: bool = False) -> int:
        """Give claimed events back unspent, or those alone of which no try has begun; answers how many."""
        return int(self._run("release", token, flag(unbegun), *event_ids)) if event_ids else 0

    def tally(self, token: str) -> dict[str, int]:
        """Count what became of a claim's mails, by OUTCOMES."""
        found = self._client.hgetall(f"{self._prefix}tally:{token}")
        return {word: int(found.get(word, 0)) for word in OUTCOMES}

    def hold(self, *, reason: str, next_step: str, kind: str = "") -> tuple[float, bool]:
        """Hold the channel; answers the seconds until the next probe, and whether this is news.

        ``kind`` is the same for trouble that differs only in the server's words; by default it is the reason.
        """
        wait, news = self._run(
            "hold",
            reason,
            next_step,
            milliseconds(timing.HOLD_BACKOFF),
            milliseconds(timing.HOLD_BACKOFF_MAX),
            kind or reason,
        )
        return wait / 1000, bool(news)

    def channel_wait(self, token: str) -> tuple[float, str] | None:
        """Seconds that a claim waits while the channel is held, and why it is; None if it may try the channel."""
        wait, reason = self._run("wait", token)
        return (wait / 1000, reason) if wait >= 0 else None

    def unhold(self) -> float | None:
        """Say that the channel works; answers for how many seconds it had been held, None if it was not."""
        was_held, held_for, more = self._run("unhold", _CHUNK)
        while more:
            more = self._run("unhold", _CHUNK)[2]
        return held_for / 1000 if was_held else None

    def postpone(self) -> int:
        """Defer what is due until the held channel's next probe; answers how many events were moved."""
        deferred, dead = self._run("postpone", _CHUNK, self._max_age, self._lifetime)
        self._report_dead(dead)
        return int(deferred) + len(dead)

    def count(self) -> Counts:
        """Count every event once, by where it is."""
        pending, deferred, claimed, sent, dead, suppressed, untold, *more = self._run("count", self._lifetime)
        oldest, beat, held, reason, next_step = more
        return Counts(
            pending,
            deferred,
            claimed,
            sent,
            dead,
            suppressed,
            untold,
            oldest_pending_seconds=seconds_or_none(oldest),
            beat_seconds_ago=seconds_or_none(beat),
            held_since=moment(held) if held >= 0 else None,
            held_reason=reason or None,
            held_next_step=next_step or None,
        )

    def counters(self) -> dict[tuple[str, ...], int]:
        """All that was ever counted, by name and labels as counters.py has them; damaged values count nothing."""
        found = self._client.hgetall(f"{self._prefix}counters")
        return {parts(name): int(value) for name, value in found.items() if value.isdecimal()}

    def pending_by_age(self, bounds: Sequence[float]) -> list[int]:
        """Count the events that are due by the seconds since they became so: up to each bound, then above the last."""
        now = time_of(self._client)
        edges = [f"{now}", *(f"{now - milliseconds(bound)}" for bound in bounds), "-inf"]
        pipeline = self._client.pipeline(transaction=True)
        for newer, older in itertools.pairwise(edges):
            pipeline.zcount(f"{self._prefix}pending", older if older == "-inf" else f"({older}", newer)
        return [int(count) for count in pipeline.execute()]

    def _report_dead(self, event_ids: Iterable[str]) -> None:
        for event_id in event_ids:
            logger.error("Dead %s: not delivered within %g s", event_id, self._max_age / 1000)

    def reopen(self, event_id: str) -> int:
        """Reopen an event's dead mails; answers how many."""
        return int(self._run("reopen", event_id))

    def discard(self, event_id: str, *, reason: str) -> int:
        """Turn an event's dead mails into suppressed ones; answers how many."""
        return int(self._run("discard", event_id, reason, self._lifetime))


_MOOT = {row.name: True for row in EVENT_TYPES.values() if row.asks}
_MOOT_TYPES = json.dumps(_MOOT)
_MOOT_RULES = json.dumps(
    {
        "moot": _MOOT,
        "outcomes": {row.name: row.outcome for row in EVENT_TYPES.values() if row.outcome},
    }
)
