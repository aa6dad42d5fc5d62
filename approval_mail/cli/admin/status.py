"""``approval-admin status``: everything about one request, or how many there are of each status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone

import click

from approval_mail.approvals import desks
from approval_mail.approvals.values import Approval, Stats, Status
from approval_mail.cli.admin.short_ids import to_show
from approval_mail.cli.admin.table import left
from approval_mail.cli.output import as_json_option, local, row
from approval_mail.fields import clean, plain


@click.command("status", short_help="All about one request, or counts of all.")
@click.argument("text", metavar="[REQUEST_ID]", required=False)
@as_json_option
def command(text: str | None, as_json: bool) -> None:
    """Show everything about a request; without one, count the requests of each status."""
    desk = desks.for_operators()
    if text is None:
        stats = desk.stats()
        click.echo(json.dumps(row(stats)) if as_json else "\n".join(_counts(stats)))
        return
    found = desk.read(to_show(desk, text))
    click.echo(json.dumps(found.as_json()) if as_json else "\n".join(_facts(found)))


def _counts(stats: Stats) -> Iterator[str]:
    for name, count in row(stats).items():
        hint = "  (past half of their time, no mail about them accepted: approval-mail status)" if count else ""
        yield f"{name:<10} {count:,}" + (hint if name == "untold" else "")


def _facts(found: Approval) -> Iterator[str]:
    facts = {
        "request": found.request_id,
        "status": found.status.value,
        "user": plain(found.user_id),
        "tool": plain(found.tool_name),
        "asked": local(found.requested_at),
        "deadline": local(found.expires_at),
        "time left": left(found, datetime.now(timezone.utc)) if found.status is Status.PENDING else "",
        "ended": local(found.ended_at) if found.ended_at else "",
        "responder": plain(found.responder_id),
        "reason": plain(found.reason),
        "mails to": ", ".join(found.email_to),
        "first mail": local(found.told_at) if found.told_at else "none was accepted yet",
        "untold": "half of its time passed before a mail about it was accepted" if found.untold else "",
    }
    for name, value in facts.items():
        if value:
            yield f"{name:<12}{value}"
    if found.arguments is not None:
        yield "arguments"
        yield from (
            f"  {line}" for line in clean(json.dumps(found.arguments, indent=2, ensure_ascii=False)).split("\n")
        )
