"""``approval-admin list``: requests, newest first."""

from __future__ import annotations

import json
import sys

import click

from approval_mail.approvals import desks
from approval_mail.approvals.values import Status
from approval_mail.cli.admin.pages import newest
from approval_mail.cli.admin.table import table
from approval_mail.cli.output import as_json_option, terminal_size


@click.command("list", short_help="Requests, newest first; those pending unless asked for others.")
@click.option("--status", type=click.Choice([status.value for status in Status]), help="Those of this status.")
@click.option("--all", "everything", is_flag=True, help="Those of every status.")
@click.option("--user", metavar="U", help="Requests made by U.")
@click.option("--tool", metavar="T", help="Those for the tool T.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="So many at the most.")
@as_json_option
def command(
    status: str | None, everything: bool, user: str | None, tool: str | None, limit: int, as_json: bool
) -> None:
    """List requests, newest first: the pending ones, or those of another status, or all."""
    if status and everything:
        raise click.UsageError("give --status or --all, not both")
    wanted = None if everything else Status(status or Status.PENDING)
    found, more = newest(desks.for_operators(), limit, status=wanted, user=user, tool=tool)
    if as_json:
        click.echo(json.dumps([approval.as_json() for approval in found]))
    elif found:
        click.echo(table(found, width=terminal_size().columns if sys.stdout.isatty() else None))
    else:
        _say_none(wanted, narrowed=bool(user or tool))
    if more:
        click.echo(f"there are more than {limit}: see them with --limit {limit * 10}", err=True)


def _say_none(status: Status | None, *, narrowed: bool) -> None:
    such = "such request" if narrowed else "request"
    if status is None:
        click.echo(f"there is no {such}; ask one: approval-admin request --user U --tool T", err=True)
    else:
        click.echo(f"no {such} is {status.value}; those of every status: approval-admin list --all", err=True)
