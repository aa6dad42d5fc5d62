"""Which mail answers which hook call, and how long it took."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from approval_mail.demo.catcher import CaughtMail
from approval_mail.demo.reading import read


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a hook."""

    #: Type of the event.
    type: str
    #: The Message-ID of the one mail that it is to cause.
    message_id: str
    #: Seconds of ``time.monotonic``, taken before the call.
    at: float


class Deliveries:
    """Pairs mails with calls; used by the thread that calls hooks and by the catcher's at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: By Message-ID, in the order of the calls.
        self._open: dict[str, Call] = {}
        #: Seconds by the mail's number.
        self._delays: dict[int, float] = {}

    def expect(self, call: Call) -> None:
        """Await the mail of ``call``; to be told before the hook is called."""
        with self._lock:
            self._open[call.message_id] = call

    def arrived(self, mail: CaughtMail) -> None:
        """Close the call that ``mail`` answers; a second copy of a mail answers none."""
        message_id = read(mail.raw).message_id
        with self._lock:
            if call := self._open.pop(message_id, None):
                self._delays[mail.number] = mail.monotonic - call.at

    def delay(self, mail: CaughtMail) -> float | None:
        """Seconds from the hook's call to the mail's acceptance; None if no call is known."""
        return self._delays.get(mail.number)

    def missing(self) -> list[str]:
        """The event types whose mail has not arrived yet, in the order of the calls."""
        with self._lock:
            return [call.type for call in self._open.values()]
