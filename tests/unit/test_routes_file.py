"""The file of NOTIFICATION_ROUTES: what happens when it changes, breaks or goes away."""

from __future__ import annotations

import errno
import logging
import os
import socket
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from approval_mail.errors import InvalidRoutes
from approval_mail.events import ApprovalEvent
from approval_mail.routing import Routes
from approval_mail.routing.file import MAX_SIZE, RoutesFile

EVENT = ApprovalEvent("approval_requested", "abc12345", "kim", "payout_eu", datetime(2026, 1, 2, tzinfo=timezone.utc))
NEW = '[[rule]]\nname = "new"\nto = "new@example.com"\n'
OLD = '[[rule]]\nname = "old"\nto = "old@example.com"\n'


class Clock:
    """Seconds since 1970, by hand; begins an hour after the file was written."""

    now = 2_000_000_000.0

    def __call__(self) -> float:
        return self.now


class Place:
    """A file of routes that is written with a time of one's choice, and everything that processes say of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.keys: set[str] = set()
        self.asked = 0

    def write(self, text: str | bytes, *, ago: float = 3600, in_place: bool = False) -> None:
        raw = text.encode() if isinstance(text, str) else text
        written = self.path if in_place else self.path.with_suffix(".new")
        written.write_bytes(raw)
        os.utime(written, (self.clock.now - ago, self.clock.now - ago))
        if not in_place:
            written.rename(self.path)

    def file(self) -> RoutesFile:
        return RoutesFile(self.path, self.is_news, clock=self.clock)

    def is_news(self, key: str) -> bool:
        self.asked += 1
        new = key not in self.keys
        self.keys.add(key)
        return new


@pytest.fixture
def place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Place:
    caplog.set_level(logging.INFO, "approval_mail.routing.file")
    return Place(tmp_path / "routes.toml")


def who(routes: Routes) -> str:
    """Name of the one rule."""
    return routes.route(EVENT, ("operator@example.com",)).choices[0].rule


def test_an_edit_is_taken_and_told_once_by_all_processes(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.write(OLD)
    processes = [place.file(), place.file()]
    assert [who(process.load()) for process in processes] == ["old", "old"]
    assert [process.current() is process.current() for process in processes] == [True, True]
    place.write(NEW)
    assert [who(process.current()) for process in processes * 2] == ["new"] * 4
    assert [record.getMessage() for record in caplog.records] == [f"Routes of {place.path} taken: 1 rule"]


def test_a_faulty_edit_keeps_the_last_good_version_with_one_error(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.write(OLD)
    processes = [place.file(), place.file()]
    for process in processes:
        process.load()
    place.write("[[rule]]\nname = 'bad'\nto = 'nobody'\nlang = 'en'\n")
    assert [who(process.current()) for process in processes * 3] == ["old"] * 6
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    told_of = record.getMessage()
    assert told_of.startswith(
        f"Routes of {place.path} are not taken, the last good version goes on: {place.path}, line 4:"
    )
    assert "line 3: rule 'bad': to 'nobody' is not an address" in told_of
    assert [process.fault for process in processes] == [told_of.partition("goes on: ")[2]] * 2
    assert processes[0].place == f"{socket.gethostname()}:{place.path}"
    place.write("[[rule]]\nname = 'bad'\n")
    assert [who(process.current()) for process in processes * 2] == ["old"] * 4
    assert len(caplog.records) == 2, "another version, another line"
    place.write(OLD)
    assert [who(process.current()) for process in processes * 2] == ["old"] * 4
    assert [record.levelno for record in caplog.records[2:]] == [logging.INFO], "the trouble is over"
    assert [process.fault for process in processes] == ["", ""]


def test_the_same_fault_written_again_is_news(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.write(OLD)
    process = place.file()
    process.load()
    for ago in (300, 200):
        place.write("x", ago=ago)
        process.current()
        place.write(OLD, ago=ago - 50)
        process.current()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"] * 2


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"\xef\xbb\xbf[[rule]]\n", "line 1: begins with a byte order mark; save it"),
        (b"[[rule]]\nname = '\xb1\xe8'\n", "line 2: is not UTF-8; save it"),
        ("[[rule]]\n".encode("utf-16"), "line 1: is not UTF-8; save it"),
        (b"#" * (MAX_SIZE + 1), "is larger than 131,072 bytes; name"),
    ],
)
def test_what_is_no_text_is_refused_at_a_start_and_kept_out_later(
    place: Place, raw: bytes, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    place.write(raw)
    with pytest.raises(InvalidRoutes, match=f"{place.path}.*{says}"):
        place.file().load()
    place.write(OLD)
    process = place.file()
    process.load()
    place.write(raw)
    assert [who(process.current()) for _ in range(3)] == ["old"] * 3
    assert [says in record.getMessage() for record in caplog.records] == [True]


def test_a_file_as_large_as_the_most_is_read(place: Place) -> None:
    place.write(OLD + "#" * (MAX_SIZE - len(OLD)))
    assert who(place.file().load()) == "old"


def test_a_file_that_is_gone_is_a_fault_once_it_stays_away(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InvalidRoutes, match=f"{place.path} does not exist; put it there, or unset NOTIFICATION_ROUTES"):
        place.file().load()
    place.write(OLD)
    process = place.file()
    process.load()
    for _ in range(2):
        place.path.unlink()
        assert who(process.current()) == "old"
        assert not caplog.records, "some editors have it away for a moment"
        place.clock.now += 1
        asked = place.asked
        assert [who(process.current()) for _ in range(3)] == ["old"] * 3
        assert place.asked == asked + 1
        [record] = caplog.records
        assert (record.levelno, "does not exist" in record.getMessage()) == (logging.ERROR, True)
        place.clock.now += 1
        place.write(OLD)
        process.current()
        assert caplog.records[-1].getMessage() == f"Routes of {place.path} taken: 1 rule"
        caplog.clear()


def test_what_is_no_file_is_refused(place: Place) -> None:
    place.path.mkdir()
    with pytest.raises(InvalidRoutes, match="is not a file; name"):
        place.file().load()
    place.path.rmdir()
    os.mkfifo(place.path)
    with pytest.raises(InvalidRoutes, match="is not a file; name"):
        place.file().load()


def test_a_file_that_may_not_be_read_is_refused_with_the_reason(place: Place) -> None:
    place.write(OLD)
    with pytest.raises(InvalidRoutes, match="cannot be read: Not a directory; let this user read it"):
        RoutesFile(place.path / "routes.toml", place.is_news).load()


def test_a_file_that_could_not_be_read_for_once_is_taken_without_being_touched_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write(OLD)
    process = place.file()
    process.load()
    place.write(NEW, ago=60)

    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        assert who(process.current()) == "old"
        assert "Too many open files" in process.fault
    assert who(process.current()) == "new"
    assert not process.fault


def test_a_file_that_is_still_being_written_is_not_taken(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.write(OLD)
    process = place.file()
    process.load()
    place.write("", ago=0, in_place=True)  # Truncated: no rules would be valid.
    assert who(process.current()) == "old"
    place.clock.now += 0.9
    place.write("[[rule]]\nname = 'ne", ago=0, in_place=True)
    assert who(process.current()) == "old"
    place.clock.now += 0.9
    place.write(NEW, ago=0, in_place=True)
    assert who(process.current()) == "old"
    place.clock.now += 1
    assert who(process.current()) == "new"
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_a_file_from_the_future_is_taken_once_it_has_been_seen_for_a_while(place: Place) -> None:
    place.write(OLD)
    process = place.file()
    process.load()
    place.write(NEW, ago=-5000)
    assert who(process.current()) == "old"
    place.clock.now -= 100  # The clock is set right meanwhile.
    assert who(process.current()) == "old"
    place.clock.now += 1
    assert who(process.current()) == "new"


def test_a_start_takes_a_file_as_new_as_it_is_and_sees_what_follows_in_the_same_tick(place: Place) -> None:
    place.write(OLD, ago=0)
    process = place.file()
    assert who(process.load()) == "old"
    before = place.path.stat()
    place.path.write_text(NEW)
    os.utime(place.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert place.path.stat().st_size == before.st_size
    place.clock.now += 1
    assert who(process.current()) == "new"


class Busy(type(Path())):  # type: ignore[misc]
    """A path at which a writer is always quicker than who reads it, and which counts its readers."""

    readings = 0

    def open(self, *how: Any, **more: Any) -> Any:
        opened = super().open(*how, **more)
        self.readings += how == ("rb",)
        if how == ("rb",) and self.waiting:
            self.place.write(self.waiting.pop(), ago=1000)
        return opened


def test_a_file_that_changes_while_it_is_read_is_read_again(place: Place) -> None:
    place.write(OLD)
    path = Busy(place.path)
    path.place, path.waiting = place, [NEW]
    process = RoutesFile(path, place.is_news, clock=place.clock)
    assert who(process.load()) == "new", "the old one's bytes were in hand"
    place.write(OLD)
    path.waiting = [OLD, NEW] * 10
    assert who(process.current()) == "new", "what never rests is not taken"
    with pytest.raises(InvalidRoutes, match="changes while it is read; write a new version beside it"):
        RoutesFile(path, place.is_news, clock=place.clock).load()
    path.waiting = []
    place.write(OLD)
    assert who(process.current()) == "old"


@pytest.mark.parametrize("text", [NEW, "x"])
def test_a_version_is_read_once_good_or_faulty(place: Place, text: str) -> None:
    place.write(OLD)
    path = Busy(place.path)
    path.waiting = []
    process = RoutesFile(path, place.is_news, clock=place.clock)
    process.load()
    for _ in range(3):
        process.current()
    assert path.readings == 1
    place.write(text)
    for _ in range(3):
        process.current()
    assert path.readings == 2


def test_an_edit_that_keeps_size_and_time_is_seen(place: Place) -> None:
    """As `cp --preserve` and `rsync --inplace --times` leave it."""
    place.write(OLD)
    process = place.file()
    process.load()
    before = place.path.stat()
    while place.path.stat().st_ctime_ns == before.st_ctime_ns:  # The kernel's clock ticks every few milliseconds.
        place.write(NEW, in_place=True)
    after = place.path.stat()
    assert (after.st_mtime_ns, after.st_size, after.st_ino) == (before.st_mtime_ns, before.st_size, before.st_ino)
    assert who(process.current()) == "new"


def test_a_version_that_was_new_at_the_start_is_read_once_more(place: Place) -> None:
    place.write(OLD, ago=0)
    path = Busy(place.path)
    path.waiting = []
    process = RoutesFile(path, place.is_news, clock=place.clock)
    process.load()
    assert process.current() is process.current()
    assert path.readings == 1
    place.clock.now += 1
    assert process.current() is process.current()
    assert path.readings == 2


def test_without_a_good_version_the_fault_comes_out(place: Place) -> None:
    place.write("x")
    process = place.file()
    for _ in range(2):
        with pytest.raises(InvalidRoutes, match="line 1"):
            process.current()
    place.write(OLD)
    assert who(process.current()) == "old"


def test_what_could_not_be_told_is_told_at_the_next_look(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.write(OLD)
    out_of_reach = [True, True]

    def is_news(_: str) -> bool:
        if out_of_reach:
            raise ConnectionError(out_of_reach.pop())
        return True

    process = RoutesFile(place.path, is_news, clock=place.clock)
    process.load()
    place.write("x")
    with pytest.raises(ConnectionError):
        process.current()
    out_of_reach.pop()
    assert who(process.current()) == "old"
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("huge", ["9" * 400, "-" + "9" * 4000])
def test_a_long_number_is_a_number(place: Place, huge: str) -> None:
    place.write(f"[[rule]]\nname = 'a'\nto = 'a@example.com'\nextra = {{ budget = {huge} }}\n")
    assert len(place.file().load()) == 1
