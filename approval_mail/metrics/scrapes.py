"""Scrapes that come at the same time, or soon after another, share one look at how things stand."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from approval_mail.outage import Outage
from approval_mail.store import StoreError

logger = logging.getLogger(__name__)

#: Seconds. An answer is given again for so long: to ask workers takes one, and nobody scrapes as often.
SHARED_FOR = 3.0


class Scrapes:
    """Gives the metrics to threads of a server; trouble with Redis is logged when it begins and when it ends."""

    def __init__(self, look: Callable[[], bytes], *, clock: Callable[[], float] = time.monotonic) -> None:
        """``look`` makes the text of all metrics, in a second or so; ``clock`` tells seconds."""
        self._look = look
        self._clock = clock
        self._lock = threading.Lock()
        #: One thread for all looks: kombu's locks make ids by libuuid, which opens a file in each thread that it meets
        #: and never closes it.
        self._looker = ThreadPoolExecutor(1, thread_name_prefix="approval-mail-metrics")
        self._answer: Future[bytes] | None = None
        #: By the clock, when the last look ended well; a failure always comes later than that one is shared for.
        self._answered = float("-inf")
        self._outage = Outage(0)

    def text(self) -> bytes:
        """The metrics, as they were within the last SHARED_FOR seconds; raises what the look raised.

        Who comes while another thread looks gets what that one finds. A failure is not kept for later ones.
        """
        with self._lock:
            answer = self._answer
            if answer is None or (answer.done() and self._clock() - self._answered >= SHARED_FOR):
                answer = self._answer = self._looker.submit(self._find)
        return answer.result()

    def _find(self) -> bytes:
        try:
            found = self._look()
        except StoreError as error:
            if self._outage.note_failure():
                logger.error(
                    "There are no metrics: Redis cannot be used (%s): check REDIS_URL and that the server is running",
                    error,
                )
            raise
        if self._outage.note_success():
            logger.info("There are metrics again")
        self._answered = self._clock()
        return found
