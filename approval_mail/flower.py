"""Flower as operators start it: safe and useful without an option; the environment and command line go before."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any

import click

#: Flower's options by their names in its manual; FLOWER_<NAME> in the environment or --<name> replaces one.
PRESETS: dict[str, Any] = {
    # Whoever reaches it sees who asked for what.
    "address": "127.0.0.1",
    # Mails are retried and discarded with approval-mail, which knows their state.
    "read_only": True,
    "persistent": True,
    # Milliseconds.
    "state_save_interval": 60_000,
    # Saving 100,000, Flower's own choice, takes seconds.
    "max_tasks": 10_000,
    "tasks_columns": "name,args,state,received,runtime,retries,result,worker,uuid",
}


def preset(options: Any, folder: Path) -> None:
    """Set PRESETS in Flower's ``options``, with its database in ``folder``; what it is told later goes before them."""
    for name, value in PRESETS.items():
        setattr(options, name, value)
    options.db = str(folder / "flower")
    login = os.environ.get("FLOWER_BASIC_AUTH_FILE")
    if login:
        options.basic_auth = [_login(Path(login))]
    options.add_parse_callback(lambda: _prepare(options))


def _login(path: Path) -> str:
    """``user:password`` out of a file, so that it stands in no environment and no list of processes."""
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _refusal(f"FLOWER_BASIC_AUTH_FILE={path} cannot be read: {error}") from error
    if not all(text.partition(":")):
        raise _refusal(f"FLOWER_BASIC_AUTH_FILE={path} does not hold user:password")
    return text


def _prepare(options: Any) -> None:
    """Run once every option is known."""
    if not (_is_loopback(options.address) or options.unix_socket or options.basic_auth or options.auth):
        raise _refusal(
            f"Flower on {options.address or 'every address'} would show everyone who asks for what: "
            "set FLOWER_BASIC_AUTH_FILE to a file with user:password, or keep it on 127.0.0.1"
        )
    if options.persistent:
        Path(options.db).parent.mkdir(parents=True, exist_ok=True, mode=0o700)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _refusal(sentence: str) -> SystemExit:
    click.echo(sentence, err=True)
    return SystemExit(2)
