"""Events on disk: whole, few enough, taken in once, whoever else writes there and whatever lies there."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from approval_mail import hooks, spool_room
from approval_mail.errors import SpoolUnavailable
from approval_mail.events import ApprovalEvent
from approval_mail.settings import Settings
from approval_mail.spool import Spool, Spooled
from approval_mail.spool_room import Room
from approval_mail.store import EventStore
from tests.rig.programs import Program
from tests.rig.redis_server import RedisServer
from tests.rig.waiting import wait_for


def event(request: str = "r1", reason: str = "한글") -> ApprovalEvent:
    fields = {"request_id": request, "user_id": "kim", "tool_name": "git_commit", "reason": reason}
    now = datetime(2026, 1, 2, tzinfo=timezone.utc)
    return ApprovalEvent.from_dict("approval_requested", fields, now=now, localise=lambda naive: naive.astimezone())


def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_before_the_call_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at as it happens: what the disk was told to keep, and how many events had their names by then."""
    told: list[tuple[str, int]] = []
    usual = os.fsync

    def fsync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        told.append((kind, len(list(tmp_path.glob("*.json")))))
        usual(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    Spool(tmp_path).write(event(), nonce="n")
    assert told == [("file", 0), ("folder", 1)]


def test_what_is_written_is_replayed_once_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "new" / "folder")
    for n in range(3):
        spool.write(event(f"r{n}"), nonce=f"n{n}")
    seen: list[Spooled] = []
    assert spool.replay(seen.append) == 3
    assert [(found.event, found.nonce) for found in seen] == [(event(f"r{n}"), f"n{n}") for n in range(3)]
    assert spool.replay(seen.append) == 0


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.write(event(), nonce="n")
    [path] = spool.paths()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700


