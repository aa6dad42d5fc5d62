"""``approval-admin cancel``: a request that is no longer wanted."""

from __future__ import annotations

import json

import click

from approval_mail.approvals import desks
from approval_mail.cli.admin.options import exact_option, request_id_argument, responder_option
from approval_mail.cli.admin.short_ids import to_change
from approval_mail.cli.output import as_json_option, ending


@click.command("cancel", short_help="Withdraw a pending request.")
@request_id_argument
@click.option("--reason", default="", metavar="TEXT", help="Kept with the request.")
@responder_option
@exact_option
@as_json_option
def command(text: str, reason: str, responder: str, exact: bool, as_json: bool) -> None:
    """Withdraw a pending request: its tool is not run, and mails that have not gone out are suppressed."""
    desk = desks.for_operators()
    found = desk.cancel(to_change(desk, text, exact=exact), responder_id=responder, reason=reason)
    click.echo(json.dumps(found.as_json()) if as_json else ending(found))
