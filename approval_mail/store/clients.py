"""Redis clients: as patient as whoever waits for them."""

from __future__ import annotations

import copy

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from approval_mail import timing
from approval_mail.bounded import BoundedConnection, BoundedSSLConnection
from approval_mail.parsers import split_tls

#: What redis-py raises when a command cannot be done: out of reach, refused, out of memory, read-only.
StoreError = redis.RedisError


def url_fault(url: str) -> str | None:
    """What redis-py would say of this URL at the first use, None if nothing; nothing is connected."""
    bare, tls = split_tls(url)
    try:
        redis.ConnectionPool.from_url(bare, **tls).make_connection()
    except (ValueError, TypeError, AttributeError) as error:
        return str(error)
    except OSError:  # redis-py reads a file of its own, which cannot be opened just now.
        return None
    return None


def hook_client(url: str) -> redis.Redis:
    """A client for hooks: 0.2 s for each step, one more try on a stale connection, none after a timeout.

    Within `bounded.within` its steps share that deadline.
    """
    return _client(url, timeout=timing.HOST_STEP, retry=_ON_A_STALE_CONNECTION)


def operator_client(url: str) -> redis.Redis:
    """A client for a person who waits: 5 s for each step, one more try on a stale connection."""
    return _client(url, timeout=timing.PATIENT_STEP, retry=_ON_A_STALE_CONNECTION)


def worker_client(url: str) -> redis.Redis:
    """A client for workers: retries for about 15 s, so that an accepted mail is settled across a restart of Redis."""
    return _client(url, timeout=timing.PATIENT_STEP, retry=_ACROSS_A_RESTART)


#: Also one to a server that is no longer the master: its name may lead to the new one.
_ON_A_STALE_CONNECTION = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError, redis.ReadOnlyError))
_ACROSS_A_RESTART = Retry(
    ExponentialBackoff(cap=3, base=0.1),
    9,
    supported_errors=(
        redis.ConnectionError,
        redis.TimeoutError,
        redis.ReadOnlyError,
        redis.exceptions.OutOfMemoryError,
    ),
)


def _client(url: str, *, timeout: float, retry: Retry) -> redis.Redis:
    bare, tls = split_tls(url)
    return redis.Redis.from_url(
        bare,
        decode_responses=True,
        encoding_errors="replace",  # A damaged record is buried; what raised would show it to everyone.
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=copy.deepcopy(retry),  # It keeps the state of its back-off.
        connection_class=BoundedSSLConnection if url.startswith("rediss://") else BoundedConnection,
        **tls,
    )