def test_a_file_stays_until_it_is_recorded(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write(event("r1"), nonce="n1")
    spool.write(event("r2"), nonce="n2")

    def fail_at_the_second(spooled: Spooled) -> None:
        if spooled.nonce == "n2":
            raise ConnectionError

    with pytest.raises(ConnectionError):
        spool.replay(fail_at_the_second)
    assert [found.nonce for found in spool.events()] == ["n2"]


def test_a_file_written_half_is_not_seen(tmp_path: Path) -> None:
    (tmp_path / ".1-n.tmp").write_text('{"nonce":')
    assert Spool(tmp_path).paths() == []


def test_a_file_that_cannot_be_removed_is_recorded_once_and_removed_when_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each record would ask for a gather, and each gather replays."""
    spool = Spool(tmp_path)
    for n in range(3):
        spool.write(event(f"r{n}"), nonce=f"n{n}")
    seen: list[str] = []

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        for _ in range(3):
            spool.replay(lambda spooled: seen.append(spooled.nonce))
        assert spool.replay(lambda spooled: seen.append(spooled.nonce)) == 0, "whoever replays until it is empty ends"
    assert seen == ["n0", "n1", "n2"]
    assert caplog.text.count("cannot be removed (Read-only file system); remove it") == 3
    spool.write(event("r3"), nonce="n3")
    spool.replay(lambda spooled: seen.append(spooled.nonce))
    assert seen == ["n0", "n1", "n2", "n3"]
    assert not spool.paths()


def test_a_file_that_is_no_event_is_set_aside_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool(tmp_path)
    (tmp_path / "1-bad.json").write_text("{}")
    spool.write(event(), nonce="n")
    assert [found.nonce for found in spool.events()] == ["n"]
    assert (tmp_path / "1-bad.bad").exists()
    assert "1-bad.json is not an event" in caplog.text


def _other(path: Path) -> None:
    (path.parent / "elsewhere").write_text("{}")
    path.symlink_to(path.parent / "elsewhere")


@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir,
        os.mkfifo,
        _other,
        lambda path: path.write_text('{"nonce": "' + "x" * 200_000),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_bytes(b"\xff"),
        lambda path: path.write_text('{"nonce": "n", "event": 7}'),
    ],
    ids=["folder", "fifo", "symlink", "too large", "too deep", "no text", "no record"],
)
def test_whatever_lies_there_is_set_aside_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: object
) -> None:
    spool = Spool(tmp_path)
    make(tmp_path / "1-x.json")  # type: ignore[operator]
    spool.write(event(), nonce="n")
    for replayed in (1, 0):
        assert spool.replay(lambda _: None) == replayed
    assert caplog.text.count("1-x.json is not an event") == 1
    assert os.path.lexists(tmp_path / "1-x.bad")
    assert spool.room.stock().bad == 1


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to be several users")
def test_files_of_other_users_are_not_taken_in(open_folder: Path) -> None:
    """Who may write there must not choose what is mailed; who cannot read a file says whose business that is."""
    spool = Spool(open_folder)
    for request in ("r1", "r2"):
        spool.write(event(request), nonce="n")
    mine, theirs = spool.paths()
    theirs.chmod(0o644)
    os.chown(theirs, 12345, -1)
    code = (
        "import os, sys; from pathlib import Path; from approval_mail.spool import Spool\n"
        "import logging; logging.basicConfig(format='%(message)s'); os.setuid(23456)\n"
        "print(Spool(Path(sys.argv[1])).replay(print))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(open_folder)], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
    assert f"{mine} cannot be read (Permission denied); run approval-mail spool replay as its owner" in done.stderr
    assert f"{theirs} is not an event (it belongs to another user); set aside as .bad" in done.stderr


def test_a_folder_whose_name_cannot_be_written_down_is_told(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a\0b")
    with pytest.raises(SpoolUnavailable, match="cannot be written: embedded null"):
        spool.write(event(), nonce="n")
    assert spool.paths() == []


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolUnavailable, match="cannot be written"):
        Spool(tmp_path / "file").write(event(), nonce="n")


# How much it holds


def fill(spool: Spool, tries: int, reason: str = "") -> int:
    """Write until it is refused; answers how many events were taken."""
    for n in range(tries):
        try:
            spool.write(event(f"r{n}", reason), nonce=f"n{n}")
        except SpoolUnavailable:
            return n
    return tries


def test_a_full_spool_takes_no_more_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_room, "MAX_FILES", 40)
    spool = Spool(tmp_path)
    assert fill(spool, 100) == 40
    with pytest.raises(
        SpoolUnavailable, match=f"{tmp_path} is full: it holds 40 files of 0 MiB, the most is 40"
    ) as told:
        spool.write(event(), nonce="n")
    assert told.value.next_step.startswith("mend Redis")
    with pytest.raises(SpoolUnavailable, match="is full"):
        spool.probe()
    assert spool.replay(lambda _: None) == 40
    assert fill(spool, 100) == 40, "there is room again at once"


def test_its_bytes_are_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_room, "MAX_BYTES", 5_000_000)
    spool = Spool(tmp_path)
    (tmp_path / "core").write_bytes(b"x" * 3_000_000)  # It takes room, whatever it is.
    taken = fill(spool, 1_000, reason="가" * 4000)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 100 < taken < 200
    assert spool.room.stock().size == size
    assert 5_000_000 <= size <= 5_200_000, "the largest of files above it, by one process"


def test_processes_that_share_a_folder_share_its_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_room, "MAX_FILES", 200)
    writers = [Spool(tmp_path) for _ in range(8)]
    for n in range(100):
        for writer in writers:
            try:
                writer.write(event(f"r{n}"), nonce=f"n{n}")
            except SpoolUnavailable:
                continue
    assert 200 <= len(os.listdir(tmp_path)) <= 210


def test_the_folder_is_seldom_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    usual = Room.stock
    monkeypatch.setattr(Room, "stock", lambda self: looks.append(1) or usual(self))
    spool = Spool(tmp_path)
    assert fill(spool, 300) == 300
    monkeypatch.setattr(spool_room, "MAX_FILES", 300)
    later = Spool(tmp_path)
    assert [fill(later, 1) for _ in range(300)] == [0] * 300
    assert len(looks) <= 2 + 300 // 100, "one each, or a few on a slow disk"


def test_what_a_killed_writer_left_is_removed_a_day_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    now = 1_800_000_000 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: now)
    (tmp_path / f".{now - 10**12}-100-n-ab.tmp").write_text("half")  # Perhaps it is being written.
    (tmp_path / f".{now - 10**14}-100-n-cd.tmp").write_text("half")
    (tmp_path / f".{now + 10**14}-100-n-ef.tmp").write_text("half")  # The clock was wrong then.
    (tmp_path / ".notes.tmp").touch()
    assert spool.replay(lambda _: None) == 0
    assert sorted(os.listdir(tmp_path)) == [f".{now - 10**12}-100-n-ab.tmp", ".notes.tmp"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[2])\n"
        "from tests.integration.test_spool import Path, Spool, SpoolUnavailable, event\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try: Spool(Path(sys.argv[1])).write(event(), nonce='n')\n"
        "except SpoolUnavailable as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parents[2])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"the spool {tmp_path} cannot be written: File too large\n"
    assert os.listdir(tmp_path) == []


# Who takes in what waits


def test_a_clock_that_goes_back_costs_the_order_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((3_000, 2_000, 1_000))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock) * 10**15)
    spool = Spool(tmp_path)
    for n in range(3):
        spool.write(event(f"r{n}"), nonce=f"n{n}")
    seen: list[str] = []
    monkeypatch.undo()
    assert spool.replay(lambda spooled: seen.append(spooled.nonce)) == 3
    assert seen == ["n2", "n1", "n0"]


def test_a_replay_ends_in_time_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for n in range(3):
        spool.write(event(f"r{n}"), nonce=f"n{n}")
    seen: list[str] = []
    while spool.replay(lambda spooled: seen.append(spooled.nonce), seconds=0):
        pass
    assert seen == ["n0", "n1", "n2"]


def test_several_may_write_and_replay_at_once(tmp_path: Path) -> None:
    """Everything is taken in at least once, and nothing is set aside because another was faster."""
    writing, seen, lock = threading.Event(), set(), threading.Lock()

    def write(who: int) -> None:
        spool = Spool(tmp_path)
        for n in range(100):
            spool.write(event(f"r{who}-{n}"), nonce=f"{who}-{n}")

    def record(spooled: Spooled) -> None:
        with lock:
            seen.add(spooled.nonce)

    def replay() -> None:
        spool = Spool(tmp_path)
        while not writing.is_set() or spool.paths():
            spool.replay(record)

    writers = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    replayers = [threading.Thread(target=replay) for _ in range(3)]
    for thread in (*writers, *replayers):
        thread.start()
    for thread in writers:
        thread.join()
    writing.set()
    for thread in replayers:
        thread.join()
    assert seen == {f"{who}-{n}" for who in range(4) for n in range(100)}
    assert os.listdir(tmp_path) == []


FORKING = """
import os, pathlib, sys, time
from approval_mail import hooks, services

def tell(name):
    return hooks.approval_rejected(request_id=name, user_id="u", tool_name="t")

assert tell("parent") == "spooled"
children = []
for child in range(4):
    pid = os.fork()
    if pid == 0:
        spooled = all(tell(f"{child}-{n}") == "spooled" for n in range(20))
        print("told", flush=True)
        while services.spool().paths():
            time.sleep(0.02)
        os._exit(not spooled)
    children.append(pid)
assert not any(os.waitpid(pid, 0)[1] for pid in children)
"""


def test_children_forked_beside_the_replaying_thread_spool_and_replay(
    own_redis: RedisServer, settings: dict[str, str], tmp_path: Path
) -> None:
    own_redis.kill()
    changed = {**settings, "REDIS_URL": own_redis.url}
    program = Program(sys.executable, "-W", "ignore", "-c", FORKING, folder=tmp_path, settings=changed, name="forking")
    try:
        program.wait_for_line("told", times=4)
        own_redis.start()
        assert program.process.wait(30) == 0, program.output()
    finally:
        program.kill()
    with own_redis.client as client:
        assert EventStore(client).count().pending == 1 + 4 * 20
    wait_for(lambda: os.listdir(tmp_path / "spool") == [])


def test_what_is_spooled_just_as_a_replay_ends_is_replayed_too(
    own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks.configure(Settings(enabled=True, redis_url=own_redis.url, spool_dir=tmp_path / "spool"))
    told = {"user_id": "u", "tool_name": "t"}
    own_redis.kill()
    assert hooks.approval_timeout(request_id="first", **told) == "spooled"
    usual, ends = Spool.replay, []

    def replay(self: Spool, *arguments: Any, **options: Any) -> int:
        replayed = usual(self, *arguments, **options)
        if not replayed and not ends:
            own_redis.kill()
            ends.append(hooks.approval_timeout(request_id="second", **told))
            own_redis.start()
            ends.append("Redis is back")
        return replayed

    monkeypatch.setattr(Spool, "replay", replay)
    own_redis.start()
    with own_redis.client as client:
        wait_for(lambda: ends == ["spooled", "Redis is back"])
        wait_for(lambda: EventStore(client).count().pending == 2, seconds=10)
    wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name == "approval-mail-spool"])
    hooks.configure(Settings())
