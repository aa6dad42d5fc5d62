"""Redis clients: as patient as whoever waits for them."""

from __future__ import annotations

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from approval_mail.bounded import BoundedConnection, BoundedSSLConnection

#: What redis-py raises when a command cannot be done: out of reach, refused, out of memory, read-only.
StoreError = redis.RedisError


def url_fault(url: str) -> str | None:
    """What redis-py would say of this URL at the first use, None if nothing; nothing is connected."""
    try:
        redis.ConnectionPool.from_url(url).make_connection()
    except (ValueError, TypeError, AttributeError) as error:
        return str(error)
    return None


def hook_client(url: str) -> redis.Redis:
    """A client for hooks: 0.2 s for each step, one more try on a stale connection, none after a timeout.

    Within `bounded.within` its steps share that deadline.
    """
    return redis.Redis.from_url(
        url,
        connection_class=BoundedSSLConnection if url.startswith("rediss://") else BoundedConnection,
        decode_responses=True,
        socket_timeout=0.2,
        socket_connect_timeout=0.2,
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )


def worker_client(url: str) -> redis.Redis:
    """A client for workers: retries for about 15 s, so that an accepted mail is settled across a restart of Redis."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=5,
        socket_connect_timeout=5,
        retry=Retry(
            ExponentialBackoff(cap=3, base=0.1),
            9,
            supported_errors=(
                redis.ConnectionError,
                redis.TimeoutError,
                redis.ReadOnlyError,
                redis.exceptions.OutOfMemoryError,
            ),
        ),
    )


def operator_client(url: str) -> redis.Redis:
    """A client for a person who waits: 5 s for each step, one more try on a stale connection."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=5,
        socket_connect_timeout=5,
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )
