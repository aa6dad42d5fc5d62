"""``approval-mail status``: where every event is, and how the pipeline is doing."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import click

from approval_mail import overview
from approval_mail.cli.output import as_json_option, local


@click.command("status")
@as_json_option
def command(as_json: bool) -> None:
    """Count events, each once, and show the worker, beat and channel."""
    found = _status()
    click.echo(json.dumps(found) if as_json else _page(found))


def _status() -> dict[str, Any]:
    found = overview.look()
    counts = found.counts
    return {
        "enabled": found.enabled,
        "pending": counts.pending,
        "deferred": counts.deferred,
        "claimed": counts.claimed,
        "sent": counts.sent,
        "dead": counts.dead,
        "suppressed": counts.suppressed,
        "spooled": found.spooled,
        "untold": counts.untold,
        "oldest_pending_seconds": counts.oldest_pending_seconds,
        "beat_seconds_ago": counts.beat_seconds_ago,
        "workers": found.workers,
        "channel": {
            "held_since": counts.held_since.isoformat(timespec="seconds") if counts.held_since else None,
            "reason": counts.held_reason,
        },
        "spool": {"folder": str(found.spool_folder), "fault": found.spool_fault},
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
    ]
    return "\n".join(f"{name:<15} {value}".rstrip() for name, value in rows)


def _channel(held_since: str | None, reason: str | None) -> str:
    return f"held since {local(datetime.fromisoformat(held_since))}: {reason}" if held_since else "open"
