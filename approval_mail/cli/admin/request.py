"""``approval-admin request``: ask for permission from the shell."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from typing import Any

import click

from approval_mail import approvals
from approval_mail.approvals import desks
from approval_mail.approvals.errors import ApprovalsUnavailable
from approval_mail.approvals.values import Approval, Status
from approval_mail.cli.admin.table import columns, fit, left
from approval_mail.cli.event_fields import parse
from approval_mail.cli.output import as_json_option, ending, local, terminal_size
from approval_mail.fields import plain

#: Seconds between two times left that are shown.
_COUNT = 1.0


@click.command("request", short_help="Ask for permission, and wait for the answer if you like.")
@click.option("--user", required=True, metavar="U", help="Who asks.")
@click.option("--tool", required=True, metavar="T", help="What is to be run.")
@click.option(
    "--argument",
    "arguments",
    multiple=True,
    metavar="NAME=TEXT|NAME:=JSON",
    help="What it is to be run with; repeat it.",
)
@click.option(
    "--timeout", type=float, metavar="S", help="Seconds for an answer; APPROVAL_TIMEOUT_SECONDS if not given."
)
@click.option("--id", "request_id", metavar="ID", help="Its id; a random one if not given.")
@click.option("--to", multiple=True, metavar="ADDRESS", help="Who is asked, in place of EMAIL_TO; repeat it.")
@click.option("--wait", is_flag=True, help="Wait for the answer: exit code 0 if approved, 1 if not.")
@as_json_option
def command(
    user: str,
    tool: str,
    arguments: tuple[str, ...],
    timeout: float | None,
    request_id: str | None,
    to: tuple[str, ...],
    wait: bool,
    as_json: bool,
) -> None:
    """Ask for permission and print the request's id.

    \b
    approval-admin request --user agent-7 --tool git_commit --argument message="test commit" --wait
    """
    asked: dict[str, Any] = {
        "user_id": user,
        "tool_name": tool,
        "arguments": parse(arguments, "--argument") or None,
        "timeout": timeout,
        "request_id": request_id,
        "email_to": list(to) or None,
    }
    if not wait:
        found = desks.for_operators().ask(**asked)
        click.echo(json.dumps(found.as_json()) if as_json else found.request_id)
        click.echo(f"waits for an answer until {local(found.expires_at)}", err=True)
        return
    handle = approvals.require(**asked)
    if not as_json:
        click.echo(handle.request_id)
    answer = _answer(handle)
    click.echo(json.dumps(answer.as_json()) if as_json else ending(answer))
    sys.exit(not answer)


def _answer(handle: approvals.Handle) -> Approval:
    """Wait for the decision, through an outage of Redis too; who sits at a terminal sees the time that is left."""
    found, trouble = handle.approval, ""
    while found.status is Status.PENDING:
        now = datetime.now(timezone.utc)
        _show(trouble or f"waiting, {left(found, now)} left")
        try:
            found, trouble = handle.wait(_COUNT), ""
        except ApprovalsUnavailable as error:
            if now > found.expires_at:
                raise
            trouble = plain(str(error))
    _show("")
    return found


def _show(text: str) -> None:
    if sys.stderr.isatty():
        room = terminal_size().columns - 1
        click.echo(f"\r{fit(text, min(room, columns(text)))}\x1b[K", nl=False, err=True)
