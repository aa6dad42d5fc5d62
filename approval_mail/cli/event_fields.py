"""An event on a command line: its type, and fields as ``--field NAME=TEXT``, or ``NAME:=JSON`` for a JSON value."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from approval_mail.events import EVENT_TYPES


def _known(ctx: click.Context, parameter: click.Parameter, event_type: str) -> str:
    if event_type not in EVENT_TYPES:
        raise click.UsageError(f"event type {event_type!r} is unknown; use one of: {', '.join(EVENT_TYPES)}")
    return event_type


event_type_argument = click.argument("event_type", metavar="TYPE", callback=_known)
field_option = click.option(
    "--field", "fields", multiple=True, metavar="NAME=TEXT|NAME:=JSON", help="A field of the event; repeat it."
)


def parse(fields: Sequence[str], option: str = "--field") -> dict[str, Any]:
    """The fields as `hooks.emit` takes them; raises click.UsageError naming the one that is malformed."""
    return dict(_parse(field, option) for field in fields)


def _parse(field: str, option: str) -> tuple[str, Any]:
    name, equals, text = field.partition("=")
    if not equals or not name.strip(":"):
        raise click.UsageError(f"{option} {field!r}: write NAME=TEXT, or NAME:=JSON for a JSON value")
    if not name.endswith(":"):
        return name, text
    try:
        return name[:-1], json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{option} {name}=: {text!r} is not JSON ({error})") from error
