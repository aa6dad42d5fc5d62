"""``approval-admin key``: who may use the HTTP API."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from approval_mail import services
from approval_mail.api.keys import KeyFile, Role
from approval_mail.cli.output import as_json_option

_file_option = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The key file, if not APPROVAL_API_KEYS_FILE.",
)


@click.group("key", short_help="Make, list and revoke keys of the HTTP API.")
def command() -> None:
    """Keys of the HTTP API. A running server knows of every change at once."""


@command.command("create", short_help="Make a key and print it, this once.")
@click.option("--name", required=True, help="What the key is called in logs: letters, digits, '.', '_' and '-'.")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    required=True,
    help="requester: asks and withdraws. approver: approves and rejects. observer: reads the metrics, nothing else.",
)
@_file_option
def create(name: str, role: str, path: Path | None) -> None:
    """Make a key and print it on standard output; the file keeps its hash alone."""
    file = _file(path)
    click.echo(file.add(name, Role(role)))
    click.echo(
        f"keep it now, it is not shown again; its hash is in {file.path}; callers pass it as X-API-Key", err=True
    )


@command.command("list", short_help="The names and roles of keys.")
@_file_option
@as_json_option
def listing(path: Path | None, as_json: bool) -> None:
    """List keys by name and role."""
    file = _file(path)
    keys = file.read()
    if as_json:
        click.echo(json.dumps([{"name": key.name, "role": key.role.value} for key in keys]))
        return
    for key in keys:
        click.echo(f"{key.role.value:<10} {key.name}")
    if not keys:
        click.echo(f"{file.path} holds no key; make one: approval-admin key create", err=True)


@command.command("revoke", short_help="End a key.")
@click.argument("name")
@_file_option
def revoke(name: str, path: Path | None) -> None:
    """Take the key NAME out of the file; whoever holds it is refused from the next request on."""
    file = _file(path)
    file.read()  # A path with a mistake in it is told, not made.
    if not file.revoke(name):
        click.echo(f"no key is called {name}: see approval-admin key list", err=True)
        sys.exit(1)
    click.echo(f"{name} is revoked", err=True)


def _file(path: Path | None) -> KeyFile:
    found = path or services.settings().approval_api_keys_file
    if found is None:
        raise click.UsageError("which key file? set APPROVAL_API_KEYS_FILE, or give --file PATH")
    return KeyFile(found)
