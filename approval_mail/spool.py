"""Events on local disk, for the time in which Redis cannot be reached."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from approval_mail.errors import InvalidRecord, SpoolUnavailable
from approval_mail.events import ApprovalEvent

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spooled:
    """One event that waits on disk."""

    path: Path
    event: ApprovalEvent
    #: Names the hook's call, so that a write whose reply was lost is known again.
    nonce: str


class Spool:
    """A folder with one file per event, ``<nanoseconds>-<nonce>.json``, readable by its owner alone.

    A file is written aside, fsynced and renamed, so that a file that is there is whole. Several
    processes may write and replay at once: the record is keyed by its nonce.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: Files that cannot be used, each told once.
        self._told: set[Path] = set()

    def write(self, event: ApprovalEvent, *, nonce: str) -> None:
        """Keep an event; on return it survives a crash of this host. Raises SpoolUnavailable."""
        name = f"{time.time_ns()}-{nonce}-{secrets.token_hex(2)}"
        aside = self.folder / f".{name}.tmp"
        content = json.dumps({"nonce": nonce, "event": event.to_json()}).encode()
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                aside.rename(self.folder / f"{name}.json")
            except OSError:
                aside.unlink(missing_ok=True)
                raise
            self._sync_folder()
        except OSError as error:
            raise SpoolUnavailable(f"the spool {self.folder} cannot be written: {error.strerror or error}") from error

    def _sync_folder(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def paths(self) -> list[Path]:
        """The files that wait, oldest first."""
        try:
            return sorted(entry for entry in self.folder.iterdir() if entry.suffix == ".json")
        except OSError:
            return []

    def events(self) -> Iterator[Spooled]:
        """Read what waits, oldest first.

        A file that is no event is set aside as ``.bad``; one that may not be read is passed over. Both are
        named in the log.
        """
        for path in self.paths():
            try:
                content = json.loads(path.read_text("utf-8"))
                spooled = Spooled(path, ApprovalEvent.from_json(content["event"]), str(content["nonce"]))
            except FileNotFoundError:
                continue  # Another process replayed it.
            except OSError as error:
                self._tell(path, f"cannot be read ({error.strerror}); give this user access to it")
            except (InvalidRecord, ValueError, TypeError, KeyError) as error:
                with contextlib.suppress(OSError):
                    path.rename(path.with_suffix(".bad"))
                self._tell(path, f"is not an event ({error}); set aside as .bad")
            else:
                yield spooled

    def _tell(self, path: Path, what: str) -> None:
        if path not in self._told:
            self._told.add(path)
            logger.error("Spool file %s %s", path, what)

    def replay(self, record: Callable[[Spooled], object]) -> int:
        """Hand every event to ``record`` and remove its file once that returns; answers how many.

        What ``record`` raises ends the replay; the file stays.
        """
        replayed = 0
        for spooled in self.events():
            record(spooled)
            try:
                spooled.path.unlink()
            except FileNotFoundError:
                continue  # Another process replayed it as well; it was recorded once.
            except OSError as error:  # It will be known as recorded when it is read again.
                self._tell(spooled.path, f"cannot be removed ({error.strerror}); remove it")
            else:
                replayed += 1
        return replayed
