"""``approval-admin watch``: requests as they come, wait and end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timezone

import click

from approval_mail.approvals import desks
from approval_mail.approvals.desk import Desk
from approval_mail.approvals.errors import ApprovalsUnavailable, UnknownApproval
from approval_mail.approvals.values import Approval, Status
from approval_mail.cli.admin import screen
from approval_mail.cli.admin.pages import newest
from approval_mail.cli.admin.table import fit, table
from approval_mail.cli.output import as_json_option, can_draw, local, terminal_size
from approval_mail.fields import plain
from approval_mail.stopping import ended_by_signals

#: Seconds between two looks.
_LOOK_AGAIN = 1.0
#: Pending requests that are followed; the newest of them.
_MOST_PENDING = 1000
#: Requests of any status that are looked at, so that one which ends between two looks is seen all the same.
_NEWEST = 50


class _Follower:
    """Knows what it saw last, and so what has changed."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        #: By request id; newest first.
        self.seen: dict[str, Approval] = {}
        self._first = True

    def look(self) -> list[Approval]:
        """The requests that changed since the last look, oldest first; at the first look all that are pending."""
        pending, _ = newest(self._desk, _MOST_PENDING, status=Status.PENDING)
        recent, _ = newest(self._desk, _NEWEST)
        # The second answer is the later one.
        now = {approval.request_id: approval for approval in (*pending, *recent)}
        for gone in self.seen.keys() - now.keys():
            if self.seen[gone].status is Status.PENDING and (ended := self._read(gone)):
                now[gone] = ended
        before, self.seen = self.seen, dict(sorted(now.items(), key=lambda item: item[1].requested_at, reverse=True))
        changed = [approval for name, approval in self.seen.items() if before.get(name) != approval]
        if self._first:
            changed = [approval for approval in changed if approval.status is Status.PENDING]
        self._first = False
        return changed[::-1]

    def _read(self, request_id: str) -> Approval | None:
        try:
            return self._desk.read(request_id)
        except UnknownApproval:
            return None


@click.command("watch", short_help="Requests as they come, wait and end, until Ctrl-C.")
@as_json_option
def command(as_json: bool) -> None:
    """Show requests as they come, wait and end, until Ctrl-C.

    A table on a terminal; with --json, or where another program reads, a line of JSON for each pending request and
    then for each change.
    """
    follower = _Follower(desks.for_operators())
    try:
        with ended_by_signals():
            if as_json or not can_draw():
                _print_changes(follower)
            else:
                _draw(follower)
    except KeyboardInterrupt:
        return


def _print_changes(follower: _Follower) -> None:
    changes = follower.look()
    silent = False
    while True:
        for approval in changes:
            click.echo(json.dumps(approval.as_json()))
        time.sleep(_LOOK_AGAIN)
        try:
            changes, silent = follower.look(), False
        except ApprovalsUnavailable as error:
            if not silent:
                click.echo(f"{plain(str(error))}; trying again", err=True)
            changes, silent = [], True


def _draw(follower: _Follower) -> None:
    follower.look()
    trouble = ""
    with screen.Screen() as drawn:
        while True:
            drawn.show(list(_lines(list(follower.seen.values()), trouble)))
            time.sleep(_LOOK_AGAIN)
            try:
                follower.look()
                trouble = ""
            except ApprovalsUnavailable as error:
                trouble = f"{plain(str(error))}; trying again"


def _lines(approvals: list[Approval], trouble: str) -> Iterator[str]:
    """What fits the terminal: those that wait, then those that have ended, each newest first."""
    room = terminal_size()
    now = datetime.now(timezone.utc)
    waiting = [approval for approval in approvals if approval.status is Status.PENDING]
    shown = [*waiting, *(each for each in approvals if each.status is not Status.PENDING)][: max(room.lines - 3, 0)]
    summary = f"{len(waiting)} pending at {local(now)}; Ctrl-C ends"
    yield click.style(fit(trouble or summary, room.columns), fg="red" if trouble else None)
    yield ""
    heading, *rows = table(shown, width=room.columns, now=now).splitlines()
    yield click.style(heading, bold=True)
    for approval, line in zip(shown, rows, strict=True):
        yield line if approval.status is Status.PENDING else click.style(line, dim=True)
