"""How things stand, in one look: what `status`, its live page and the metrics show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from approval_mail import services
from approval_mail.celery import consumers
from approval_mail.errors import SpoolUnavailable
from approval_mail.store import Counts


@dataclass(frozen=True, slots=True)
class Around:
    """What is not in the store: the workers, and this host's spool."""

    at: datetime
    #: Workers that consume the queue.
    workers: int
    #: Why they could not be asked; None: they were.
    fault: str | None
    #: Events on this host's disk.
    spooled: int
    spool_folder: Path
    #: Why the spool takes nothing, and what to do about it; None: it has room.
    spool_fault: str | None


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything an operator asks about first."""

    enabled: bool
    counts: Counts
    around: Around
    #: As `Notices.routes_faults`.
    routes_faults: Mapping[str, str]


def look() -> Overview:
    """How things stand. Waits a second for workers to answer; raises InvalidSettings, or StoreError without Redis."""
    enabled = services.settings().enabled
    around, store = look_around(), services.operator_store()
    # After the workers have answered, so that all of it is of one moment.
    return Overview(enabled, store.count(), around, store.notices.routes_faults())


def look_around() -> Around:
    """Ask the workers and look at this host's spool, in a second.

    A broker out of reach, or a spool that takes nothing, is in the answer.
    """
    at = datetime.now(timezone.utc)
    workers, fault, spool_fault = 0, None, None
    try:
        workers = consumers()
    except Exception as error:  # Each broker's library raises its own.
        fault = f"{type(error).__name__}: {error}"
    spool = services.spool()
    try:
        spool.probe()
    except SpoolUnavailable as error:
        spool_fault = f"{error}; {error.next_step}"
    return Around(at, workers, fault, len(spool.paths()), spool.folder, spool_fault)
