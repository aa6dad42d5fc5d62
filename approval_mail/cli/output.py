"""How commands print what they found for other programs."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

as_json_option = click.option("--json", "as_json", is_flag=True, help="JSON.")


def row(value: DataclassInstance) -> dict[str, Any]:
    """A dataclass as a JSON object, times as ISO 8601 text."""
    return {
        name: item.isoformat(timespec="milliseconds") if isinstance(item, datetime) else item
        for name, item in dataclasses.asdict(value).items()
    }
