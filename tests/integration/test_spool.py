from __future__ import annotations

import stat
from datetime import datetime, timezone
from pathlib import Path

import pytest

from approval_mail.errors import SpoolUnavailable
from approval_mail.events import ApprovalEvent
from approval_mail.spool import Spool, Spooled


def event(request: str = "r1") -> ApprovalEvent:
    fields = {"request_id": request, "user_id": "kim", "tool_name": "git_commit", "reason": "한글"}
    now = datetime(2026, 1, 2, tzinfo=timezone.utc)
    return ApprovalEvent.from_dict("approval_requested", fields, now=now, localise=lambda naive: naive.astimezone())


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


def test_a_file_that_is_no_event_is_set_aside_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool(tmp_path)
    (tmp_path / "1-bad.json").write_text("{}")
    spool.write(event(), nonce="n")
    assert [found.nonce for found in spool.events()] == ["n"]
    assert (tmp_path / "1-bad.bad").exists()
    assert "1-bad.json is not an event" in caplog.text


def test_a_file_that_cannot_be_read_is_passed_over_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path)
    (tmp_path / "1-folder.json").mkdir()
    spool.write(event(), nonce="n")
    assert spool.replay(lambda _: None) == 1
    assert spool.replay(lambda _: None) == 0
    assert caplog.text.count("1-folder.json cannot be read (Is a directory)") == 1


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolUnavailable, match="cannot be written"):
        Spool(tmp_path / "file").write(event(), nonce="n")
