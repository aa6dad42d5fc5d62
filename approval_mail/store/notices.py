"""What processes of all hosts tell one another, beside the events."""

from __future__ import annotations

from typing import Any

import redis

from approval_mail.store.arguments import milliseconds, time_of

#: Seconds. What a worker says of its routes holds for so long, unless it says it again.
_ROUTES_REPORTED_FOR = 30


class Notices:
    """News that one of them is to log, and faulty routes; the keys are those of `EventStore`."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client: Any = client
        self._prefix = prefix

    def is_news(self, topic: str, *, seconds: float) -> bool:
        """Whether nobody said so before within ``seconds``: many processes see one thing, and one of them tells it."""
        return bool(self._client.set(f"{self._prefix}told:{topic}", "1", nx=True, px=milliseconds(seconds)))

    def report_routes(self, place: str, fault: str) -> None:
        """Say what is wrong with the routes in a place, ``host:path``, or, by an empty fault, that nothing is.

        It is to be said again while it lasts: `routes_faults` answers it for _ROUTES_REPORTED_FOR.
        """
        key = f"{self._prefix}routes"
        if fault:
            self._client.hset(key, place, f"{time_of(self._client)} {fault}")
            self._client.pexpire(key, milliseconds(_ROUTES_REPORTED_FOR))
        else:
            self._client.hdel(key, place)

    def routes_faults(self) -> dict[str, str]:
        """By place, why the last version of a file of routes is not taken; empty: all are in force."""
        found = self._client.hgetall(f"{self._prefix}routes")
        oldest = time_of(self._client) - milliseconds(_ROUTES_REPORTED_FOR) if found else 0
        rows = ((place, *text.partition(" ")[::2]) for place, text in sorted(found.items()))
        return {place: fault for place, at, fault in rows if at.isdecimal() and int(at) >= oldest}
