"""How commands print what they found, for other programs and for people."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from approval_mail import services

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

as_json_option = click.option("--json", "as_json", is_flag=True, help="JSON.")


def row(value: DataclassInstance) -> dict[str, Any]:
    """A dataclass as a JSON object, times as ISO 8601 text."""
    return {
        name: item.isoformat(timespec="milliseconds") if isinstance(item, datetime) else item
        for name, item in dataclasses.asdict(value).items()
    }


def local(moment: datetime) -> str:
    """A time in NOTIFICATION_TIMEZONE, which names itself."""
    there = moment.astimezone(services.settings().timezone)
    return f"{there:%Y-%m-%d %H:%M:%S} {there.tzname()}"


def plural(count: int, thing: str) -> str:
    """``1 mail``, ``2 mails``."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")
