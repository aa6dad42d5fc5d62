"""``approval-admin extend``: more time for an answer."""

from __future__ import annotations

import json

import click

from approval_mail.approvals import desks
from approval_mail.cli.admin.options import request_id_argument
from approval_mail.cli.admin.short_ids import whole
from approval_mail.cli.output import as_json_option, ending


@click.command("extend", short_help="Give a pending request more time.")
@request_id_argument
@click.argument("seconds", type=float)
@as_json_option
def command(text: str, seconds: float, as_json: bool) -> None:
    """Move the deadline of a pending request by SECONDS; once it has passed, this is refused."""
    desk = desks.for_operators()
    found = desk.extend(whole(desk, text), seconds)
    click.echo(json.dumps(found.as_json()) if as_json else ending(found))
