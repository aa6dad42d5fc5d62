"""``approval-admin extend``: more time for an answer."""

from __future__ import annotations

import json

import click

from approval_mail.approvals import desks
from approval_mail.cli.admin.options import exact_option, request_id_argument
from approval_mail.cli.admin.short_ids import to_change
from approval_mail.cli.output import as_json_option, ending


@click.command("extend", short_help="Give a pending request more time.")
@request_id_argument
@click.argument("seconds", type=float)
@exact_option
@as_json_option
def command(text: str, seconds: float, exact: bool, as_json: bool) -> None:
    """Move the deadline of a pending request by SECONDS; once it has passed, this is refused."""
    desk = desks.for_operators()
    found = desk.extend(to_change(desk, text, exact=exact), seconds)
    click.echo(json.dumps(found.as_json()) if as_json else ending(found))
