"""Many events for one recipient in one mail: in which order, and what its template can name. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from jinja2 import Template

from approval_mail.events import ApprovalEvent
from approval_mail.rendering.variables import variables

#: Events; more for one recipient are further digests. So many with links still fit what Gmail shows of a mail.
MAX_DIGEST = 100
#: Bytes of HTML. Gmail clips a mail at 102 KB; the rest is for what a relay may add.
MAX_PAGE = 100_000
#: From the roomiest: characters that an entry's texts may take each, and whether the entries' styles stand in the head
#: once, which some mail programs ignore, rather than on each of them. The first whose page fits is taken.
ROOMS = ((90, False), (90, True), (48, True), (24, True), (12, True))
#: What an entry may be, in the order in which readers need them: a request that waits for an answer, one whose deadline
#: has passed, one whose end the same digest tells, the news that nobody answered, an answer.
GROUPS = ("waiting", "expired", "ended", "timeout", "outcome")


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of a digest, with its recipient's own links where there are any."""

    event: ApprovalEvent
    approve_url: str = ""
    reject_url: str = ""


def in_order(entries: Sequence[Entry], now: datetime) -> list[tuple[str, Entry]]:
    """The entries with their groups, one of GROUPS each: group by group, the most urgent first, else the oldest."""
    ended = {entry.event.request_id for entry in entries if entry.event.kind.outcome}

    def rank(placed: tuple[str, Entry]) -> tuple[Any, ...]:
        group, event = placed[0], placed[1].event
        since = event.occurred_at
        deadline = None
        if event.kind.asks:
            since, deadline = event.requested_at or since, event.expires_at
        return GROUPS.index(group), deadline is None, deadline or since, since, event.event_id

    return sorted(((_group(entry.event, now, ended), entry) for entry in entries), key=rank)


def digest_variables(
    entries: Sequence[Entry], now: datetime, *, timezone: tzinfo | None, durations: Template
) -> dict[str, Any]:
    """Everything that digest.html and digest.txt can name; raises IndexError without an entry.

    Beside ``entries``, what a mail of one event can name is here that of the first one, so that a base.html finds it.
    """
    placed = in_order(entries, now)
    shown = [
        {
            **variables(
                entry.event,
                now,
                timezone=timezone,
                durations=durations,
                approve_url=entry.approve_url,
                reject_url=entry.reject_url,
            ),
            "group": group,
        }
        for group, entry in placed
    ]
    waiting = {entry.event.request_id for group, entry in placed if group == "waiting"}
    return {
        **shown[0],
        "event_type": "digest",
        "entries": shown,
        "count": len(shown),
        # Requests, each once: a reminder asks for no second answer.
        "waiting": len(waiting),
        "others": sum(group != "waiting" for group, _ in placed),
    }


def _group(event: ApprovalEvent, now: datetime, ended: set[str]) -> str:
    """One of GROUPS; ``ended`` are the requests whose outcome the same digest tells."""
    if not event.kind.asks:
        return "timeout" if event.kind.unanswered else "outcome"
    if event.request_id in ended:
        return "ended"
    return "expired" if event.expires_at and event.expires_at <= now else "waiting"
