"""What Celery keeps of the results of what a process sends."""

from __future__ import annotations

from typing import Any

from celery.result import AsyncResult


class UnwatchedResult(AsyncResult):  # type: ignore[misc]  # Celery has no types
    """A result that is read by who asks for it, and not announced to who sent the task.

    Celery's own has the process that sends a chord subscribe to the result of each batch and, once nobody holds that
    result, unsubscribe; as nobody reads that connection, redis-py remembers every channel for as long as it lives.
    """

    def then(self, callback: Any, on_error: Any = None, weak: bool = False) -> Any:
        """Keep ``callback`` for whoever completes this object: nobody does here."""
        return self.on_ready.then(callback, on_error)
