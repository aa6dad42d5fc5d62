"""``approval-mail spool``: events that wait on this host's disk."""

from __future__ import annotations

import json
import os
import sys

import click

from approval_mail import services
from approval_mail.celery import wake_gather
from approval_mail.cli.output import as_json_option, local, plural
from approval_mail.spool import Spool


def _spool() -> Spool:
    """This host's, whose folder can be listed; OSError: it cannot, and what waits there is not known."""
    spool = services.spool()
    if spool.folder.exists():
        os.listdir(spool.folder)
    return spool


@click.group("spool")
def command() -> None:
    """List or replay events that wait on this host's disk."""


@command.command("list")
@as_json_option
def list_spooled(as_json: bool) -> None:
    """One row per event, oldest first."""
    waiting = list(_spool().events())
    rows = [
        {
            "event_id": found.event.event_id,
            "type": found.event.type,
            "request_id": found.event.request_id,
            "occurred_at": found.event.occurred_at.isoformat(timespec="milliseconds"),
            "file": str(found.path),
        }
        for found in waiting
    ]
    if as_json:
        click.echo(json.dumps(rows))
        return
    for found in waiting:
        click.echo(f"{local(found.event.occurred_at)}  {found.event.event_id}  {found.path}")
    click.echo(f"{plural(len(waiting), 'event')} in {services.spool().folder}", err=True)


@command.command("replay")
@as_json_option
def replay(as_json: bool) -> None:
    """Bring what waits into Redis; exit code 1 if something is left."""
    services.settings()
    waiting = len(_spool().paths())
    if waiting and not as_json:
        click.echo(f"Replaying {plural(waiting, 'event')} from {services.spool().folder} ...", err=True)
    replayed = 0
    while some := services.recorder(wake_gather).replay():
        replayed += some
    left = len(services.spool().paths())
    if replayed:
        wake_gather()
    click.echo(json.dumps({"replayed": replayed, "left": left}) if as_json else f"replayed {replayed}, left {left}")
    sys.exit(bool(left))
