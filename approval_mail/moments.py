"""Moments as people read them, in mails, on pages, on terminals and in errors. Pure."""

from __future__ import annotations

from datetime import datetime, tzinfo

#: Zone abbreviations that mean one offset all over the world; others are shown with the offset.
_CLEAR_ZONES = frozenset(("UTC", "GMT", "KST", "JST", "CET", "CEST"))


def word_moment(moment: datetime | None, timezone: tzinfo | None) -> str:
    """A time in ``timezone`` (None: the system's) such as ``2025-10-25 15:35:00 KST``; empty for None."""
    if moment is None:
        return ""
    local = moment.astimezone(timezone)
    zone = local.tzname() or ""
    if zone not in _CLEAR_ZONES:
        offset = local.strftime("%z")
        offset = f"UTC{offset[:3]}:{offset[3:5]}"
        zone = f"{zone} ({offset})" if zone.isalpha() else offset
    return f"{local.isoformat(' ', 'seconds')[:19]} {zone}"
