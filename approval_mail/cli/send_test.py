"""``approval-mail send-test``: one real mail through the real transport."""

from __future__ import annotations

import secrets
import sys
import time
from datetime import datetime, timezone

import click

from approval_mail import services
from approval_mail.addresses import is_address, split_addresses
from approval_mail.cli.sample import trial
from approval_mail.errors import ChannelTrouble


@click.command("send-test", short_help="Send one real mail now.")
@click.option("--to", metavar="ADDRESS", help="Who receives it; EMAIL_TO if not given.")
def command(to: str | None) -> None:
    """Send one approval_requested mail now, whether or not notifications are enabled; needs no Redis and no worker."""
    settings = services.settings()
    recipients = split_addresses(to) if to is not None else list(settings.email_to)
    if not recipients or not all(is_address(recipient) for recipient in recipients):
        raise click.UsageError(f"--to {to!r}: use an address like name@example.com")
    # Never the same Message-ID: some servers drop without a word what they have seen before.
    event = trial(f"{secrets.token_hex(4)}-send-test", "send-test")
    now = datetime.now(timezone.utc)
    content = services.renderer().render(event, now)
    click.echo(f"Sending to {services.mailer().channel} ...", err=True)
    refused = False
    try:
        with services.mailer().session() as session:
            for recipient in recipients:
                started = time.perf_counter()
                reply = session.send(recipient, services.renderer().compose(event, content, recipient, now))
                seconds = time.perf_counter() - started
                click.echo(f"{reply.state}  {recipient}  {reply.phase}: {reply.reason}  ({seconds:.2f} s)")
                refused |= reply.state != "sent"
        services.mailer().close()
    except ChannelTrouble as trouble:
        click.echo(f"{trouble.reason}; next step: {trouble.next_step}", err=True)
        sys.exit(1)
    sys.exit(refused)
