"""Arguments and options that several commands take."""

from __future__ import annotations

import getpass

import click

request_id_argument = click.argument("text", metavar="REQUEST_ID")
exact_option = click.option("--exact", is_flag=True, help="REQUEST_ID is a whole one, though others may begin with it.")


def _own_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # No name belongs to this user id, as in many containers.
        return ""


def _someone(ctx: click.Context, param: click.Parameter, name: str) -> str:
    if not name.strip():
        raise click.UsageError("nobody is named as the one who answers: give --as NAME")
    return name


responder_option = click.option(
    "--as",
    "responder",
    metavar="NAME",
    default=_own_name,
    callback=_someone,
    show_default="your user name",
    help="Who you are, in mails and records.",
)
