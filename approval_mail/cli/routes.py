"""``approval-mail routes``: who would be told of an event, and by which rule."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from pathlib import Path

import click

from approval_mail import services
from approval_mail.cli.event_fields import event_type_argument, field_option, parse
from approval_mail.cli.output import as_json_option
from approval_mail.events import EVENT_TYPES, ApprovalEvent
from approval_mail.routing import BY_THE_EVENT, DEFAULT_ROUTE, Choice, Routes, RoutesFile, Routing

#: Fields that an event must have and that hardly any rule asks for.
_STAND_INS = {"request_id": "00000000-test-4000-8000-000000000000"}
_FRACTION = {"fraction": "0.5"}
#: What is printed in place of a rule's name.
_NOBODYS_RULE = {DEFAULT_ROUTE: "default route (EMAIL_TO)", BY_THE_EVENT: "the event's own email_to"}


@click.group("routes")
def command() -> None:
    """Try out the rules of NOTIFICATION_ROUTES: who gets what."""


@command.command("test", short_help="Who would be told of an event of TYPE.")
@event_type_argument
@field_option
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Rules to try before they are put in place; NOTIFICATION_ROUTES if not given.",
)
@as_json_option
@click.argument("more", nargs=-1, metavar="[NAME=TEXT]...")
def test(event_type: str, fields: tuple[str, ...], path: Path | None, as_json: bool, more: tuple[str, ...]) -> None:
    """Print who would get a mail about an event, in which language and time zone, and by which rule.

    Nothing is recorded or sent, and no Redis is needed. Exit code 1 if nobody would get one.

    \b
    approval-mail routes test approval_requested --field user_id=kim --field tool_name=payout_eu \\
        --field amount:=1200 --file routes.toml
    """
    settings = services.settings()
    data = {**_STAND_INS, **(_FRACTION if EVENT_TYPES[event_type].recurs else {}), **parse((*fields, *more))}
    event = ApprovalEvent.from_dict(event_type, data, now=datetime.now(timezone.utc), localise=settings.localise)
    routing = _routes(path or settings.routes).route(event, settings.email_to)
    if as_json:
        click.echo(json.dumps(_row(routing), ensure_ascii=False))
    else:
        for line in _lines(routing):
            click.echo(line)
        for warning in routing.warnings:
            click.echo(f"warning: {warning}", err=True)
    sys.exit(routing.state != "open")


def _routes(path: Path | None) -> Routes:
    """Raises InvalidRoutes."""
    if path is None:
        click.echo("NOTIFICATION_ROUTES is unset: every event takes the default route", err=True)
        return Routes()
    return RoutesFile(path, lambda _: True).load()


def _row(routing: Routing) -> dict[str, object]:
    recipients = [
        dict(zip(("address", "language", "timezone", "rule"), _cells(choice), strict=True))
        for choice in routing.choices
    ]
    return {
        "recipients": recipients,
        "state": routing.state,
        "reason": routing.reason,
        "warnings": list(routing.warnings),
    }


def _lines(routing: Routing) -> list[str]:
    """A table; or why nobody is told, and who is not."""
    if routing.state != "open":
        untold = [f"not told: {choice.recipient.address}" for choice in routing.choices]
        return [f"{routing.state}: {routing.reason}", *untold]
    rows = [
        (address, language, zone or "system's zone", _NOBODYS_RULE.get(rule, rule))
        for address, language, zone, rule in map(_cells, routing.choices)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cells(choice: Choice) -> tuple[str, str, str, str]:
    """Address, language, time zone (empty: the system's) and rule, with the settings where the rule says nothing."""
    settings = services.settings()
    zone = choice.recipient.timezone or (str(settings.timezone) if settings.timezone else "")
    return choice.recipient.address, choice.recipient.language or settings.language, zone, choice.rule
