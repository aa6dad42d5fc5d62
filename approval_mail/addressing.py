"""Who receives the events that a gather took, and in which claims they go out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from approval_mail import descriptions
from approval_mail.addresses import Recipient
from approval_mail.errors import InvalidRecord
from approval_mail.events import ApprovalEvent
from approval_mail.routing import Routes
from approval_mail.store import Addressed, Claim, EventStore, Taken

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Load:
    """Events that were taken together, and how many of them go into one claim at the most."""

    taken: Sequence[Taken]
    size: int
    urgent: bool = False


class Addressing:
    """The rules of one installation."""

    def __init__(self, default: Sequence[str], routes: Routes, *, digest_threshold: int = 0) -> None:
        """``default`` is EMAIL_TO; who receives more than ``digest_threshold`` events gets a digest, 0: nobody does."""
        self._default = default
        self._routes = routes
        self._digest_threshold = digest_threshold

    def claims(self, store: EventStore, token: str, loads: Iterable[Load]) -> list[Claim]:
        """Freeze who receives what and hand everything to its claim; answers those that have something to send."""
        loads = list(loads)
        routed = {event.event_id: self._route(event) for load in loads for event in load.taken}
        records = {event.event_id: event.record for load in loads for event in load.taken}
        claims: list[Claim] = []
        for events, urgent in self._groups(loads, routed):
            own = f"{token}:{len(claims) + 1}"
            claims.append(Claim(own, tuple(events), urgent))
        rows = [replace(routed[event_id], token=claim.token) for claim in claims for event_id in claim.event_ids]
        left = store.address(token, rows)
        for row in rows:
            if row.state == "suppressed":
                logger.info("Suppressed %s: %s", row.event_id, row.reason)
            elif row.state == "dead":
                logger.error("Dead %s: %s", row.event_id, row.reason)
        return [_with_something(claim, left, records) for claim in claims if left.intersection(claim.event_ids)]

    def _route(self, taken: Taken) -> Addressed:
        if taken.recipients is not None:
            return Addressed(taken.event_id, "", taken.recipients, before=True)
        plain = tuple(Recipient(address) for address in taken.email_to or self._default)
        if not self._routes and '"also_to"' not in taken.record:
            return Addressed(taken.event_id, "", plain)
        try:
            event = ApprovalEvent.from_json(taken.record)
        except InvalidRecord:  # Whoever sends it buries it.
            return Addressed(taken.event_id, "", plain)
        routing = self._routes.route(event, self._default)
        for warning in routing.warnings:
            logger.warning("%s: %s", taken.event_id, warning)
        recipients = tuple(choice.recipient for choice in routing.choices)
        return Addressed(taken.event_id, "", recipients, routing.state, routing.phase, routing.reason)

    def _groups(self, loads: Sequence[Load], routed: dict[str, Addressed]) -> Iterable[tuple[list[str], bool]]:
        """Cut the loads into claims, but for what goes into digests: one claim holds all of that."""
        together = self._digested(routed[event.event_id] for load in loads for event in load.taken if not event.failed)
        urgent = any(load.urgent and event.event_id in together for load in loads for event in load.taken)
        if together:
            yield [event_id for event_id in routed if event_id in together], urgent
        for load in loads:
            ids = [event.event_id for event in load.taken if event.event_id not in together]
            for start in range(0, len(ids), load.size):
                yield ids[start : start + load.size], load.urgent

    def _digested(self, routed: Iterable[Addressed]) -> set[str]:
        if not self._digest_threshold:
            return set()
        open_ones = [event for event in routed if event.state == "open"]
        mails = Counter(recipient for event in open_ones for recipient in event.recipients)
        return {
            event.event_id
            for event in open_ones
            if any(mails[recipient] > self._digest_threshold for recipient in event.recipients)
        }


def _with_something(claim: Claim, left: set[str], records: dict[str, str]) -> Claim:
    """The claim without the events that have no mail to send."""
    ids = tuple(event_id for event_id in claim.event_ids if event_id in left)
    return Claim(claim.token, ids, claim.urgent, about=_about(records[ids[0]], len(ids)))


def _about(record: str, count: int) -> str:
    try:
        event = ApprovalEvent.from_json(record)
        first = descriptions.of_event(event.type, event.request_id, event.tool_name)
    except InvalidRecord:  # Whoever sends it buries it.
        first = "a damaged record"
    return descriptions.of_events(first, count)
