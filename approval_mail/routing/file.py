"""The file that NOTIFICATION_ROUTES names: read at a start, and again whenever it was changed."""

from __future__ import annotations

import codecs
import hashlib
import logging
import math
import os
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

from approval_mail.errors import InvalidRoutes
from approval_mail.routing.routes import Routes

logger = logging.getLogger(__name__)

#: Bytes. Hundreds of rules, and a parser's time is bounded by it.
MAX_SIZE = 128 * 1024
#: Seconds without a change after which a file is taken to be whole: some editors and copies write in steps.
_RESTS_AFTER = 1.0
#: Readings of a file that changes meanwhile.
_READINGS = 5

#: What tells one version of a file from another without reading it: when it was written and changed, size, inode.
_Stamp = tuple[int, int, int, int]


class RoutesFile:
    """One file, as one process knows it.

    ``is_news(key)`` answers once for each key that it is new to all processes of all hosts: what happens to the file
    is logged by one of them. Whatever it raises comes out, and the next look asks again.
    """

    def __init__(self, path: Path, is_news: Callable[[str], bool], *, clock: Callable[[], float] = time.time) -> None:
        """``clock`` counts seconds since 1970."""
        #: Where it is, ``host:path``.
        self.place = f"{socket.gethostname()}:{path}"
        self._path = path
        self._is_news = is_news
        self._clock = clock
        self._routes: Routes | None = None
        #: Bytes of the version in use, hashed.
        self._digest = ""
        #: The stamp of the version in use.
        self._good: _Stamp | None = None
        #: The stamp at the last reading, whatever came of it; None: read it again.
        self._read: _Stamp | None = None
        #: The stamp that was seen last, None for no file, and when it was first.
        self._seen: tuple[_Stamp | None, float] = None, math.inf
        #: The trouble that lasts, in the words of the log, and the version that has it or since which it is.
        self._trouble: tuple[str, _Stamp | None] = "", None

    @property
    def fault(self) -> str:
        """What is wrong with its last version, in the words of the log; empty: nothing, that one is in force."""
        return self._trouble[0]

    def load(self) -> Routes:
        """Read it for a start; raises InvalidRoutes with every problem."""
        found = self._whole()
        if found is None:
            raise self._invalid("changes while it is read; write a new version beside it, and rename that to it")
        raw, stamp = found
        routes = self._parse(raw)
        self._routes, self._digest, self._good = routes, _digest(raw), stamp
        self._trouble = "", None
        # A change within the clock tick of the last one would not show: what is so new is read once more.
        self._read = stamp if self._rests(stamp) else None
        return routes

    def current(self) -> Routes:
        """The last good version, after a look at the file; raises InvalidRoutes if there never was one.

        A version is taken once it rests. A faulty one is told in one ERROR line, and the last good one goes on.
        """
        if self._routes is None:
            return self.load()
        stamp: _Stamp | None = None
        try:
            stamp = self._stamp()
            if stamp == self._read or not self._rests(stamp):
                return self._routes
            found = self._whole()
            if found:
                raw, stamp = found
                self._take(raw, stamp)
                self._read = stamp
        except InvalidRoutes as error:
            if stamp or self._rests(stamp):  # Some editors have the file away for a moment.
                self._keep(error, stamp or self._good)
            # What could not be read may be read the next time, without having changed.
            self._read = None if isinstance(error.__cause__, OSError) else stamp
        return self._routes

    def _take(self, raw: bytes, stamp: _Stamp) -> None:
        """Use a version; raises InvalidRoutes if it is faulty."""
        digest = _digest(raw)
        if digest != self._digest or self.fault:
            routes = self._parse(raw)
            if self._is_news(self._key(f"taken {stamp}")):
                count = len(routes)
                logger.info("Routes of %s taken: %d rule%s", self._path, count, "" if count == 1 else "s")
            self._routes, self._digest, self._trouble = routes, digest, ("", None)
        self._good = stamp

    def _keep(self, error: InvalidRoutes, version: _Stamp | None) -> None:
        """Tell what is wrong with a version, or since one, unless that is known."""
        trouble = "; ".join(error.problems), version
        if trouble != self._trouble:
            if self._is_news(self._key(f"{trouble}")):
                logger.error("Routes of %s are not taken, the last good version goes on: %s", self._path, trouble[0])
            self._trouble = trouble

    def _key(self, what: str) -> str:
        return f"{self.place}:{_digest(what.encode('utf-8', 'replace'))}"

    def _parse(self, raw: bytes) -> Routes:
        """Raises InvalidRoutes."""
        if raw.startswith(codecs.BOM_UTF8):
            raise self._invalid("begins with a byte order mark; save it as UTF-8 without one", line=1)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise self._invalid("is not UTF-8; save it as UTF-8 text", line=line) from error
        try:
            return Routes.parse(text, str(self._path))
        except InvalidRoutes:
            raise
        except Exception as error:  # Whatever a parser trips over, mail goes on by the last good version.
            name = type(error).__name__
            raise self._invalid(f"cannot be read ({name}: {error}); take out what is unusual in it") from error

    def _whole(self) -> tuple[bytes, _Stamp] | None:
        """Bytes and stamp by a reading in which the file did not change; None if it does. Raises InvalidRoutes."""
        for _ in range(_READINGS):
            stamp = self._stamp()
            try:
                with self._path.open("rb") as file:
                    raw = file.read(MAX_SIZE + 1)
            except OSError as error:
                raise self._unreadable(error) from error
            if len(raw) > MAX_SIZE:
                raise self._invalid(f"is larger than {MAX_SIZE:,} bytes; name a file of routes")
            if self._stamp() == stamp and len(raw) == stamp[1]:
                return raw, stamp
        return None

    def _stamp(self) -> _Stamp:
        """Raises InvalidRoutes where there is no such file."""
        try:
            found = os.stat(self._path)
        except OSError as error:
            raise self._unreadable(error) from error
        if not stat.S_ISREG(found.st_mode):
            raise self._invalid("is not a file; name a file of routes")
        # The change time shows what keeps the modification time, as some copies do.
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns

    def _rests(self, stamp: _Stamp | None) -> bool:
        """Whether a file was written some time ago, by its own time or by how long it, or its lack, has been seen."""
        now = self._clock()
        seen, since = self._seen
        if seen != stamp or now < since:
            since = now
            self._seen = stamp, since
        return now - since >= _RESTS_AFTER or (stamp is not None and now - stamp[0] / 1e9 >= _RESTS_AFTER)

    def _unreadable(self, error: OSError) -> InvalidRoutes:
        if isinstance(error, FileNotFoundError):
            return self._invalid("does not exist; put it there, or unset NOTIFICATION_ROUTES and restart")
        return self._invalid(f"cannot be read: {error.strerror or error}; let this user read it")

    def _invalid(self, fault: str, *, line: int = 0) -> InvalidRoutes:
        return InvalidRoutes((f"{self._path}, line {line}: {fault}" if line else f"{self._path} {fault}",))


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
