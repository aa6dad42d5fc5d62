"""``approval-mail check``: is everything there that a mail needs? One timed line each."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import tenacity

from approval_mail import services, timing
from approval_mail.celery import consumers
from approval_mail.cli.output import as_json_option, local, plural, row, terminal_size
from approval_mail.cli.sample import render_example
from approval_mail.errors import ApprovalMailError, ChannelTrouble, InvalidRoutes, InvalidSettings, SpoolUnavailable
from approval_mail.events import EVENT_TYPES
from approval_mail.rendering import DIGEST
from approval_mail.spool_room import MAX_FILES
from approval_mail.store import StoreError

#: Where the details of a line begin.
_INDENT = " " * 25
#: Seconds between two looks while `--wait` lasts.
_LOOK_AGAIN = 1.0


class _Trouble(ApprovalMailError):
    """What a check found, and what to do about it."""

    def __init__(self, detail: str, next_step: str) -> None:
        super().__init__(detail)
        self.next_step = next_step


@dataclass(frozen=True, slots=True)
class Line:
    """The answer of one check."""

    name: str
    ok: bool
    seconds: float
    detail: str
    #: What the operator does now; empty if all is well.
    next_step: str


def _lines(names: Collection[str]) -> Iterator[Line]:
    redis_ok = True
    for name, look in _CHECKS.items():
        # Nothing can be tried without settings.
        if name not in names and not (name == "settings" and services.loaded().problems):
            continue
        started = time.perf_counter()
        if not redis_ok and (name == "beat" or (name == "worker" and services.settings().broker_is_redis)):
            yield Line(name, False, 0.0, "not tried: it is asked through Redis", "mend Redis first")
            continue
        ok, detail, next_step = _ask(look)
        redis_ok &= ok or name != "redis"
        yield Line(name, ok, round(time.perf_counter() - started, 3), detail, next_step)
        if name == "settings" and services.loaded().problems:
            return


def _ask(look: Callable[[], str]) -> tuple[bool, str, str]:
    try:
        return True, look(), ""
    except _Trouble as trouble:
        return False, str(trouble), trouble.next_step
    except InvalidRoutes as error:
        return (
            False,
            "; ".join(error.problems),
            "mend the file; workers go on with the last good version, but one that is restarted does not start",
        )
    except InvalidSettings as error:
        return False, "; ".join(error.problems), "mend these in the environment or in .env"
    except SpoolUnavailable as error:
        return False, str(error), error.next_step
    except StoreError as error:
        return False, f"Redis cannot be used ({error})", "check REDIS_URL and that the server is running"


def _settings() -> str:
    settings = services.settings()
    where = "the environment" + (
        f" and {Path('.env').absolute()}" if Path(".env").is_file() else f"; no .env in {Path().absolute()}"
    )
    if not settings.enabled:
        raise _Trouble(
            f"notifications are disabled: hooks record nothing; read from {where}", "set NOTIFICATION_ENABLED=true"
        )
    return "; ".join((f"notifications are enabled; read from {where}", *services.loaded().warnings))


def _templates() -> str:
    folder = services.settings().template_dir
    if folder and not folder.is_dir():
        raise _Trouble(f"{folder} is not a folder: the packaged templates are used", "mend NOTIFICATION_TEMPLATE_DIR")
    try:
        if file := services.routes_file():
            file.load()  # A change that is met here first would be no news to workers, and they would not log it.
        languages = services.languages()
    except InvalidRoutes:  # The line of routes says so.
        languages = [services.settings().language]
    taken: dict[tuple[str, str], None] = {}
    for language in languages:
        renderer = services.renderer(language)
        for name in (*EVENT_TYPES, DIGEST):
            content = render_example(name, language, {})
            fault = renderer.fault(name)
            if fault:
                raise _Trouble(f"{fault}; {content.template} is used in its place", "mend the template at that line")
        taken |= dict.fromkeys(renderer.sources().items())
    return f"all {len(EVENT_TYPES)} mails and the digest render; {_where_from(taken)}"


def _where_from(sources: Iterable[tuple[str, str]]) -> str:
    """Each template file, by its name and path, under the folder that it is in."""
    names = defaultdict(list)
    for name, path in sources:
        taken = Path(path)
        names[taken.parent].append(name if taken.name == name else f"{name} (made from {taken.name})")
    return "; ".join(f"from {folder}: {', '.join(found)}" for folder, found in names.items())


def _routes() -> str:
    file = services.routes_file()
    if file is None:
        return "NOTIFICATION_ROUTES is unset: what names no email_to itself goes to EMAIL_TO"
    return f"{plural(len(file.load()), 'rule')} in {services.settings().routes}"


def _spool() -> str:
    spool = services.spool()
    spool.probe()
    if spool.is_open_to_all():
        raise _Trouble(
            f"every user of this host may put events into {spool.folder}, to be mailed", f"chmod 700 {spool.folder}"
        )
    found = spool.room.stock()
    waiting = f"{plural(found.waiting, 'event')} waiting" if found.waiting else "nothing waits"
    bad = f"; {plural(found.bad, 'file')} set aside as .bad" if found.bad else ""
    return f"{spool.folder} has room for {MAX_FILES - found.files:,} events; {waiting}{bad}"


def _redis() -> str:
    found = services.operator_store().server()
    if found["maxmemory"] and found["maxmemory_policy"] != "noeviction":
        raise _Trouble(
            f"{found['name']} evicts keys when its memory is full (maxmemory-policy {found['maxmemory_policy']})",
            "set maxmemory-policy noeviction, or events can disappear",
        )
    return f"{found['name']} answers" + ("" if found["aof"] else "; without an append-only file a crash loses events")


def _worker() -> str:
    try:
        count = consumers()
    except Exception as error:  # Each broker's library raises its own.
        why = f"{type(error).__name__}: {error}"
        raise _Trouble(f"they cannot be asked ({why})", "check CELERY_BROKER_URL (unset: REDIS_URL)") from error
    if not count:
        raise _Trouble("none consumes the queue approval_mail", "start one: celery -A approval_mail worker")
    return f"{count} of them consume the queue approval_mail" if count > 1 else "one consumes the queue approval_mail"


def _beat() -> str:
    ago = services.operator_store().count().beat_seconds_ago
    if ago is None or not timing.beat_lives(ago, services.settings().batch_timeout):
        seen = "no gather of beat's was ever run" if ago is None else f"beat's last gather ran {ago:.0f} s ago"
        raise _Trouble(seen, "start exactly one: celery -A approval_mail beat (and a worker to run what it sends)")
    return f"its last gather ran {ago:.1f} s ago"


def _smtp() -> str:
    settings = services.settings()
    mailer = services.mailer()
    try:
        with mailer.session() as session:
            refusals = session.probe(settings.email_to)
    except ChannelTrouble as trouble:
        raise _Trouble(f"{trouble.reason}{_held(trouble.reason)}", trouble.next_step) from trouble
    mailer.close()
    if refusals:
        said = "; ".join(f"{address}: {reply}" for address, reply in refusals.items())
        raise _Trouble(
            f"{mailer.channel} would not take a mail: {said}{_held()}", "mend EMAIL_FROM, EMAIL_TO or the server"
        )
    return f"{mailer.channel} would take mails for {plural(len(settings.email_to), 'recipient')}{_held()}"


def _held(said: str = "") -> str:
    """Since when the workers hold the channel, and why unless it is ``said``; empty if they do not."""
    try:
        counts = services.operator_store().count()
    except StoreError:
        return ""  # The line of Redis says so.
    if counts.held_since is None:
        return ""
    why = f" ({counts.held_reason})" if counts.held_reason != said else ""
    again = "they probe it within a minute; if settings were changed, restart them"
    return f"; workers have held the channel since {local(counts.held_since)}{why}: {again}"


_CHECKS: dict[str, Callable[[], str]] = {
    "settings": _settings,
    "templates": _templates,
    "routes": _routes,
    "spool": _spool,
    "redis": _redis,
    "worker": _worker,
    "beat": _beat,
    "smtp": _smtp,
}


@click.command("check", short_help="Try every part; one line for each.")
@click.option("--wait", type=click.FloatRange(min=0), default=0, metavar="S", help="Keep trying for so many seconds.")
@click.option("--only", type=click.Choice(_CHECKS), multiple=True, help="This check alone; repeat it for more.")
@as_json_option
def command(wait: float, only: tuple[str, ...], as_json: bool) -> None:
    """Try settings, templates, routes, Redis, spool, worker, beat, and SMTP up to RSET; nothing is sent.

    Exit code 0 if all is well, 1 if not, 2 if the settings cannot be used.
    """
    patiently = tenacity.Retrying(
        stop=tenacity.stop_after_delay(wait),
        wait=tenacity.wait_fixed(_LOOK_AGAIN),
        # Settings are read once: they do not mend themselves meanwhile.
        retry=tenacity.retry_if_result(lambda lines: any(not line.ok for line in lines if line.name != "settings")),
        before_sleep=_say_what_is_missing,
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else [],
    )
    lines = patiently(lambda: list(_lines(only or tuple(_CHECKS))))
    if as_json:
        click.echo(json.dumps([row(line) for line in lines]))
    else:
        for line in lines:
            mark = click.style("ok  ", fg="green") if line.ok else click.style("FAIL", fg="red")
            click.echo(f"{mark} {line.name:<9} {line.seconds:6.2f} s  {_wrapped(line.detail)}")
            if line.next_step:
                click.echo(f"{_INDENT}next step: {_wrapped(line.next_step)}")
    sys.exit(2 if services.loaded().problems else not all(line.ok for line in lines))


def _wrapped(text: str) -> str:
    """Text that stays in its column on a terminal; other programs get it on one line."""
    if not sys.stdout.isatty():
        return text
    width = max(terminal_size().columns - len(_INDENT), 40)
    return textwrap.fill(text, width, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False)


def _say_what_is_missing(state: tenacity.RetryCallState) -> None:
    lines: list[Line] = state.outcome.result() if state.outcome else []
    missing = ", ".join(line.name for line in lines if not line.ok)
    click.echo(f"waiting for {missing} ({state.seconds_since_start:.0f} s) ...", err=True)
