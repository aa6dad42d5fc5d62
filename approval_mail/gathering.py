"""What one gather does: bring back what was lost, mind the channel, claim what is due."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence

from approval_mail.addressing import Addressing, Load
from approval_mail.batching import plan, room_from
from approval_mail.store import Claim, EventStore, StoreError, Survey

logger = logging.getLogger(__name__)


def gather(
    store: EventStore, addressing: Addressing, *, batch_size: int, by_beat: bool = False, due: int = 0
) -> list[Claim]:
    """Claim everything due, in batches; nothing while the channel is held, one batch to probe it with.

    ``due`` names the wake-up that started this.
    """
    survey = store.rescue(by_beat=by_beat, due=due)
    if survey.rescued:
        logger.warning("Rescued %d events whose lease had run out", survey.rescued)
    if survey.channel == "held":
        postponed = store.postpone()
        if postponed:
            # Not one more line for each event that comes in meanwhile: the channel's trouble is told once.
            logger.debug("%d events wait for the held channel's next probe", postponed)
        return []
    token = secrets.token_hex(8)
    if survey.channel == "probe":
        claims = addressing.claims(store, token, [Load(store.take(batch_size, token=token), batch_size)])
        # Also where nothing waits any more: whoever looks shall not read for hours of trouble that has passed.
        return claims or [Claim(token, (), about="a probe of the channel")]
    loads: list[Load] = []
    waiting = [(survey.due, False)]
    if survey.claimed or survey.due > batch_size:
        # Not all goes out at once: the urgent ones, for which someone waits, in claims of their own and ahead.
        waiting.insert(0, (survey.urgent, True))
    for events, urgent in waiting:
        taken = sum(len(load.taken) for load in loads)
        wanted = plan(
            due=events - taken,
            claimed=survey.claimed + taken,
            lately=survey.lately,
            batch_size=batch_size,
            urgent=urgent,
        )
        if wanted.tasks:
            size = wanted.events_per_task
            try:
                loads.append(Load(store.take(wanted.tasks * size, token=token, urgent=urgent), size, urgent))
            except StoreError as error:
                if not loads:
                    raise
                logger.warning("Redis takes no more claims (%s): those it took go out", error)
    claims = addressing.claims(store, token, loads) if any(load.taken for load in loads) else []
    _note_room(store, survey, loads, batch_size)
    return claims


def _note_room(store: EventStore, survey: Survey, loads: Sequence[Load], batch_size: int) -> None:
    """Of what stays pending for want of room, say when there is room: gathers before that would be in vain."""
    left = survey.due - sum(len(load.taken) for load in loads)
    urgent = survey.urgent - sum(len(load.taken) for load in loads if load.urgent)
    try:
        if left > 0:
            store.note_room(
                room_from(due=left, lately=survey.lately, batch_size=batch_size),
                urgent_from=room_from(due=max(1, urgent), lately=survey.lately, batch_size=batch_size, urgent=True),
            )
        elif survey.noted:
            store.note_room(None)
    except StoreError as error:
        logger.warning("Redis takes no note of what waits for room (%s): what was claimed goes out", error)
