"""``approval-admin approve`` and ``reject``: a person's answer."""

from __future__ import annotations

import json

import click

from approval_mail.approvals import desks
from approval_mail.approvals.values import Approval
from approval_mail.cli.admin.options import exact_option, request_id_argument, responder_option
from approval_mail.cli.admin.short_ids import to_change
from approval_mail.cli.output import as_json_option, ending


@click.command("approve", short_help="Let a tool be run.")
@request_id_argument
@click.option("--reason", default="", metavar="TEXT", help="Shown to whoever asked.")
@responder_option
@exact_option
@as_json_option
def approve(text: str, reason: str, responder: str, exact: bool, as_json: bool) -> None:
    """Approve a pending request; exit code 1 if it is no longer pending.

    \b
    approval-admin approve 3f2b81c4 --reason "Approved for testing"
    """
    desk = desks.for_operators()
    _tell(desk.approve(to_change(desk, text, exact=exact), responder_id=responder, reason=reason), as_json)


@click.command("reject", short_help="Refuse to let a tool be run.")
@request_id_argument
@click.option("--reason", required=True, metavar="TEXT", help="Shown to whoever asked.")
@responder_option
@exact_option
@as_json_option
def reject(text: str, reason: str, responder: str, exact: bool, as_json: bool) -> None:
    """Reject a pending request; exit code 1 if it is no longer pending.

    \b
    approval-admin reject 3f2b81c4 --reason "Policy violation"
    """
    if not reason.strip():
        raise click.UsageError("a rejection needs a reason: --reason TEXT")
    desk = desks.for_operators()
    _tell(desk.reject(to_change(desk, text, exact=exact), responder_id=responder, reason=reason), as_json)


def _tell(decided: Approval, as_json: bool) -> None:
    click.echo(json.dumps(decided.as_json()) if as_json else ending(decided))
