"""How things stand, in one look: what `status`, its live page and the metrics show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from approval_mail import services
from approval_mail.celery import consumers
from approval_mail.errors import SpoolUnavailable
from approval_mail.store import Counts


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything an operator asks about first."""

    enabled: bool
    counts: Counts
    #: Workers that consume the queue.
    workers: int
    #: Events on this host's disk.
    spooled: int
    spool_folder: Path
    #: Why the spool takes nothing, and what to do about it; None: it has room.
    spool_fault: str | None


def look() -> Overview:
    """Takes a second, which workers have to answer; raises InvalidSettings, or StoreError without Redis."""
    settings = services.settings()
    counts = services.operator_store().count()
    spool = services.spool()
    fault = None
    try:
        spool.probe()
    except SpoolUnavailable as error:
        fault = f"{error}; {error.next_step}"
    return Overview(settings.enabled, counts, consumers(), len(spool.paths()), spool.folder, fault)
