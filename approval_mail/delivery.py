"""One claim on its way out: begun under its lease, sent over one SMTP session, tried again or put off."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence

from approval_mail import timing
from approval_mail.errors import ChannelTrouble, InvalidRecord, LeaseLost, TryAgain
from approval_mail.events import ApprovalEvent
from approval_mail.links import Links
from approval_mail.mailer import Mailer
from approval_mail.rendering import Renderer
from approval_mail.sending import Parcel, Sender
from approval_mail.store import Claim, EventStore

logger = logging.getLogger(__name__)


class Lease:
    """Keeps a claim's lease alive while SMTP steps go by."""

    def __init__(self, store: EventStore, claim: Claim, *, clock: Callable[[], float]) -> None:
        self._store = store
        self._claim = claim
        self._clock = clock
        self._renewed = clock()

    def keep(self) -> None:
        """Renew if it is time to; raises LeaseLost when nothing of the claim is held any more."""
        if self._clock() - self._renewed >= timing.RENEW_AFTER:
            self.extend()

    def extend(self, more: float = 0) -> None:
        """Renew now, by ``more`` seconds above the usual; raises LeaseLost."""
        if not self._store.renew(self._claim.token, self._claim.event_ids, seconds=timing.LEASE + more):
            raise LeaseLost(self._claim.token)
        self._renewed = self._clock()


class Delivery:
    """Sends claims; its parts are strangers to one another and meet only here."""

    def __init__(
        self,
        store: EventStore,
        renderer: Callable[[str], Renderer],
        mailer: Mailer,
        links: Links | None = None,
        *,
        digest_threshold: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``renderer`` gives that of a language, empty for NOTIFICATION_LANGUAGE.

        ``links`` go into mails about requests that can be decided; a recipient of more than ``digest_threshold`` events
        of one claim gets one mail about them, 0: nobody does. ``clock`` counts seconds and never goes back.
        """
        self._store = store
        self._sender = Sender(store, renderer, links, digest_threshold=digest_threshold, clock=clock)
        self._mailer = mailer
        self._clock = clock

    def send(self, claim: Claim, *, attempt: int) -> dict[str, int]:
        """Send what is open in a claim; answers what became of its mails since it was claimed.

        ``attempt`` counts Celery's tries from 0. Raises TryAgain while round one has tries left for
        what failed; on the last it defers that and returns.
        """
        if self._has_to_be_tried_again(claim, attempt):
            # Raised where no mail is in reach: Celery keeps what is raised, and the frames that it came through, in a
            # cycle, until Python looks for garbage. Nor with its cause: a server's words may hold addresses, and
            # Celery shows tracebacks to whoever watches tasks.
            raise TryAgain("mails remain that may be accepted shortly")
        return self._store.tally(claim.token)

    def _has_to_be_tried_again(self, claim: Claim, attempt: int) -> bool:
        """Send; put off or give back what is not to be tried again soon. If anything is, the lease covers the wait."""
        started = self._clock()
        parcels = list(self._open_parcels(claim, attempt))
        held = self._store.channel_wait(claim.token)
        if held:
            # Each login would be refused as well, and some servers lock an account for that: the probe tells.
            self._put_off(claim, parcels, *held)
            return False
        # A claim that probes the channel does so even if all of it turns out to be moot.
        if parcels or self._store.count().held_since:
            lease = Lease(self._store, claim, clock=self._clock)
            try:
                with self._mailer.session(lease.keep) as session:
                    works = functools.cache(self._channel_works)  # Said once, as soon as the server answered to a mail.
                    until = started + timing.SEND_BUDGET
                    self._sender.send(claim.token, parcels, session, until=until, works=works)
                    if not session.used:
                        session.probe(())
                        works()
            except LeaseLost:
                logger.warning("Claim %s lost its lease; what it held is sent by another worker", claim.token)
            except ChannelTrouble as trouble:
                return self._channel_fails(claim, parcels, trouble, lease, attempt)
            else:
                return self._mails_fail(claim, parcels, lease, attempt)
        return False

    def _open_parcels(self, claim: Claim, attempt: int) -> Iterator[Parcel]:
        begun = self._clock()
        work, suppressed = self._store.begin(claim.token, claim.event_ids, attempt=attempt)
        for event_id, reason in suppressed.items():
            logger.info("Suppressed %s: %s", event_id, reason)
        for item in work:
            try:
                event = ApprovalEvent.from_json(item.record)
                if event.event_id != item.event_id:
                    raise InvalidRecord("the record is another event's")
                yield Parcel(item, event, begun)
            except InvalidRecord as error:
                self._store.bury(claim.token, item.event_id, phase="record", reason=str(error))
                logger.error("Dead %s: %s", item.event_id, error)

    def _channel_works(self) -> None:
        seconds = self._store.unhold()
        if seconds is not None:
            logger.info("Channel %s works again after %.0f s", self._mailer.channel, seconds)

    def _channel_fails(
        self, claim: Claim, parcels: Sequence[Parcel], trouble: ChannelTrouble, lease: Lease, attempt: int
    ) -> bool:
        """Spend no attempts of what waits: try again soon if that may help, else hold the channel and defer."""
        held = self._store.count().held_since is not None
        for parcel in parcels:
            if parcel.doubtful:  # As without the trouble: another try soon may be a duplicate.
                self._defer(claim, parcel)
        parcels = [parcel for parcel in parcels if not parcel.doubtful]
        if not trouble.permanent and not held and attempt < timing.QUICK_RETRIES:
            logger.warning("Channel trouble, try %d: %s", attempt + 1, trouble.reason)
            if self._covers_another_try(lease, attempt):
                return True
        wait, news = self._store.hold(reason=trouble.reason, next_step=trouble.next_step, kind=trouble.kind)
        if news:
            logger.error("Channel held: %s; next step: %s", trouble.reason, trouble.next_step)
        self._put_off(claim, parcels, wait, trouble.reason)
        return False

    def _put_off(self, claim: Claim, parcels: Sequence[Parcel], wait: float, reason: str) -> None:
        waits = {parcel.work.event_id: wait for parcel in parcels}
        self._store.defer(claim.token, waits, reason=reason, spend_round=False)

    def _mails_fail(self, claim: Claim, parcels: Sequence[Parcel], lease: Lease, attempt: int) -> bool:
        """Give back what was not tried, defer what failed; answers whether some of it is to be tried again soon."""
        untried = [p.work.event_id for p in parcels if not p.failed and p.tried < len(p.work.recipients)]
        if untried:
            self._store.release(claim.token, untried)
        soon = False
        for parcel in parcels:
            if not parcel.failed:
                continue
            if parcel.work.rounds == 0 and attempt < timing.QUICK_RETRIES and not parcel.doubtful:
                soon = True
                continue
            self._defer(claim, parcel)
        return soon and self._covers_another_try(lease, attempt)

    def _defer(self, claim: Claim, parcel: Parcel) -> None:
        """Put off to its next round, for what failed last."""
        reason = next(reversed(parcel.failed.values()))
        wait = timing.round_wait(parcel.work.rounds)
        self._store.defer(claim.token, {parcel.work.event_id: wait}, reason=reason)

    @staticmethod
    def _covers_another_try(lease: Lease, attempt: int) -> bool:
        """Have the lease last until then; False: nothing is left of it to try again."""
        try:
            lease.extend(timing.quick_wait(attempt))
        except LeaseLost:
            return False
        return True
