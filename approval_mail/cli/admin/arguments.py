"""What a tool is asked to run with, on a command line: ``NAME=TEXT``, or ``NAME:=JSON`` for a JSON value."""

from __future__ import annotations

import json
from typing import Any

import click


def _parse(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    return dict(_pair(text) for text in given)


def _pair(given: str) -> tuple[str, Any]:
    name, equals, text = given.partition("=")
    if not equals or not name.strip(":"):
        raise click.BadParameter(f"{given!r}: write NAME=TEXT, or NAME:=JSON for a JSON value")
    if not name.endswith(":"):
        return name, text
    try:
        return name[:-1], json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"{given!r} is not JSON ({error})") from error


argument_option = click.option(
    "--argument",
    "arguments",
    multiple=True,
    callback=_parse,
    metavar="NAME=TEXT|NAME:=JSON",
    help="What it is to be run with; repeat it.",
)
