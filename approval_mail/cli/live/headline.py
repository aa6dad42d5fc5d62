"""Is mail going out? One sentence, from what was seen. Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from approval_mail import timing
from approval_mail.cli.live.looks import Look, Lost
from approval_mail.cli.output import plural, routes_faults
from approval_mail.overview import Around

#: Seconds that an event may be due for, or three batch timeouts: outcomes wait for company.
_PATIENCE = 30.0
#: Seconds that have to be seen before it is said that nothing moves.
_LONG_ENOUGH = 10.0


class Level(enum.Enum):
    """How things stand, as the word that is shown: a colour alone would say nothing to some."""

    OK = "OK"
    CHECK = "CHECK"
    STOPPED = "STOPPED"
    OFF = "OFF"
    LOOKING = "LOOKING"


@dataclass(frozen=True, slots=True)
class Headline:
    """The one sentence to read, without its full stop."""

    level: Level
    sentence: str
    #: What the operator does now; empty if nothing.
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the sentence is made from."""

    enabled: bool
    #: NOTIFICATION_BATCH_TIMEOUT, seconds.
    batch_timeout: float
    #: The last look that succeeded; None: none did.
    look: Look | None
    around: Around | None
    #: The first look that failed since then; None: the last one succeeded.
    lost: Lost | None
    #: Seconds since a look was last answered, beyond what is usual; 0: nothing is overdue.
    overdue: float
    #: Seconds, a minute at the most, that these are counted over: mails accepted, and tries that failed.
    seen: float
    accepted: int
    failed: int
    #: Mails that died, and events that came back from workers that did not finish, within the last minutes.
    died: int
    rescued: int


def headline(facts: Facts, moment: Callable[[datetime], str]) -> Headline:
    """The most important thing to know; ``moment`` tells a time to a person."""
    return next(_in_order(facts, moment))


