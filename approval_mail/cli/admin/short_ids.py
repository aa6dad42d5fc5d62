"""Request ids that are given by their beginning."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from approval_mail.approvals.desk import Desk
from approval_mail.approvals.errors import UnknownApproval
from approval_mail.approvals.values import Approval
from approval_mail.cli.admin.table import table

#: Characters of a request id that whoever ends a request gives at the least.
LEAST_TO_END = 4
#: Requests that are shown where one was meant.
_SHOWN = 10


def whole(desk: Desk, text: str, *, least: int = 1) -> str:
    """The one request id that ``text`` is or begins; ends the program where there are none or several.

    A beginning of fewer than ``least`` characters is wrong usage: what decides must not hang on a slip of the keys.
    """
    found = desk.find(text)
    if found == [text]:
        return text
    if len(text) < least:
        raise click.UsageError(f"{text!r} is too short: give the whole request id, or {least} characters of it or more")
    if len(found) == 1:
        return found[0]
    if not found:
        click.echo(f"no request begins with {text!r}: see approval-admin list --all, and check REDIS_URL", err=True)
        sys.exit(1)
    click.echo(f"{text!r} begins {len(found)} request ids, nothing was done; give more of yours:", err=True)
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
