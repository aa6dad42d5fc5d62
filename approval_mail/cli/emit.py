"""``approval-mail emit``: an event from the shell, through the hook."""

from __future__ import annotations

import sys

import click

from approval_mail import hooks
from approval_mail.cli.event_fields import event_type_argument, field_option, parse
from approval_mail.hooks import Receipt


@click.command("emit", short_help="Record an event from the shell.")
@event_type_argument
@field_option
@click.argument("more", nargs=-1, metavar="[NAME=TEXT]...")
def command(event_type: str, fields: tuple[str, ...], more: tuple[str, ...]) -> None:
    """Record an event of TYPE and print the receipt; exit code 1 if it was not recorded.

    \b
    approval-mail emit approval_requested --field request_id=abc12345 \\
        --field user_id=agent-7 --field tool_name=git_commit --field arguments:='{"message": "fix"}'
    """
    receipt = hooks.emit(event_type, parse((*fields, *more)))
    click.echo(receipt.value)
    if receipt is Receipt.DISABLED:
        click.echo("nothing was recorded: set NOTIFICATION_ENABLED=true", err=True)
    sys.exit(receipt in (Receipt.DISABLED, Receipt.REFUSED))
