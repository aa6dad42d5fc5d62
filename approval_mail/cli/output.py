"""How commands print what they found, for other programs and for people."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from approval_mail import services
from approval_mail.approvals import records
from approval_mail.approvals.values import Approval, Status
from approval_mail.fields import plain
from approval_mail.moments import word_moment

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

#: Of a terminal that does not tell its size.
_USUAL = os.terminal_size((80, 24))

as_json_option = click.option("--json", "as_json", is_flag=True, help="JSON.")


def can_draw() -> bool:
    """Whether what is printed is read by a person, on a terminal that can draw over what it shows."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def terminal_size() -> os.terminal_size:
    """Columns and lines of the terminal as they are at the moment, whatever the environment says they were once."""
    try:
        found = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        return _USUAL
    return found if found.columns and found.lines else _USUAL


def row(value: DataclassInstance) -> dict[str, Any]:
    """A dataclass as a JSON object, times as ISO 8601 text."""
    return {
        name: item.isoformat(timespec="milliseconds") if isinstance(item, datetime) else item
        for name, item in dataclasses.asdict(value).items()
    }


def local(moment: datetime) -> str:
    """A time in NOTIFICATION_TIMEZONE, which names itself."""
    return word_moment(moment, services.settings().timezone)


def log_as_a_server() -> None:
    """Log with times, this package's INFO lines too."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", force=True)
    logging.getLogger("approval_mail").setLevel(logging.INFO)


def plural(count: int, thing: str) -> str:
    """``1 mail``, ``2 mails``."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def routes_faults(faults: Mapping[str, str]) -> list[str]:
    """Host and fault of each file of routes whose last version is not taken; a fault begins with the path."""
    return [plain(f"{place.partition(':')[0]}: {fault}") for place, fault in faults.items()]


def ending(approval: Approval) -> str:
    """How a request stands, as a sentence without its full stop: who ended it how and when, or its deadline."""
    if approval.status is Status.PENDING:
        what = f"request {approval.request_id} ({approval.tool_name} for {approval.user_id})"
        return plain(f"{what} is pending until {local(approval.expires_at)}")
    return plain(records.ending(approval, services.settings().timezone))
