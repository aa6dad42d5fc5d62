"""The mails of one claim over one SMTP session, one by one or many events in a digest; each settled when known."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from approval_mail import timing
from approval_mail.addresses import Recipient
from approval_mail.errors import ChannelTrouble, LeaseLost, TemplateFailed
from approval_mail.events import ApprovalEvent
from approval_mail.links import Links
from approval_mail.mailer import Session
from approval_mail.rendering import MAX_DIGEST, Content, Entry, Renderer
from approval_mail.store import EventStore, Verdict, Work, counters

logger = logging.getLogger(__name__)

#: Steps in which a server may speak of what a mail says, or of its size: of a digest, any event may be why.
_ABOUT_CONTENT = frozenset(("render", "mail", "data", "content", "dot"))
#: Mails that one claim sends one by one after its digests.
_SINGLES = 50


@dataclass(slots=True)
class Parcel:
    """An event of the claim, read back, with what happened to it in this try."""

    work: Work
    event: ApprovalEvent
    #: When this try began, by the delivery's clock.
    begun: float
    #: What it says to those who read one language in one zone and get no links.
    contents: dict[tuple[str, str], Content] = field(default_factory=dict)
    #: Mails that failed in a way that may pass, as address and reason.
    failed: dict[str, str] = field(default_factory=dict)
    #: One of those may have been accepted after all: another try is put off, lest it be a duplicate.
    doubtful: bool = False
    #: Mails whose try has ended, whatever came of it.
    tried: int = 0


class Sender:
    """Sends the mails of one claim."""

    def __init__(
        self,
        store: EventStore,
        renderer: Callable[[str], Renderer],
        links: Links | None,
        *,
        digest_threshold: int,
        clock: Callable[[], float],
    ) -> None:
        """``renderer`` gives that of a language, empty for NOTIFICATION_LANGUAGE; the rest is as in `Delivery`."""
        self._store = store
        self._renderer = renderer
        self._links = links
        self._digest_threshold = digest_threshold
        self._clock = clock

    def send(
        self, token: str, parcels: Sequence[Parcel], session: Session, *, until: float, works: Callable[[], None]
    ) -> None:
        """Send everything that is open, digests first; starts no mail at ``until`` or later, by the clock.

        ``works`` is called after mails that the server answered to. Raises ChannelTrouble or LeaseLost; what was under
        way is settled by then.
        """
        mails = [(parcel, recipient) for parcel in parcels for recipient in parcel.work.recipients]
        in_digests: set[tuple[str, Recipient]] = set()
        refused = False
        # Whatever waits, something is sent: claims that each gave way at once would send nothing between them.
        patient_until = self._clock() + timing.URGENT_PATIENCE
        for number, (recipient, members) in enumerate(self._digests(mails)):
            now = self._clock()
            if now >= until:
                break
            urgent = any(parcel.event.kind.urgent for parcel in members)
            if number and not urgent and now >= patient_until and self._store.urgent_waits():
                return
            done = self._send_digest(token, recipient, members, session)
            if session.answered:
                works()
            in_digests.update((parcel.work.event_id, recipient) for parcel in done)
            refused |= len(done) < len(members)
        rest = [mail for mail in mails if (mail[0].work.event_id, mail[1]) not in in_digests]
        if in_digests and not refused:
            # One claim holds all that went into digests. What else is sent of it goes out in claims of the usual size.
            rest = rest[:_SINGLES]
        self._send_singly(token, rest, session, until=until, patient_until=patient_until, works=works)

    def _digests(self, mails: Sequence[tuple[Parcel, Recipient]]) -> Iterator[tuple[Recipient, list[Parcel]]]:
        """Recipients of more events than the threshold, with those events, at most MAX_DIGEST to a mail.

        A mail that failed a whole round, or of an earlier try of which nothing is known, goes by itself: it may be
        what makes servers refuse, or workers die.
        """
        if not self._digest_threshold:
            return
        of_recipient: dict[Recipient, list[Parcel]] = defaultdict(list)
        for parcel, recipient in mails:
            if not parcel.work.rounds and recipient.address not in parcel.work.doubtful:
                of_recipient[recipient].append(parcel)
        for recipient, parcels in of_recipient.items():
            if len(parcels) > self._digest_threshold:
                for start in range(0, len(parcels), MAX_DIGEST):
                    yield recipient, parcels[start : start + MAX_DIGEST]

    def _send_digest(
        self, token: str, recipient: Recipient, parcels: Sequence[Parcel], session: Session
    ) -> list[Parcel]:
        """Answers the events that it is done with: all of them, unless what they say was refused together."""
        marked = self._store.mark_each(token, [(parcel.work.event_id, recipient.address) for parcel in parcels])
        going = []
        for parcel, answer in zip(parcels, marked, strict=True):
            if _goes(parcel, answer):
                going.append(parcel)
            else:
                parcel.tried += 1
        if not going:
            return list(parcels)
        try:
            verdict, counts = self._try_digest(going, recipient, session)
        except (ChannelTrouble, LeaseLost) as error:
            self._settle_each(token, recipient, [(parcel, _unspent(error)) for parcel in going])
            raise
        if verdict.state == "dead" and verdict.phase in _ABOUT_CONTENT and len(going) > 1:
            logger.warning("Refused in %s, its events go one by one: %s", verdict.phase, verdict.reason)
            first, *others = going
            counts[counters.field("attempts", verdict.state, verdict.phase)] = 1
            unspent = [(first, Verdict("unspent", counts=counts)), *((parcel, Verdict("unspent")) for parcel in others)]
            self._settle_each(token, recipient, unspent)
            return [parcel for parcel in parcels if parcel not in going]
        verdicts = []
        for parcel in going:
            parcel.tried += 1
            _tell(parcel, recipient, verdict)
            verdicts.append((parcel, replace(verdict, counts={**counts, **self._counts(parcel, verdict)})))
            counts = {}
        self._settle_each(token, recipient, verdicts)
        return list(parcels)

    def _settle_each(self, token: str, recipient: Recipient, verdicts: Sequence[tuple[Parcel, Verdict]]) -> None:
        """Settle a digest's mails in one round trip, so that a worker that dies will hardly leave a part to repeat."""
        settled = [(parcel.work.event_id, recipient.address, verdict) for parcel, verdict in verdicts]
        for (parcel, _), state in zip(verdicts, self._store.settle_each(token, settled), strict=True):
            _report(parcel, state)

    def _send_singly(
        self,
        token: str,
        mails: Sequence[tuple[Parcel, Recipient]],
        session: Session,
        *,
        until: float,
        patient_until: float,
        works: Callable[[], None],
    ) -> None:
        """Send mail after mail: one store call settles the last and marks the next."""
        settled: tuple[str, str, Verdict] | None = None
        spent: Parcel | None = None
        for parcel, recipient in mails:
            now = self._clock()
            if now >= until:
                break
            mail = (parcel.work.event_id, recipient.address)
            # The first goes in any case: a digest that was refused may have taken all the time that there was.
            patient = spent is None or now < patient_until
            state, answer = self._store.settle(token, settled=settled, upcoming=mail, patient=patient)
            _report(spent, state)
            if session.answered:
                works()
            if spent is not None and spent is not parcel:
                spent.contents.clear()  # A claim of a hundred events would keep megabytes until its end.
            settled, spent = None, parcel
            if answer == "yield":
                break
            if not _goes(parcel, answer):
                parcel.tried += 1
                continue
            try:
                verdict, counts = self._try(parcel, recipient, session)
            except (ChannelTrouble, LeaseLost) as error:
                self._store.settle(token, settled=(*mail, _unspent(error)))
                raise
            parcel.tried += 1
            _tell(parcel, recipient, verdict)
            settled = (*mail, replace(verdict, counts={**counts, **self._counts(parcel, verdict)}))
        if settled:
            state, _ = self._store.settle(token, settled=settled)
            _report(spent, state)
            if session.answered:
                works()

    def _try(self, parcel: Parcel, recipient: Recipient, session: Session) -> tuple[Verdict, dict[str, int]]:
        """One try of one mail, and the counts of its transaction."""
        now = self._now(parcel)
        try:
            content = self._content(parcel, recipient, now)
            zone = _zone(recipient.timezone)
            raw = self._renderer(recipient.language).compose(parcel.event, content, recipient.address, now, zone)
        except TemplateFailed as error:
            return Verdict("dead", phase="render", reason=str(error)), {}
        return self._hand_over(recipient, raw, session)

    def _try_digest(
        self, parcels: Sequence[Parcel], recipient: Recipient, session: Session
    ) -> tuple[Verdict, dict[str, int]]:
        """One try of one mail about several events; of the counts, those of the mail as a whole."""
        if len(parcels) == 1:
            return self._try(parcels[0], recipient, session)
        now, zone, renderer = self._now(parcels[0]), _zone(recipient.timezone), self._renderer(recipient.language)
        entries = [Entry(parcel.event, **self._urls(parcel, recipient)) for parcel in parcels]
        try:
            content = renderer.render_digest(entries, now, timezone=zone)
            raw = renderer.compose_digest(entries, content, recipient.address, now, zone)
        except TemplateFailed as error:
            return Verdict("dead", phase="render", reason=str(error)), {}
        verdict, counts = self._hand_over(recipient, raw, session)
        verdict = replace(verdict, reason=f"{verdict.reason} (in a digest of {len(parcels)})")
        return verdict, {**counts, **({counters.field("digests"): 1} if verdict.state == "sent" else {})}

    def _hand_over(self, recipient: Recipient, raw: bytes, session: Session) -> tuple[Verdict, dict[str, int]]:
        began = self._clock()
        reply = session.send(recipient.address, raw)
        took = self._clock() - began
        counts = {
            counters.field("smtp", counters.bucket(took, counters.SMTP_BOUNDS)): 1,
            counters.field("smtp_ms"): round(took * 1000),
        }
        return Verdict(reply.state, reply.code, reply.phase, reply.reason), counts

    def _counts(self, parcel: Parcel, verdict: Verdict) -> dict[str, int]:
        """What a verdict on one mail adds to the counters."""
        counts = {counters.field("attempts", verdict.state, verdict.phase): 1}
        if verdict.state == "sent":
            seconds = max(0.0, (self._now(parcel) - parcel.work.happened_at).total_seconds())
            counts[counters.field("accepted", parcel.event.type)] = 1
            counts[counters.field("delivery", counters.bucket(seconds, counters.DELIVERY_BOUNDS))] = 1
            counts[counters.field("delivery_ms")] = round(seconds * 1000)
        return counts

    def _now(self, parcel: Parcel) -> datetime:
        """By the store's clock: this machine's may be off."""
        return parcel.work.begun_at + timedelta(seconds=self._clock() - parcel.begun)

    def _content(self, parcel: Parcel, recipient: Recipient, now: datetime) -> Content:
        """What the mail says: the same to all who read it alike, but for links of one's own. Raises TemplateFailed."""
        renderer, zone = self._renderer(recipient.language), _zone(recipient.timezone)
        urls = self._urls(parcel, recipient)
        if urls:
            return renderer.render(parcel.event, now, timezone=zone, **urls)
        reader = (recipient.language, recipient.timezone)
        if reader not in parcel.contents:
            parcel.contents[reader] = renderer.render(parcel.event, now, timezone=zone)
        return parcel.contents[reader]

    def _urls(self, parcel: Parcel, recipient: Recipient) -> dict[str, str]:
        """The recipient's own links into a mail about a request that can be decided."""
        event = parcel.event
        if self._links and event.decidable and event.kind.asks:
            return self._links.urls(event.request_id, recipient.address, event.requested_at)
        return {}


