"""How much the spool's folder may hold: counted by several processes, without a list of it at each write."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

from approval_mail.errors import SpoolUnavailable
from approval_mail.fields import MAX_EVENT

#: Files. Hours of a busy host's events; to look at so many takes a twentieth of a second.
MAX_FILES = 50_000
#: Bytes of all files together. So many usual events take a twentieth of it.
MAX_BYTES = 1 << 30
#: Bytes. No event's file is larger: JSON within JSON doubles it at the most.
MAX_FILE = 3 * MAX_EVENT

#: Seconds that what was seen of the folder holds.
_LOOK_AGAIN = 5.0
#: A process takes this part of the room that it saw before it looks again: others write as well.
_SHARE = 16


@dataclass(frozen=True, slots=True)
class Stock:
    """What the folder holds."""

    #: Events that wait.
    waiting: int
    #: Files set aside because they are no events.
    bad: int
    #: Files of any kind.
    files: int
    #: Bytes of all files together.
    size: int

    @property
    def fault(self) -> str:
        """Why there is no room; empty: there is."""
        if self.files < MAX_FILES and self.size < MAX_BYTES:
            return ""
        return (
            f"is full: it holds {self.files:,} files of {self.size >> 20:,} MiB, "
            f"the most is {MAX_FILES:,} of {MAX_BYTES >> 20:,} MiB"
        )


class Room:
    """What one process may still write into a folder that others write into as well.

    Judged by names, now and then: with more than sixteen processes at once, a few files more may come in.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Threads may count these down at once, and lose a count: no lock that a fork could leave locked is worth it.
        self._files_left = self._bytes_left = 0
        #: By time.monotonic(): until when what was seen holds.
        self._seen_until = 0.0
        #: Why there was no room when it was last looked at; empty: there was.
        self._full = ""

    def names(self) -> list[str]:
        """Of all files, in no order; none if the folder cannot be listed."""
        try:
            return os.listdir(self._folder)
        except (OSError, ValueError):
            return []

    def stock(self) -> Stock:
        """Look at the folder; one that cannot be listed counts as empty."""
        names = self.names()
        waiting = sum(name.endswith(".json") for name in names)
        bad = sum(name.endswith(".bad") for name in names)
        return Stock(waiting, bad, len(names), sum(map(self._size, names)))

    def require(self) -> None:
        """Look, and raise SpoolUnavailable if there is none."""
        self._look()
        self._refuse_if_full()

    def take(self, size: int) -> None:
        """Count one more file of so many bytes, or raise SpoolUnavailable."""
        used_up = not self._full and (self._files_left <= 0 or self._bytes_left < size)
        if used_up or time.monotonic() >= self._seen_until:
            self._look()
        self._refuse_if_full()
        self._files_left -= 1
        self._bytes_left -= size

    def grew(self) -> None:
        """Files were removed."""
        if self._full:
            self._seen_until = 0.0

    def _look(self) -> None:
        stock = self.stock()
        self._full = stock.fault
        self._files_left = math.ceil((MAX_FILES - stock.files) / _SHARE)
        self._bytes_left = max(math.ceil((MAX_BYTES - stock.size) / _SHARE), MAX_FILE)
        self._seen_until = time.monotonic() + _LOOK_AGAIN

    def _refuse_if_full(self) -> None:
        if self._full:
            raise SpoolUnavailable(
                f"the spool {self._folder} {self._full}",
                "mend Redis: what waits enters it by itself, files set aside as .bad do not",
            )

    def _size(self, name: str) -> int:
        """Bytes by the name, for looking at each of many files takes long; of a file that is not ours by a look."""
        parts = name.split("-", 2)
        if len(parts) == 3 and parts[1].isdecimal() and len(parts[1]) < 10:
            return int(parts[1])
        try:
            return (self._folder / name).lstat().st_size
        except OSError:
            return 0
