"""kombu's transports for Redis and RabbitMQ: bounded for publishers, steady for workers, sure of whom they talk to."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any

from amqp.transport import to_host_port
from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES, pyamqp
from kombu.transport import redis as kombu_redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from approval_mail import parsers
from approval_mail.bounded import BoundedConnection, BoundedSSLConnection, left


class RedisChannel(kombu_redis.Channel):
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


class RedisTransport(kombu_redis.Transport):
    """The transport that celeryconfig.py names for ``redis://`` and ``rediss://`` brokers."""

    Channel = RedisChannel


class AMQPConnection(pyamqp.Connection):
    """A connection to RabbitMQ each step of which takes no longer than the caller's deadline leaves."""

    connect_timeout: float | None

    def connect(self, callback: Any = None) -> Any:
        seconds = left(self.connect_timeout)
        if seconds:
            # Each address gets as long, and a TLS handshake as long as the connection before it.
            seconds /= _addresses(self.host) * (2 if self.ssl else 1)
        self.connect_timeout = seconds
        return super().connect(callback)

    def blocking_read(self, timeout: float | None = None) -> Any:
        return super().blocking_read(left(timeout))


def _addresses(host: str) -> int:
    """How many a host and port lead to; 1 for none, which whoever connects finds out."""
    name, port = to_host_port(host)
    with contextlib.suppress(OSError):
        return len(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)) or 1
    return 1


class AMQPTransport(pyamqp.Transport):
    """The transport that celeryconfig.py names for ``amqp://`` and ``amqps://`` brokers."""

    Connection = AMQPConnection

    def establish_connection(self) -> Any:
        client: Any = self.client
        hostname, options = client.hostname, client.ssl
        if options and isinstance(options, dict):
            client.ssl = _as_amqp(options, host=hostname)
        try:
            return super().establish_connection()  # type: ignore[no-untyped-call]
        finally:  # kombu makes localhost an address, which is not what a certificate is for.
            client.hostname, client.ssl = hostname, options


def _as_amqp(options: dict[str, Any], *, host: str) -> dict[str, Any]:
    """TLS options by redis-py's names, as py-amqp takes them; by itself it verifies no name."""
    found = {name.removeprefix("ssl_"): path for name, path in options.items() if name in parsers.TLS_FILES}
    reqs = options.get("ssl_cert_reqs", "required")
    found["cert_reqs"] = ssl.VerifyMode[f"CERT_{reqs.upper()}"] if isinstance(reqs, str) else reqs
    if options.get("ssl_check_hostname", found["cert_reqs"] is not ssl.CERT_NONE):
        found["server_hostname"] = host
    return found


def transport(url: str) -> str | None:
    """The name in celeryconfig.py of the transport for a broker's URL; None leaves it to kombu."""
    return _ALIASES.get(url.partition("://")[0])


_REDIS, _AMQP = "bounded-redis", "bounded-amqp"
_ALIASES = {"redis": _REDIS, "rediss": _REDIS, "amqp": _AMQP, "amqps": _AMQP, "pyamqp": _AMQP}
TRANSPORT_ALIASES[_REDIS] = f"{__name__}:RedisTransport"
TRANSPORT_ALIASES[_AMQP] = f"{__name__}:AMQPTransport"
# The names that are shown: Flower's page of the broker knows them, and so do people.
Connection.resolve_aliases |= {_REDIS: "redis", _AMQP: "amqp"}
