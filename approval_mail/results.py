"""Celery's results: watched by nobody, and kept over connections that follow a failover."""

from __future__ import annotations

from typing import Any

from celery.backends import redis
from celery.result import AsyncResult

from approval_mail.bounded import BoundedConnection, BoundedSSLConnection


class UnwatchedResult(AsyncResult):  # type: ignore[misc]  # Celery has no types
    """A result that is read by whoever asks for it, and not announced to the sender of the task.

    Celery's own has the process that sends a chord subscribe to the result of each batch and, once nobody holds that
    result, unsubscribe; as nobody reads that connection, redis-py remembers every channel for as long as it lives.
    """

    def then(self, callback: Any, on_error: Any = None, weak: bool = False) -> Any:
        """Keep ``callback`` for whoever completes this object: nobody does here."""
        return self.on_ready.then(callback, on_error)


class RedisBackend(redis.RedisBackend):  # type: ignore[misc]
    """Celery's own, but its connections leave a server that is no longer the master."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        over_tls = "connection_class" in self.connparams
        self.connparams["connection_class"] = BoundedSSLConnection if over_tls else BoundedConnection
