"""An application that works on the store itself: records in bulk, and gathers what is due."""

from __future__ import annotations

import os
import secrets
import time
from datetime import datetime, timezone

import redis

from approval_mail import services
from approval_mail.events import ApprovalEvent
from approval_mail.gathering import gather
from bench.events import request

#: Seconds after which no further gather begins.
_LONG = 5.0


def record(*, kind: str, first: int, count: int, payload: int = 0) -> None:
    """Make ``count`` events of this type pending, numbered from ``first`` on; no worker is told."""
    settings = services.settings()
    for number in range(first, first + count):
        event = ApprovalEvent.from_dict(
            kind, request(number, payload), now=datetime.now(timezone.utc), localise=settings.localise
        )
        services.store().record(
            event,
            nonce=secrets.token_hex(8),
            batch_size=settings.batch_size,
            batch_timeout=settings.batch_timeout,
            urgent_timeout=settings.urgent_timeout,
        )


def gathers(*, kind: str, count: int, alone: int = 0) -> list[tuple[float, int]]:
    """Gather ``count`` times, fewer if that takes long; answers the seconds of each and how many events it claimed.

    What was claimed is given back, so that as much is pending as before. With ``alone``, each gather finds
    only so many new events in an empty store.
    """
    settings, store = services.settings(), services.store()
    server = redis.Redis.from_url(os.environ["REDIS_URL"])
    taken: list[tuple[float, int]] = []
    while len(taken) < count and sum(seconds for seconds, _ in taken) < _LONG:
        if alone:
            server.flushdb()
            record(kind=kind, first=0, count=alone)
        began = time.perf_counter()
        claims = gather(store, services.addressing(), batch_size=settings.batch_size)
        taken.append((time.perf_counter() - began, sum(len(claim.event_ids) for claim in claims)))
        for claim in claims:
            store.release(claim.token, claim.event_ids)
    return taken
