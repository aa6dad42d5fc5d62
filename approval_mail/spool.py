"""Events on local disk, for the time in which Redis cannot be reached."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from approval_mail.errors import InvalidRecord, SpoolUnavailable
from approval_mail.events import ApprovalEvent
from approval_mail.fields import MAX_EVENT
from approval_mail.spool_room import MAX_FILE, Room

logger = logging.getLogger(__name__)

#: Nanoseconds. A file still aside after this was left by a process that died while it wrote; its hook never returned.
_ABANDONED = 86_400 * 10**9

#: What to do about a spool that cannot be written.
_OTHER_PLACE = "free the disk or set NOTIFICATION_SPOOL_DIR"


@dataclass(frozen=True, slots=True)
class Spooled:
    """One event that waits on disk."""

    path: Path
    event: ApprovalEvent
    #: Names the hook's call, so that a write whose reply was lost is known again.
    nonce: str


class Spool:
    """A folder with one file per event, ``<nanoseconds>-<bytes>-<nonce>-<random>.json``, readable by its owner alone.

    A file is written aside, fsynced and renamed, so that a file that is there is whole. Several
    processes may write and replay at once: the record is keyed by its nonce.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: Files that cannot be used, each told once.
        self._told: set[str] = set()
        #: Names of files that are recorded and could not be removed.
        self._recorded: set[str] = set()
        self.room = Room(folder)

    def write(self, event: ApprovalEvent, *, nonce: str) -> None:
        """Keep an event; on return it survives a crash of this host. Raises SpoolUnavailable."""
        content = json.dumps({"nonce": nonce, "event": event.to_json()}, ensure_ascii=False).encode()
        try:
            self._make_folder()
            self.room.take(len(content))
            name = f"{time.time_ns()}-{len(content)}-{nonce}-{secrets.token_hex(2)}"
            aside = self.folder / f".{name}.tmp"
            try:
                _write_through(aside, content)
                aside.rename(self.folder / f"{name}.json")
            except OSError:
                with contextlib.suppress(OSError):
                    aside.unlink()
                raise
            _sync(self.folder)
        except (OSError, ValueError) as error:  # A path that this system cannot write down, say.
            raise self._unavailable(error) from error

    def probe(self) -> None:
        """Find out whether an event could be kept; makes no folder. Raises SpoolUnavailable."""
        try:
            if self.folder.exists():
                aside = self.folder / f".{time.time_ns()}-{secrets.token_hex(8)}.tmp"
                try:
                    _write_through(aside, b" " * MAX_EVENT)
                finally:
                    aside.unlink(missing_ok=True)
            elif not os.access(next(parent for parent in self.folder.parents if parent.exists()), os.W_OK | os.X_OK):
                raise SpoolUnavailable(f"the spool {self.folder} cannot be made", _OTHER_PLACE)
        except (OSError, ValueError) as error:  # A path that this system cannot write down, say.
            raise self._unavailable(error) from error
        self.room.require()

    def is_open_to_all(self) -> bool:
        """Whether every user of this host may put files there."""
        try:
            return bool(self.folder.stat().st_mode & stat.S_IWOTH)
        except OSError:
            return False

    def _unavailable(self, error: OSError | ValueError) -> SpoolUnavailable:
        why = (error.strerror if isinstance(error, OSError) else "") or error
        return SpoolUnavailable(f"the spool {self.folder} cannot be written: {why}", _OTHER_PLACE)

    def _make_folder(self) -> None:
        if self.folder.is_dir():
            return
        if self.folder.exists():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for parent in self.folder.parents:  # Those made just now have to survive a crash as well.
            with contextlib.suppress(OSError):
                _sync(parent)

    def paths(self) -> list[Path]:
        """The files that wait, oldest first."""
        return [self.folder / name for name in sorted(self.room.names()) if name.endswith(".json")]

    def events(self) -> Iterator[Spooled]:
        """Read what waits, oldest first.

        A file that is no event is set aside as ``.bad``; one that may not be read is passed over. Both are
        named in the log. So is one that is recorded, and could not be removed since.
        """
        for name in sorted(self.room.names()):
            if name.endswith(".json") and name not in self._recorded:
                spooled = self._read(self.folder / name)
                if spooled:
                    yield spooled
            elif name.endswith(".tmp"):
                self._remove_abandoned(name)

    def _read(self, path: Path) -> Spooled | None:
        try:
            content = json.loads(_read_own(path))
            return Spooled(path, ApprovalEvent.from_json(content["event"]), str(content["nonce"]))
        except FileNotFoundError:
            return None  # Another process replayed it.
        except OSError as error:
            self._tell(path, f"cannot be read ({error.strerror}); run approval-mail spool replay as its owner")
        except (InvalidRecord, ValueError, TypeError, KeyError, RecursionError) as error:
            self._set_aside(path, error)
        return None

    def _set_aside(self, path: Path, fault: Exception) -> None:
        what = f"is not an event ({fault})"
        try:
            path.rename(path.with_suffix(".bad"))
        except FileNotFoundError:
            return  # Another process set it aside, and has said so.
        except OSError as error:
            self._tell(path, f"{what}, and cannot be set aside ({error.strerror}); remove it")
        else:
            self._tell(path, f"{what}; set aside as .bad")

    def _remove_abandoned(self, name: str) -> None:
        written, _, _ = name.removeprefix(".").partition("-")
        # Either way: a clock may have been wrong then.
        if written.isdecimal() and abs(time.time_ns() - int(written)) > _ABANDONED:
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()

    def _tell(self, path: Path, what: str) -> None:
        if path.name not in self._told:
            self._told.add(path.name)
            logger.error("Spool file %s %s", path, what)

    def replay(self, record: Callable[[Spooled], object], *, seconds: float = math.inf) -> int:
        """Hand every event to ``record`` and remove its file once that returns; answers how many.

        Stops after so many seconds, but not before one is replayed. What ``record`` raises ends the replay; the
        file stays.
        """
        replayed = 0
        until = time.monotonic() + seconds
        for name in tuple(self._recorded):
            self._remove(self.folder / name)
        for spooled in self.events():
            record(spooled)
            # Another process may have replayed it as well; it was recorded once.
            replayed += self._remove(spooled.path)
            if replayed and time.monotonic() >= until:
                break
        if replayed:
            self.room.grew()
        return replayed

    def _remove(self, path: Path) -> bool:
        """Remove the file of a recorded event, now or at a later replay; False: another process has done so."""
        try:
            path.unlink()
        except FileNotFoundError:
            self._recorded.discard(path.name)
            return False
        except OSError as error:
            # Recorded once more each time, it would ask for a gather each time, and each gather replays.
            self._recorded.add(path.name)
            self._tell(path, f"cannot be removed ({error.strerror}); remove it")
        else:
            self._recorded.discard(path.name)
        return True


def _write_through(path: Path, content: bytes) -> None:
    """Write a file that was not there, down to the disk."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_own(path: Path) -> bytes:
    """A file's content; raises ValueError for what others may have put there: they must not choose what is mailed."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError("it is not a regular file")
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        owner, us = os.fstat(file.fileno()).st_uid, os.geteuid()
        if us and owner not in (us, 0):
            raise ValueError("it belongs to another user")
        content = file.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise ValueError("it is too large")
    return content
