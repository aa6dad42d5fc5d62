"""``approval-mail demo``: the whole way from hook to inbox, on this machine alone."""

from __future__ import annotations

import sys

import click

from approval_mail.cli import extras
from approval_mail.settings import DEFAULT_LANGUAGE, LANGUAGES


@click.command("demo", short_help="Everything on this machine: three requests, six mails.")
@click.option(
    "--once",
    is_flag=True,
    help="End by itself: exit code 0 if all mails were accepted and each request ended as it should, else 1.",
)
@click.option(
    "--lang",
    type=click.Choice([*LANGUAGES]),
    default=DEFAULT_LANGUAGE,
    show_default=True,
    help="Language of the mails.",
)
def command(once: bool, lang: str) -> None:
    """Ask for permission three times, and show the mails in an inbox on this machine.

    Starts Valkey, a mail catcher with a web inbox, a Celery worker, beat and the pages to decide on, on free ports of
    127.0.0.1. One request is rejected by approval-admin, one expires, one waits for your two clicks. Nothing that it
    starts outlives it.
    """
    extras.require("demo", "api")
    from approval_mail.demo.show import run  # noqa: PLC0415 the extra's modules, which other commands do without

    sys.exit(run(once=once, language=lang))
