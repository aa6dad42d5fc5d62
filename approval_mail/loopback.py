"""What is this machine alone. Pure."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether an address, or a name to listen on, leads from this machine to itself; mapped IPv4 included."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    return bool((getattr(found, "ipv4_mapped", None) or found).is_loopback)
