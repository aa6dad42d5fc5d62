"""``approval-mail dead``: mails that will not be tried again without an operator."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from approval_mail import services
from approval_mail.celery import wake_gather
from approval_mail.cli.output import as_json_option, local, plural, row
from approval_mail.store import DeadMail

Command = TypeVar("Command", bound=Callable[..., Any])

_ONE_OF_BOTH = "name the events by their EVENT_ID, or all of them with --all, not both"


@click.group("dead")
def command() -> None:
    """List, show, retry or discard dead mails."""


def _which(function: Command) -> Command:
    """The arguments that name events: EVENT_ID ... or --all."""
    function = click.argument("event_ids", nargs=-1, metavar="[EVENT_ID]...")(function)
    return click.option("--all", "everything", is_flag=True, help="Every event that has a dead mail.")(function)


#: For scripts that always say it: these ask nothing.
_yes = click.option("--yes", is_flag=True, hidden=True, expose_value=False)


@command.command("list", short_help="One row per dead mail.")
@_which
@_yes
@as_json_option
def list_dead(event_ids: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """One row per dead mail, of all events unless some are named."""
    if event_ids and everything:
        raise click.UsageError(_ONE_OF_BOTH)
    mails = list(services.operator_store().history.dead(event_ids or None))
    if as_json:
        click.echo(json.dumps([row(mail) for mail in mails]))
        return
    for mail in mails:
        click.echo(f"{mail.event_id}  {mail.recipient}  {local(mail.failed_at)}  {mail.phase}: {mail.reason}")
    click.echo(f"{plural(len(mails), 'dead mail')}; each line begins with its EVENT_ID", err=True)


@command.command("show")
@_which
@_yes
@as_json_option
def show(event_ids: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Everything known of some events' dead mails."""
    mails = _chosen(event_ids, everything)
    if as_json:
        click.echo(json.dumps([row(mail) for mail in mails]))
        return
    for mail in mails:
        for name, value in {**row(mail), "failed_at": local(mail.failed_at)}.items():
            click.echo(f"{name:<11} {'-' if value is None else value}")
        click.echo()


@command.command("retry", short_help="Try dead mails again.")
@_which
@_yes
@as_json_option
def retry(event_ids: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Try dead mails again, with recipients resolved anew; who was sent the event already is skipped."""
    mails = _chosen(event_ids, everything)
    ids = list(dict.fromkeys(mail.event_id for mail in mails))
    reopened = sum(services.operator_store().reopen(event_id) for event_id in ids)
    wake_gather()
    _answer("reopened", reopened, len(ids), as_json)


@command.command("discard")
@_which
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
def discard(event_ids: tuple[str, ...], everything: bool, yes: bool, as_json: bool) -> None:
    """Give dead mails up for good: they become suppressed."""
    mails = _chosen(event_ids, everything)
    ids = list(dict.fromkeys(mail.event_id for mail in mails))
    if not yes:
        question = f"Discard {plural(len(mails), 'dead mail')} of {plural(len(ids), 'event')}?"
        click.confirm(question, abort=True, err=True)
    discarded = sum(services.operator_store().discard(event_id, reason="discarded by an operator") for event_id in ids)
    _answer("discarded", discarded, len(ids), as_json)


def _chosen(event_ids: tuple[str, ...], everything: bool) -> list[DeadMail]:
    if bool(event_ids) == everything:
        raise click.UsageError(_ONE_OF_BOTH)
    mails = list(services.operator_store().history.dead(event_ids or None))
    unknown = set(event_ids) - {mail.event_id for mail in mails}
    if unknown:
        click.echo(f"no dead mail of {', '.join(sorted(unknown))}: see approval-mail dead list", err=True)
        sys.exit(1)
    return mails


def _answer(verb: str, mails: int, events: int, as_json: bool) -> None:
    said = f"{verb} {plural(mails, 'mail')} of {plural(events, 'event')}"
    click.echo(json.dumps({verb: mails, "events": events}) if as_json else said)
