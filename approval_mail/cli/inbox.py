"""``approval-mail inbox``: a mail server for this machine that shows what it was sent."""

from __future__ import annotations

import sys
import threading

import click

from approval_mail.cli import extras
from approval_mail.fields import plain


@click.command("inbox", short_help="A mail server to test with, and its web page.")
@click.option("--smtp-port", type=click.IntRange(0, 65535), default=1025, show_default=True, help="0: any free one.")
@click.option("--http-port", type=click.IntRange(0, 65535), default=8025, show_default=True, help="0: any free one.")
def command(smtp_port: int, http_port: int) -> None:
    """Accept every mail on 127.0.0.1 and show it in a web page, until Ctrl-C; needs no Docker.

    Point SMTP_HOST=127.0.0.1 and SMTP_PORT at it. Mails are kept in memory and go nowhere.
    """
    extras.require("demo")
    # The extra's modules, which other commands do without.
    from approval_mail.demo.catcher import CaughtMail, MailCatcher  # noqa: PLC0415
    from approval_mail.demo.inbox import Inbox  # noqa: PLC0415
    from approval_mail.demo.reading import read  # noqa: PLC0415
    from approval_mail.stopping import ended_by_signals  # noqa: PLC0415

    def tell(mail: CaughtMail) -> None:
        click.echo(
            f"{mail.at.astimezone():%H:%M:%S}  {read(mail.raw).subject}  ->  {plain(', '.join(mail.recipients))}"
        )

    try:
        catcher = MailCatcher(tell, port=smtp_port)
        inbox = Inbox(catcher, port=http_port)
    except OSError as error:
        click.echo(f"a port cannot be used ({error.strerror}): choose others with --smtp-port, --http-port", err=True)
        sys.exit(1)
    catcher.start()
    inbox.start()
    click.echo(f"Mails to smtp://127.0.0.1:{catcher.port} are shown at {inbox.url} until Ctrl-C.")
    try:
        with ended_by_signals():
            threading.Event().wait()
    except KeyboardInterrupt:
        inbox.stop()
        catcher.stop()
