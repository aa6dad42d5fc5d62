"""A task's message in a worker: it shows what its arguments are about, and waits no longer than it was told to."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from celery.worker.request import Request

from approval_mail.descriptions import describe


class DescribedRequest(Request):  # type: ignore[misc]  # Celery has no types
    """Describes its arguments in events (what Flower shows), in answers to ``celery inspect``, and in logs.

    Done here rather than by whoever sends, so that a task sent by any Celery client is described. A header
    ``about``, which retries keep, describes what arguments that are mere ids do not tell.
    """

    _eta: datetime | None

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        about = self._request_dict.get("about") or describe(self.name, self._args, self._kwargs)
        self._argsrepr = self._request_dict["argsrepr"] = about
        self._kwargsrepr = self._request_dict["kwargsrepr"] = ""
        self._bound_wait()

    def _bound_wait(self) -> None:
        """Wait for no longer than the countdown: a message names a moment by its sender's clock."""
        countdown = self._request_dict.get("countdown")
        if self._eta is not None and isinstance(countdown, (int, float)):
            self._eta = min(self._eta, datetime.now(timezone.utc) + timedelta(seconds=countdown))

    def info(self, safe: bool = False) -> dict[str, Any]:
        """What ``celery inspect`` answers; Celery's own would show the arguments unless ``safe``."""
        found: dict[str, Any] = super().info(safe=True)
        return found
