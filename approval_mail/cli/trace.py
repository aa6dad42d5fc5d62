"""``approval-mail trace``: everything that happened to one approval request's events."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator

import click

from approval_mail import services
from approval_mail.cli.output import as_json_option, local, row
from approval_mail.store import MAX_TRACE, Change

#: Request ids that are named where one was meant.
_SHOWN = 10


@click.command("trace", short_help="All that happened to a request's mails.")
@click.argument("request_id", metavar="REQUEST_ID")
@as_json_option
def command(request_id: str, as_json: bool) -> None:
    """Every change of state of a request's events and mails, with the seconds since the one before.

    The beginning of a REQUEST_ID, such as the eight characters that mails and logs show, is enough.
    """
    request_id = _whole(request_id, as_json=as_json)
    changes = services.operator_store().history.trace(request_id)
    if as_json:
        click.echo(json.dumps([row(change) for change in changes]))
        return
    if changes:
        click.echo(f"from {local(changes[0].at)}")
    for line in _lines(request_id, changes):
        click.echo(line)
    for event_id, count in Counter(change.event_id for change in changes).items():
        if count > MAX_TRACE + 1:  # That it was recorded is noted elsewhere.
            click.echo(f"{event_id} has changed more often: the first changes are forgotten", err=True)


def _whole(text: str, *, as_json: bool) -> str:
    """The one request id that ``text`` is or begins; ends the program if there are none or several."""
    found = services.operator_store().history.requests(text)
    if len(found) == 1:
        return found[0]
    if found:
        shown = ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
        click.echo(f"{text!r} begins several request ids, give more of yours: {shown}", err=True)
    elif any(spooled.event.request_id.startswith(text) for spooled in services.spool().events()):
        click.echo(f"{text} waits on this host's disk alone: see approval-mail spool list", err=True)
    else:
        days = services.settings().history_days
        click.echo(
            f"no event of request {text} is on record (finished ones are kept for {days:g} days): "
            "check the id, REDIS_URL, and that the hook answered accepted",
            err=True,
        )
    if as_json:
        click.echo("[]")
    sys.exit(1)


def _lines(request_id: str, changes: list[Change]) -> Iterator[str]:
    zone = services.settings().timezone
    before = None
    for change in changes:
        delay = f"+{(change.at - before).total_seconds():.3f} s" if before else ""
        before = change.at
        attempt = f"try {change.attempt}" if change.attempt else ""
        code = str(change.code or "")
        reason = change.reason.removeprefix(code).strip()
        event = change.event_id.removeprefix(f"{request_id}:")
        line = (
            f"{change.at.astimezone(zone):%H:%M:%S.%f}"[:-3]
            + f"  {delay:>11}  {event:<21}  {change.state:<10}  {attempt:<6}  {code:<3}"
            + f"  {change.recipient}  {reason}"
        )
        yield line.rstrip()
