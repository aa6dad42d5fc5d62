"""What is this machine alone. Pure."""

from __future__ import annotations

import ipaddress
import re

#: Host headers with which a browser or program reaches a server that this machine alone can reach.
_LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """Whether an address, or a name to listen on, leads from this machine to itself; mapped IPv4 included."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    return bool((getattr(found, "ipv4_mapped", None) or found).is_loopback)


def is_local(host: str) -> bool:
    """Whether a Host header, or a URL's host and port, names this machine to itself; any port, for one may forward."""
    return _LOCAL_HOST.fullmatch(host) is not None
