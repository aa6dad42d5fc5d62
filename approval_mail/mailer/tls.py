"""The TLS context that connections to a channel share."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from pathlib import Path

from approval_mail.mailer.channel import Channel
from approval_mail.mailer.trouble import trouble


def tls_context(channel: Channel) -> ssl.SSLContext:
    """A context that verifies, made anew once the certificates on disk have changed; raises ChannelTrouble.

    Reading the system's certificates takes longer than a mail.
    """
    system = ssl.get_default_verify_paths()
    places = [channel.ca_file] if channel.ca_file else [system.cafile, system.capath]
    try:
        return _context(channel.ca_file, tuple(_state(place) for place in places if place))
    except (OSError, ssl.SSLError) as error:
        raise trouble(
            channel,
            "tls",
            f"SMTP_TLS_CA_FILE cannot be used: {error}",
            permanent=True,
            next_step="name a file with PEM certificates in SMTP_TLS_CA_FILE",
        ) from error


def _state(place: Path | str) -> tuple[int, int]:
    # Not by a Path made for each session: it interns its parts and drops them again, until Python's table of interned
    # strings, which processes share from the fork on, is full and each makes itself one of twice the size.
    status = os.stat(place)
    return status.st_ino, status.st_ctime_ns  # Which no tool sets back, unlike the time of modification.


@lru_cache(maxsize=4)
def _context(ca_file: Path | None, states: tuple[tuple[int, int], ...]) -> ssl.SSLContext:
    """``states`` tell one set of certificates from another."""
    return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