def _goes(parcel: Parcel, answer: str) -> bool:
    """Whether the store lets a mail go; if not, says why."""
    event_id = parcel.work.event_id
    if answer.startswith("moot"):
        logger.info("Suppressed %s: %s", event_id, answer)
    if answer == "buried":
        logger.error("Dead %s: the outcome of too many tries is unknown", event_id)
    return answer == "go"


def _tell(parcel: Parcel, recipient: Recipient, verdict: Verdict) -> None:
    """Log what is not an acceptance, and keep it in mind for the next try."""
    if verdict.phase == "render":
        logger.error("Dead %s: %s", parcel.event.event_id, verdict.reason)
    elif verdict.state == "dead":
        logger.error("Dead %s: refused for good in %s: %s", parcel.event.event_id, verdict.phase, verdict.reason)
    elif verdict.state != "sent":
        parcel.failed[recipient.address] = f"{verdict.phase}: {verdict.reason}"
        parcel.doubtful |= verdict.state == "unknown"
        logger.warning("Not accepted %s: %s in %s: %s", parcel.event, verdict.state, verdict.phase, verdict.reason)


def _report(parcel: Parcel | None, state: str) -> None:
    if parcel and state == "sent":
        logger.info("Notification sent for %s", parcel.event)


def _unspent(error: ChannelTrouble | LeaseLost) -> Verdict:
    """A verdict that spends no attempt. Nothing is counted once the lease was lost: its token settles no more."""
    counts = {counters.field("attempts", "unspent", error.phase): 1} if isinstance(error, ChannelTrouble) else {}
    return Verdict("unspent", reason=str(error), counts=counts)


@lru_cache(maxsize=256)
def _zone(name: str) -> tzinfo | None:
    """A time zone by its name; None, that is NOTIFICATION_TIMEZONE, for none or one unknown to this machine."""
    try:
        return ZoneInfo(name) if name else None
    except (ValueError, OSError, KeyError) as error:
        logger.error("Time zone %r is unknown to this machine (%s): install its time zone data", name, error)
        return None
