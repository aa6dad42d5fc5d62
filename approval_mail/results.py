"""What Celery keeps of a chord's results in the process that sent it."""

from __future__ import annotations

from typing import Any

from celery.result import GroupResult
from vine import barrier


class UnwatchedGroup(GroupResult):  # type: ignore[misc]  # Celery has no types
    """The results of a chord's header, for none of which anybody waits.

    Celery's own would subscribe to each of them in the result backend: one channel and one object for each batch, for
    as long as the process lives, and a connection on which all results arrive unread.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"ready_barrier": barrier(), **options})
