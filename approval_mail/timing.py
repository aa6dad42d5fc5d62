"""Times that several parts rely on; `order_faults` names those that must not overtake one another. Pure."""

from __future__ import annotations

import itertools

#: Seconds. One step over the network of a host's call, and what all of them may take: it returns within half a second.
HOST_STEP, HOST_BUDGET = 0.2, 0.35
#: Seconds. One step over the network of a worker's or an operator's: both can wait.
PATIENT_STEP = 5

#: Seconds. Total deadline of the final dot: a server that filters slowly must not make duplicates.
FINAL_DOT_TIMEOUT = 30
#: Seconds. Highest SMTP_TIMEOUT, so that any one step ends before the lease does.
MAX_SMTP_TIMEOUT = 30
#: Seconds. A batch renews its lease before an SMTP step once this has passed since the last renewal.
RENEW_AFTER = 10
#: Seconds by the store's clock. What a dead worker held comes back after this.
LEASE = 45
#: Seconds. What was finished within them tells how much is worth claiming: batching.py plans for twice as long.
LATELY = 15
#: Seconds. Where events wait for room among the claimed ones, gathers look for it no more often, until there is some.
ROOM_EVERY = 1
#: Seconds. A batch that is not urgent gives its worker back once it has sent, and an urgent event waited, this long.
URGENT_PATIENCE = 0.5
#: Seconds. `send_batch` starts no new mail after this and returns the rest unspent.
SEND_BUDGET = 60
#: Seconds. Celery's soft limit of `send_batch`.
SOFT_TIME_LIMIT = 120
#: Seconds. Celery's hard limit of `send_batch`.
HARD_TIME_LIMIT = 150
#: Seconds. A Redis broker hands an unacknowledged message to another worker after this.
VISIBILITY_TIMEOUT = 300

#: Seconds. However often beat gathers, it is not missed sooner.
_BEAT_ALIVE = 15.0

#: Retries of round one, by Celery's autoretry: after 2, 4 and 8 s.
QUICK_RETRIES = 3
#: Seconds. First wait of round one; it doubles.
QUICK_BACKOFF = 2
#: Seconds. Longest wait of round one.
QUICK_BACKOFF_MAX = 10

#: Seconds. First wait after round one; it doubles.
ROUND_BACKOFF = 30
#: Seconds. Longest wait between later rounds.
ROUND_BACKOFF_MAX = 600
#: Seconds. Longest wait while the event's expires_at is still ahead.
ROUND_BACKOFF_URGENT = 30

#: Seconds. First wait before a held channel is probed; it doubles.
HOLD_BACKOFF = 5
#: Seconds. Longest wait between probes of a held channel.
HOLD_BACKOFF_MAX = 60

#: Seconds. Longest that a request of the approvals store waits for an answer.
MAX_APPROVAL_TIMEOUT = 30 * 86400
#: Seconds between two looks for requests that have run out, for reminders, and for requests nobody was told of.
SWEEP_EVERY = 1.0


def quick_wait(retries: int) -> int:
    """Seconds that Celery's autoretry waits after ``retries`` earlier retries: 2, 4, 8."""
    return min(QUICK_BACKOFF << retries, QUICK_BACKOFF_MAX)


def round_wait(rounds: int) -> int:
    """Seconds that an event waits after ``rounds`` earlier deferrals: 30 doubling to 600."""
    return min(ROUND_BACKOFF << min(rounds, 10), ROUND_BACKOFF_MAX)


def beat_lives(seconds_ago: float | None, batch_timeout: float) -> bool:
    """Whether beat, which gathers every ``batch_timeout`` seconds, has done so lately; None: it never did."""
    return seconds_ago is not None and seconds_ago <= max(_BEAT_ALIVE, 3 * batch_timeout)


def order_faults(
    *,
    smtp_timeout: float,
    soft_time_limit: float,
    hard_time_limit: float,
    visibility_timeout: float,
) -> list[str]:
    """Name each pair of times (all in seconds) that stands in the wrong order; empty: all is well.

    A send that outlives its lease, or a message redelivered while its first copy still runs,
    would be work done twice.
    """
    ladder = [
        ("a lease renewal and the longest SMTP step", RENEW_AFTER + max(smtp_timeout, FINAL_DOT_TIMEOUT)),
        ("the lease", LEASE),
        ("send_batch's budget", SEND_BUDGET),
        ("the soft time limit", soft_time_limit),
        ("the hard time limit", hard_time_limit),
        ("the broker's visibility_timeout", visibility_timeout),
    ]
    return [
        f"{lower} ({low:g} s) must be shorter than {upper} ({high:g} s)"
        for (lower, low), (upper, high) in itertools.pairwise(ladder)
        if low >= high
    ]
