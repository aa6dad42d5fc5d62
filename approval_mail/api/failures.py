"""Counts what strangers try in vain, and says when an address has tried enough."""

from __future__ import annotations

import ipaddress
import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

#: Failures of one address within any minute; more are answered with 429. A person who pastes a wrong key stays below.
_LIMIT = RateLimitItemPerMinute(10)
#: Bits. One customer is usually given that many of an IPv6 address, and can change the others at will.
_IPV6_PREFIX = 64


class Failures:
    """Wrong keys and damaged links per client address, in memory.

    Only failures are counted, and only they are refused: whoever knows a key or has a sound link is served, also
    from an address that a stranger shares with them behind a proxy.
    """

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def add(self, address: str) -> int:
        """Count one more failure; answers the seconds to wait if that was too many, else 0."""
        group = _group(address)
        if self._limiter.hit(_LIMIT, group):
            return 0
        reset = self._limiter.get_window_stats(_LIMIT, group).reset_time
        return max(1, math.ceil(reset - time.time()))


def _group(address: str) -> str:
    """What shares one count: an IPv4 address, a network of IPv6 addresses, or whatever else a client is called."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((found, _IPV6_PREFIX), strict=False))
    return str(found)
