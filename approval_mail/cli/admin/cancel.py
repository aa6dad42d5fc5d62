"""``approval-admin cancel``: a request that is no longer wanted."""

from __future__ import annotations

import json

import click

from approval_mail.approvals import desks
from approval_mail.cli.admin.options import request_id_argument, responder_option
from approval_mail.cli.admin.short_ids import LEAST_TO_END, whole
from approval_mail.cli.output import as_json_option, ending


@click.command("cancel", short_help="Withdraw a pending request.")
@request_id_argument
@click.option("--reason", default="", metavar="TEXT", help="Kept with the request.")
@responder_option
@as_json_option
def command(text: str, reason: str, responder: str, as_json: bool) -> None:
    """Withdraw a pending request: its tool is not run, and mails that have not gone out are suppressed."""
    desk = desks.for_operators()
    found = desk.cancel(whole(desk, text, least=LEAST_TO_END), responder_id=responder, reason=reason)
    click.echo(json.dumps(found.as_json()) if as_json else ending(found))
