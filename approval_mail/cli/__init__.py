"""``approval-mail``: what operators ask and tell the pipeline. Exit codes: 0 well, 1 trouble, 2 usage or settings."""

from __future__ import annotations

import logging

import click

from approval_mail import __version__
from approval_mail.cli import (
    api,
    check,
    dead,
    demo,
    emit,
    inbox,
    metrics,
    preview,
    routes,
    send_test,
    spool,
    status,
    templates,
    trace,
)
from approval_mail.cli.program import Program


@click.group(cls=Program)
@click.version_option(__version__)
def main() -> None:
    """Mails the person whose permission is asked. Settings come from the environment, then from ./.env."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")


for module in (
    demo,
    check,
    preview,
    templates,
    routes,
    send_test,
    inbox,
    emit,
    status,
    trace,
    dead,
    spool,
    metrics,
    api,
):
    main.add_command(module.command)
