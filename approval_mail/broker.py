"""kombu's Redis transport, bounded for publishers and steady for workers."""

from __future__ import annotations

from typing import Any

from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from approval_mail.bounded import BoundedConnection, BoundedSSLConnection


class Channel(kombu_redis.Channel):
    """One more transport option, ``redis_retries``: how often redis-py itself tries a command again.

    redis-py retries three times by default, which turns a socket timeout of 0.2 s into 3.6 s
    (refused) or 6.8 s (no answer): too long for a hook. None leaves redis-py's default.
    """

    #: kombu restores a lost connection's unacknowledged messages here; with a held countdown this can
    #: leave a worker dead without exiting. They come back by the visibility timeout, the events by
    #: their lease. `worker.py` switches it on for a warm shutdown.
    do_restore = False
    connection_class = BoundedConnection
    connection_class_ssl = BoundedSSLConnection
    redis_retries: int | None = None
    from_transport_options = (  # type: ignore[assignment]  # kombu's is inferred at a fixed length
        *kombu_redis.Channel.from_transport_options,
        "redis_retries",
    )

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        params: dict[str, Any] = super()._connparams(asynchronous=asynchronous)  # type: ignore[no-untyped-call]
        if self.redis_retries is not None:
            params["retry"] = Retry(NoBackoff(), self.redis_retries)
        return params


class Transport(kombu_redis.Transport):
    """The transport that celeryconfig.py names for ``redis://`` and ``rediss://`` brokers."""

    Channel = Channel


#: The name in celeryconfig.py.
ALIAS = "bounded-redis"
TRANSPORT_ALIASES[ALIAS] = f"{__name__}:Transport"
# The name that is shown: Flower's page of the broker knows it, and so do people.
Connection.resolve_aliases[ALIAS] = "redis"