def spoken(seconds: float) -> str:
    """A span of time in its largest unit: ``1.5 s``, ``45 s``, ``3 min``, ``2 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _in_order(facts: Facts, moment: Callable[[datetime], str]) -> Iterator[Headline]:
    if facts.lost:
        yield Headline(
            Level.STOPPED,
            f"Redis has been unusable since {moment(facts.lost.at)} ({facts.lost.reason})",
            "check REDIS_URL and that the server is running; hooks spool meanwhile",
        )
    if facts.overdue:
        yield Headline(Level.CHECK, f"Redis has not answered for {spoken(facts.overdue)}", "wait, or check the server")
    if facts.look is None:
        yield Headline(Level.LOOKING, "Redis is being asked")
        return
    counts = facts.look.counts
    if not (facts.enabled or counts.pending or counts.deferred or counts.claimed):
        yield Headline(Level.OFF, *_disabled())
    yield from _stopped(facts, facts.look, moment)
    if facts.around is None:
        yield Headline(Level.LOOKING, "Workers are being asked")
        return
    yield from _to_be_checked(facts, facts.look, facts.around)
    yield Headline(Level.OK, f"Mail is going out: {_what_goes(facts, facts.look)}")


def _stopped(facts: Facts, look: Look, moment: Callable[[datetime], str]) -> Iterator[Headline]:
    """Why no mail goes out."""
    counts, around = look.counts, facts.around
    oldest = counts.oldest_pending_seconds or 0
    if around and not around.workers and not facts.accepted:
        if around.fault:
            yield Headline(
                Level.STOPPED,
                f"Mail is NOT going out: the broker cannot be used ({around.fault})",
                "check CELERY_BROKER_URL (unset: REDIS_URL) and the server",
            )
        yield Headline(
            Level.STOPPED,
            "Mail is NOT going out: no worker consumes the queue approval_mail",
            "start one: celery -A approval_mail worker",
        )
    if counts.held_since:
        yield Headline(
            Level.STOPPED,
            f"Mail is NOT going out: the channel has been held since {moment(counts.held_since)}: {counts.held_reason}",
            counts.held_next_step or "",
        )
    if oldest > _patience(facts) and not facts.accepted and facts.seen >= _LONG_ENOUGH:
        yield Headline(
            Level.STOPPED,
            f"Mail is NOT going out: {plural(counts.pending, 'event')} due, for up to {spoken(oldest)}, and no mail "
            f"was accepted in {_span(facts)}",
            "look into the worker's log",
        )


def _to_be_checked(facts: Facts, look: Look, around: Around) -> Iterator[Headline]:
    """What is wrong while mail goes out all the same."""
    counts = look.counts
    if facts.failed and not facts.accepted:
        newest = look.failures[0].reason if look.failures else "see the worker's log"
        yield Headline(
            Level.CHECK,
            f"No mail was accepted in {_span(facts)}, and {_tries(facts.failed)}: {newest}",
            "they are tried again; see the last failures",
        )
    if facts.rescued and not facts.accepted and (counts.pending or counts.claimed):
        yield Headline(
            Level.CHECK,
            f"No mail was accepted in {_span(facts)}, and {plural(facts.rescued, 'event')} came back from workers that "
            "did not finish",
            "look into the workers' logs",
        )
    if (counts.oldest_pending_seconds or 0) > _patience(facts):
        late = spoken(counts.oldest_pending_seconds or 0)
        yield Headline(
            Level.CHECK, f"Mail is going out, but late: an event has been due for {late}", "more workers may help"
        )
    if not around.workers:
        yield Headline(Level.CHECK, "Mail is going out, but no worker answers", "check the broker and the workers")
    beat = counts.beat_seconds_ago
    if not timing.beat_lives(beat, facts.batch_timeout):
        seen = "has never been seen" if beat is None else f"has not been seen for {spoken(beat)}"
        yield Headline(
            Level.CHECK, f"Mail is going out, but beat {seen}", "start exactly one: celery -A approval_mail beat"
        )
    if counts.untold:
        yield Headline(
            Level.CHECK,
            f"Mail is going out, but nobody was told of {plural(counts.untold, 'request')} by half of the time",
            "approval-admin list",
        )
    if facts.died:
        yield Headline(
            Level.CHECK,
            f"Mail is going out, but {plural(facts.died, 'mail')} died in the last minutes",
            "approval-mail dead list",
        )
    for fault in routes_faults(look.routes_faults):
        yield Headline(
            Level.CHECK,
            f"Mail is going out by the routes as they were, the last version is not taken: {fault}",
            "mend the file",
        )
    if around.spool_fault:
        yield Headline(Level.CHECK, f"Mail is going out, but {around.spool_fault}")
    if around.spooled:
        yield Headline(
            Level.CHECK,
            f"Mail is going out, but this host's spool holds {plural(around.spooled, 'event')}",
            "approval-mail spool replay",
        )
    if not facts.enabled:
        sentence, next_step = _disabled()
        yield Headline(Level.CHECK, f"What was recorded goes out, but {sentence}", next_step)


def _disabled() -> tuple[str, str]:
    return "notifications are disabled: hooks record nothing", "set NOTIFICATION_ENABLED=true"


def _what_goes(facts: Facts, look: Look) -> str:
    counts = look.counts
    if facts.accepted:
        return f"{plural(facts.accepted, 'mail')} accepted in {_span(facts)}"
    if counts.pending:
        return f"{plural(counts.pending, 'event')} due, for up to {spoken(counts.oldest_pending_seconds or 0)}"
    if counts.claimed:
        return f"{plural(counts.claimed, 'event')} claimed"
    return f"nothing is due, {plural(counts.deferred, 'event')} deferred" if counts.deferred else "nothing waits"


def _tries(count: int) -> str:
    return "a try failed" if count == 1 else f"{count:,} tries failed"


def _span(facts: Facts) -> str:
    return "the last minute" if facts.seen > 59 else f"the last {max(facts.seen, 1):.0f} s"


def _patience(facts: Facts) -> float:
    return max(_PATIENCE, 3 * facts.batch_timeout)
