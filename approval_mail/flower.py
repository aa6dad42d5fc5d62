"""Flower as operators start it: safe and useful without an option; the environment and command line go before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from approval_mail.loopback import is_loopback

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
#: Where Flower listens until its configuration file has been read; known by its identity.
_UNTIL_READ = ".".join(("127", "0", "0", "1"))


def preset(options: Any, folder: Path) -> None:
    """Set PRESETS in Flower's ``options``, with its database in ``folder``; what it is told later goes before them."""
    for name, value in PRESETS.items():
        setattr(options, name, value)
    options.db = str(folder / "flower" / "tasks")
    asked: list[str] = []
    options.add_parse_callback(lambda: _prepare(options, asked))


def _prepare(options: Any, asked: list[str]) -> None:
    """Run once every option is known; ends the program where Flower would be open to everyone.

    ``asked`` keeps the address that was asked for while Flower reads its configuration file.
    """
    # Flower reads it next, and runs this again; but if a file that it reads in turn is missing, it goes on without a
    # word: on this machine alone then, with the login that there is.
    to_be_read = not asked and Path(options.conf).exists()
    try:
        _take_login(options)
    except ValueError as error:
        if not to_be_read:  # Which may have a better one.
            raise _refusal(str(error)) from error
    if to_be_read:
        asked.append(options.address)
        options.address = _UNTIL_READ
        return
    if options.address is _UNTIL_READ:
        options.address = asked[0]
    if not (is_loopback(options.address) or options.unix_socket or options.basic_auth or options.auth):
        raise _refusal(
            f"Flower on {options.address or 'every address'} would show everyone who asks for what: "
            "set FLOWER_BASIC_AUTH_FILE to a file with user:password, or keep it on 127.0.0.1"
        )
    if options.persistent:
        try:
            Path(options.db).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _refusal(f"Flower cannot keep its tasks in {options.db} ({error.strerror}): set FLOWER_DB") from error


def _take_login(options: Any) -> None:
    """Raises ValueError if it is not one."""
    # An empty FLOWER_BASIC_AUTH is unset; Flower would take it for a login that is empty.
    options.basic_auth = [login for login in options.basic_auth or () if login]
    file = os.environ.get("FLOWER_BASIC_AUTH_FILE")
    if file and not options.basic_auth:
        options.basic_auth = [_login(Path(file))]
    if not all(all(login.partition(":")) for login in options.basic_auth):
        raise ValueError("a login of Flower's is not user:password: mend FLOWER_BASIC_AUTH or --basic-auth")


def _login(path: Path) -> str:
    """``user:password`` out of a file, so that it stands in no environment and no list of processes."""
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"FLOWER_BASIC_AUTH_FILE={path} cannot be read: {error}") from error
    if not all(text.partition(":")) or not text.isprintable():
        raise ValueError(f"FLOWER_BASIC_AUTH_FILE={path} does not hold user:password on one line")
    return text


def _refusal(sentence: str) -> SystemExit:
    click.echo(sentence, err=True)
    return SystemExit(2)
