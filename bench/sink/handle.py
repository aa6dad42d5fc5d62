"""What every sink is to the bench, whatever server is behind it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

#: Seconds between two looks at what has arrived; when it did is known all the same.
_LOOK = 0.05


class Sink(ABC):
    """A mail server in a process of its own that keeps no mail but tells whose came, and when."""

    #: As the circumstances of a table name it.
    name: str
    #: What an application must know to send to it, as environment variables.
    settings: dict[str, str]

    @abstractmethod
    def accepted(self) -> int:
        """How many mails were accepted since the beginning or the last reset."""

    @abstractmethod
    def recipients(self) -> int:
        """How many recipients these mails were for."""

    @abstractmethod
    def arrivals(self) -> dict[str, float]:
        """When the first mail for each recipient was accepted, by time.monotonic(); keyed by its local part."""

    @abstractmethod
    def reset(self) -> None:
        """Forget what has arrived."""

    @abstractmethod
    def stop(self) -> None:
        """End the process."""

    def wait_for(self, count: int, *, within: float) -> float:
        """Wait until ``count`` recipients have their mail; answers when the last of these was accepted.

        ``within`` is in seconds; raises TimeoutError telling how many had arrived by then.
        """
        deadline = time.monotonic() + within
        while (found := self.recipients()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{found} of {count} mails arrived within {within:g} s")
            time.sleep(_LOOK)
        return sorted(self.arrivals().values())[count - 1]
