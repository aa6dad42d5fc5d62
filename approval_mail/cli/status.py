"""``approval-mail status``: where every event is, and how the pipeline is doing."""

from __future__ import annotations

import json
import math
import sys
import time
from datetime import datetime
from typing import Any

import click

from approval_mail import overview, services
from approval_mail.cli import extras
from approval_mail.cli.live import looks
from approval_mail.cli.live.trend import Throughput, Trend
from approval_mail.cli.output import as_json_option, can_draw, local, routes_faults, row
from approval_mail.fields import plain
from approval_mail.stopping import ended_by_signals


@click.command("status")
@click.option("--watch", is_flag=True, help="Stay, as a page that is drawn anew until q; with --json a line each time.")
@click.option(
    "--interval",
    type=click.FloatRange(0.5, 60),
    metavar="SECONDS",
    help="With --watch: between two looks; 2 if not given.",
)
@as_json_option
def command(watch: bool, interval: float | None, as_json: bool) -> None:
    """Count events, each once, and show the worker, beat and channel."""
    if interval is not None and not (watch and math.isfinite(interval)):
        raise click.UsageError("--interval goes with --watch, and is 0.5 to 60 seconds")
    if watch:
        _stay(interval or 2.0, as_json=as_json)
        return
    seen = overview.look()
    if seen.around.fault:
        click.echo(f"workers cannot be asked ({plain(seen.around.fault)})", err=True)
    found = _status(seen)
    click.echo(json.dumps(found) if as_json else _page(found))


def _status(found: overview.Overview) -> dict[str, Any]:
    counts = found.counts
    return {
        "enabled": found.enabled,
        "pending": counts.pending,
        "deferred": counts.deferred,
        "claimed": counts.claimed,
        "sent": counts.sent,
        "dead": counts.dead,
        "suppressed": counts.suppressed,
        "spooled": found.around.spooled,
        "untold": counts.untold,
        "oldest_pending_seconds": counts.oldest_pending_seconds,
        "beat_seconds_ago": counts.beat_seconds_ago,
        "workers": found.around.workers,
        "channel": {
            "held_since": counts.held_since.isoformat(timespec="seconds") if counts.held_since else None,
            "reason": counts.held_reason,
        },
        "spool": {"folder": str(found.around.spool_folder), "fault": found.around.spool_fault},
        "routes_faults": dict(found.routes_faults),
    }


#: What to do about a count that is not zero.
_HINTS = {
    "dead": "  (why: approval-mail dead list)",
    "spooled": "  (bring them in: approval-mail spool replay)",
    "untold": "  (approval requests whose mails no server has accepted by half of their time: approval-admin list)",
}


def _page(found: dict[str, Any]) -> str:
    channel, oldest, beat = found["channel"], found["oldest_pending_seconds"], found["beat_seconds_ago"]
    spool = found["spool"]
    rows = [
        ("notifications", "enabled" if found["enabled"] else "disabled: hooks record nothing"),
        *(
            (name, f"{found[name]:,}{_HINTS.get(name, '') if found[name] else ''}")
            for name in ("pending", "deferred", "claimed", "sent", "dead", "suppressed", "spooled", "untold")
        ),
        ("oldest pending", f"{oldest:.1f} s" if oldest is not None else "-"),
        ("beat", f"{beat:.1f} s ago" if beat is not None else "never seen"),
        ("workers", str(found["workers"])),
        ("channel", _channel(channel["held_since"], channel["reason"])),
        ("spool", spool["fault"] or f"{spool['folder']} has room"),
        *(
            ("routes", f"not taken, the last good version goes on: {fault}")
            for fault in routes_faults(found["routes_faults"])
        ),
    ]
    return "\n".join(f"{name:<15} {value}".rstrip() for name, value in rows)


def _channel(held_since: str | None, reason: str | None) -> str:
    return f"held since {local(datetime.fromisoformat(held_since))}: {reason}" if held_since else "open"


def _stay(interval: float, *, as_json: bool) -> None:
    settings = services.settings()
    trend = Trend(
        enabled=settings.enabled,
        batch_timeout=settings.batch_timeout,
        interval=interval,
        moment=local,
    )
    if as_json:
        _print_lines(trend, interval)
        return
    if not can_draw():
        click.echo("status --watch draws on a terminal: add --json for a line of JSON each time", err=True)
        sys.exit(2)
    extras.require("watch")
    from approval_mail.cli.live import screen  # noqa: PLC0415 the extra's module, which other commands do without

    screen.show(trend, interval=interval)


def _print_lines(trend: Trend, interval: float) -> None:
    """A line for each look; while Redis is out of reach, one that says so."""
    try:
        with ended_by_signals(), looks.Lookout(interval) as lookout:
            fresh = False
            while news := lookout.news(wait=True):
                trend.add(news)
                if isinstance(news, looks.Lost):
                    click.echo(json.dumps({"error": f"Redis cannot be used ({news.reason})"}))
                fresh = isinstance(news, looks.Look) or (fresh and isinstance(news, overview.Around))
                seen = trend.view(time.monotonic())
                if fresh and seen.look and seen.around:  # The first look waits for what workers answer.
                    click.echo(json.dumps(_line(seen.look, seen.around, seen.throughput)))
                    fresh = False
    except KeyboardInterrupt:
        return


def _line(look: looks.Look, around: overview.Around, throughput: Throughput) -> dict[str, Any]:
    enabled = services.settings().enabled
    return {
        **_status(overview.Overview(enabled, look.counts, around, look.routes_faults)),
        "throughput": {
            "recorded_per_second": _finite(throughput.recorded_now),
            "recorded_per_second_last_minute": _finite(throughput.recorded_minute),
            "accepted_per_second": _finite(throughput.accepted_now),
            "accepted_per_second_last_minute": _finite(throughput.accepted_minute),
            "accepted": throughput.delivered,
            "p50_seconds": _finite(throughput.p50),
            "p95_seconds": _finite(throughput.p95),
        },
        "pending_by_age": [
            {"below_seconds": bound, "events": count}
            for bound, count in zip((*looks.AGES, None), look.by_age, strict=True)
        ],
        "failures": [row(failure) for failure in look.failures],
    }


def _finite(number: float | None) -> float | None:
    """JSON knows no infinity: what took longer than the last bound has none."""
    return round(number, 3) if number is not None and math.isfinite(number) else None
