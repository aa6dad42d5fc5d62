"""What one gather does: bring back what was lost, mind the channel, claim what is due."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from approval_mail.batching import Plan, plan
from approval_mail.store import Claim, EventStore

logger = logging.getLogger(__name__)


def gather(store: EventStore, *, batch_size: int, recipients: Sequence[str], by_beat: bool = False) -> list[Claim]:
    """Claim everything due, in batches; nothing while the channel is held, one batch to probe it with.

    ``recipients`` receive every event that names none itself.
    """
    survey = store.rescue(by_beat=by_beat)
    if survey.rescued:
        logger.warning("Rescued %d events whose lease had run out", survey.rescued)
    if survey.channel == "held":
        postponed = store.postpone()
        if postponed:
            logger.info("Channel held: %d events wait for the next probe", postponed)
        return []
    if survey.channel == "probe":
        wanted = Plan(tasks=1, events_per_task=batch_size)
    else:
        wanted = plan(due=survey.due, claimed=survey.claimed, batch_size=batch_size)
    if not wanted.tasks:
        return []
    return store.claim(groups=wanted.tasks, size=wanted.events_per_task, recipients=recipients)
