"""``approval-admin``: ask, decide and watch approval requests. Exit codes: 0 well, 1 trouble, 2 usage or settings."""

from __future__ import annotations

import logging

import click

from approval_mail import __version__
from approval_mail.cli.admin import cancel, decide, extend, key, listing, request, status, watch
from approval_mail.cli.program import Program


@click.group(cls=Program)
@click.version_option(__version__)
def main() -> None:
    """Approval requests: ask, decide, watch. Settings come from the environment, then from ./.env.

    The beginning of a REQUEST_ID, such as the eight characters that mails and lists show, is enough.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")


for command in (
    listing.command,
    request.command,
    decide.approve,
    decide.reject,
    cancel.command,
    extend.command,
    status.command,
    watch.command,
    key.command,
):
    main.add_command(command)
