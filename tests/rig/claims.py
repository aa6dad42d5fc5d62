"""Claims as a gather makes them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from approval_mail.addressing import Addressing, Load
from approval_mail.routing import Routes
from approval_mail.store import Claim, EventStore


def claims(
    store: EventStore, *, groups: int, size: int, recipients: Sequence[str], urgent: bool = False
) -> list[Claim]:
    """Claim due events, the urgent ones alone or all, in so many groups of ``size`` at the most."""
    token = secrets.token_hex(8)
    load = Load(store.take(groups * size, token=token, urgent=urgent), size, urgent)
    return Addressing(recipients, Routes()).claims(store, token, [load])
