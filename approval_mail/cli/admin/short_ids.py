"""Request ids that are given by their beginning."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from approval_mail.approvals.desk import Desk
from approval_mail.approvals.errors import UnknownApproval
from approval_mail.approvals.values import Approval
from approval_mail.cli.admin.table import table

#: Characters of a request id that whoever changes a request gives at the least.
_LEAST = 4
#: Requests that are shown where one was meant.
_SHOWN = 10


def to_show(desk: Desk, text: str) -> str:
    """The request id that ``text`` is, else the one that it begins; ends the program where there is not one."""
    found = desk.find(text)
    return text if text in found else _only(desk, text, found)


def to_change(desk: Desk, text: str, *, exact: bool) -> str:
    """The one request id that ``text`` is or begins; ends the program where there are none or several.

    Whoever asks may choose an id, and so one that is the beginning of another's, as mails show it: only if ``exact`` is
    that no matter. A short beginning is wrong usage: what decides must not hang on a slip of the keys.
    """
    found = desk.find(text)
    if exact:
        found = [text] if text in found else []
    elif len(text) < _LEAST and text not in found:
        raise click.UsageError(
            f"{text!r} is too short: give the whole request id, or {_LEAST} characters of it or more"
        )
    return _only(desk, text, found)


def _only(desk: Desk, text: str, found: list[str]) -> str:
    if len(found) == 1:
        return found[0]
    if not found:
        click.echo(f"no request begins with {text!r}: see approval-admin list --all, and check REDIS_URL", err=True)
        sys.exit(1)
    more = "give more of yours, or --exact for the first" if text in found else "give more of yours"
    click.echo(f"{text!r} begins {len(found)} request ids, nothing was done; {more}:", err=True)
    click.echo(table(list(_read(desk, found[:_SHOWN])), whole_ids=True), err=True)
    if len(found) > _SHOWN:
        click.echo(f"and {len(found) - _SHOWN} more", err=True)
    sys.exit(1)


def _read(desk: Desk, request_ids: list[str]) -> Iterator[Approval]:
    for request_id in request_ids:
        try:
            yield desk.read(request_id)
        except UnknownApproval:  # History has let go of it since it was found.
            continue
