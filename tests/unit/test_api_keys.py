"""API keys in their file: made, found, taken out, and never read where the file is damaged."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from approval_mail.api.keys import PREFIX, InvalidKeyName, Key, KeyFile, KeysUnusable, Role
from approval_mail.cli.admin.key import command
from approval_mail.cli.program import Program


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "api_keys"


@pytest.fixture
def file(path: Path) -> KeyFile:
    return KeyFile(path)


def test_a_key_is_kept_as_its_hash_alone_in_a_file_of_its_owners(file: KeyFile) -> None:
    plain = file.add("ci", Role.REQUESTER)
    assert re.fullmatch(PREFIX + r"[A-Za-z0-9_-]{43}", plain)
    assert file.find(plain) == Key("ci", Role.REQUESTER, hashlib.sha256(plain.encode()).hexdigest())
    assert plain not in file.path.read_text()
    assert file.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("wrong", ["", "am_", "am_x", "한글", "x" * 100_000])
def test_what_is_no_key_is_not_found(file: KeyFile, wrong: str) -> None:
    plain = file.add("ci", Role.REQUESTER)
    assert file.find(wrong) is None
    assert file.find(plain[:-1]) is None
    assert file.find(plain + wrong) is (None if wrong else file.find(plain))


def test_a_running_server_sees_other_processes_changes_at_once(file: KeyFile, path: Path) -> None:
    first = file.add("first", Role.REQUESTER)
    assert file.find(first)
    second = KeyFile(path).add("second", Role.APPROVER)
    found = file.find(second)
    assert found
    assert found.role is Role.APPROVER
    assert KeyFile(path).revoke("first")
    assert file.find(first) is None
    assert file.find(second)


def test_revoking_keeps_comments_and_the_files_mode(file: KeyFile) -> None:
    file.add("one", Role.REQUESTER)
    file.path.write_text(file.path.read_text() + "\n# of the ci\n")
    file.add("two", Role.REQUESTER)
    file.path.chmod(0o640)
    assert file.revoke("one")
    assert not file.revoke("one")
    assert [key.name for key in file.read()] == ["two"]
    assert "# of the ci\n" in file.path.read_text()
    assert file.path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in file.path.parent.iterdir()] == ["api_keys"]


def test_a_link_to_the_file_stays_a_link(file: KeyFile, tmp_path: Path) -> None:
    (tmp_path / "real").write_text("")
    file.path.parent.mkdir()
    file.path.symlink_to(tmp_path / "real")
    file.add("one", Role.REQUESTER)
    assert file.path.is_symlink()
    assert [key.name for key in KeyFile(tmp_path / "real").read()] == ["one"]


@pytest.mark.parametrize("name", ["", "-x", "a b", "a\nb approver 0", "한글", "#x", "x" * 65])
def test_a_name_that_would_damage_the_file_is_refused(file: KeyFile, name: str) -> None:
    with pytest.raises(InvalidKeyName, match="--name"):
        file.add(name, Role.REQUESTER)
    assert not file.path.exists()


def test_a_name_is_used_once(file: KeyFile) -> None:
    file.add("ci", Role.REQUESTER)
    with pytest.raises(InvalidKeyName, match="approval-admin key revoke ci"):
        file.add("ci", Role.APPROVER)


DIGEST = "0" * 64


@pytest.mark.parametrize(
    "line",
    [
        f"ci {DIGEST}",
        f"ci admin {DIGEST}",
        f"ci requester {DIGEST} more",
        f"ci requester {DIGEST[1:]}",
        f"ci requester {DIGEST[1:]}X",
        "ci requester am_plain-key-in-the-file",
        f"c\xffi requester {DIGEST}",
        "\x00",
    ],
)
def test_a_damaged_line_lets_nobody_in_and_is_named(file: KeyFile, line: str, caplog: pytest.LogCaptureFixture) -> None:
    plain = file.add("good", Role.APPROVER)
    sound = file.path.read_bytes()
    file.path.write_bytes(sound + line.encode("latin-1") + b"\n")
    for _ in range(3):
        with pytest.raises(KeysUnusable, match=r"api_keys, line 3 is damaged: ") as refused:
            file.find(plain)
    assert "am_plain" not in str(refused.value)
    assert [record.levelno for record in caplog.records] == [logging.ERROR], "told once, not at each request"
    with pytest.raises(KeysUnusable):
        file.add("other", Role.REQUESTER)

    file.path.write_bytes(sound)
    assert file.find(plain)


def test_two_lines_of_one_name_let_nobody_in(file: KeyFile) -> None:
    plain = file.add("ci", Role.REQUESTER)
    file.path.write_text(file.path.read_text() + f"ci approver {DIGEST}\n")
    with pytest.raises(KeysUnusable, match="lines 2 and 3 have the same name"):
        file.find(plain)


@pytest.mark.parametrize("left", [b"", b"\n \n"])
def test_a_file_that_was_emptied_lets_nobody_in_until_a_key_is_made(file: KeyFile, left: bytes) -> None:
    file.path.parent.mkdir()
    file.path.write_bytes(left)
    with pytest.raises(KeysUnusable, match="is empty; put back what stood in it"):
        file.find("am_x")
    made = file.add("ci", Role.REQUESTER)
    assert file.find(made)
    file.revoke("ci")
    assert file.read() == ()


def test_a_file_that_is_gone_lets_nobody_in(file: KeyFile) -> None:
    plain = file.add("ci", Role.REQUESTER)
    assert file.find(plain)
    file.path.unlink()
    with pytest.raises(KeysUnusable, match="does not exist; make a key: approval-admin key create"):
        file.find(plain)


def _add(path: Path, number: int) -> None:
    KeyFile(path).add(f"key-{number}", Role.REQUESTER)


def _make_first(path: Path, _number: int) -> bool:
    return KeyFile(path).make_first() is not None


def test_keys_made_at_the_same_time_are_all_kept(path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.starmap(_add, [(path, number) for number in range(40)])
    assert len(KeyFile(path).read()) == 40


def test_servers_that_start_at_once_make_the_first_keys_once(path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert sum(pool.starmap(_make_first, [(path, number) for number in range(16)], chunksize=1)) == 1
    plain = dict(line.split() for line in (path.parent / "api_keys.first").read_text().splitlines())
    assert plain.keys() == {"requester", "approver", "observer"}
    for role, key in plain.items():
        found = KeyFile(path).find(key)
        assert found
        assert (found.name, found.role) == (f"first-{role}", role)
    assert {each.stat().st_mode & 0o777 for each in path.parent.iterdir()} == {0o600}


def test_first_keys_that_were_cut_short_are_made_anew(file: KeyFile) -> None:
    plain = file.make_first()
    assert plain
    file.path.unlink()  # As if the server had been killed between the two files.
    before = plain.read_text()
    assert file.make_first() == plain
    assert plain.read_text() != before
    assert file.make_first() is None


@pytest.fixture
def program() -> Program:
    group = Program("approval-admin")
    group.add_command(command)
    return group


def test_create_prints_the_key_alone(program: Program, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPROVAL_API_KEYS_FILE", str(path))
    done = CliRunner().invoke(program, ["key", "create", "--name", "ci", "--role", "approver"])
    assert done.exit_code == 0
    plain = done.stdout.removesuffix("\n")
    assert KeyFile(path).find(plain)
    assert plain not in done.stderr
    listed = CliRunner().invoke(program, ["key", "list", "--json"])
    assert json.loads(listed.stdout) == [{"name": "ci", "role": "approver"}]
    assert CliRunner().invoke(program, ["key", "list"]).stdout == "approver   ci\n"
    assert CliRunner().invoke(program, ["key", "revoke", "ci"]).exit_code == 0
    assert KeyFile(path).find(plain) is None
    assert CliRunner().invoke(program, ["key", "revoke", "ci"]).exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [["create", "--name", "ci", "--role", "approver"], ["list"], ["revoke", "ci"]],
    ids=lambda each: each[0],
)
def test_without_a_file_the_commands_say_what_to_give(program: Program, arguments: list[str]) -> None:
    done = CliRunner().invoke(program, ["key", *arguments])
    assert done.exit_code == 2
    assert "set APPROVAL_API_KEYS_FILE, or give --file PATH" in done.stderr


def test_a_damaged_file_is_told_and_left_as_it_is(program: Program, path: Path) -> None:
    path.parent.mkdir()
    path.write_text("nonsense\n")
    for arguments in (["create", "--name", "ci", "--role", "approver"], ["list"], ["revoke", "nonsense"]):
        done = CliRunner().invoke(program, ["key", *arguments, "--file", str(path)])
        assert (done.exit_code, done.stdout) == (2, "")
        assert f"{path}, line 1 is damaged" in done.stderr
    assert path.read_text() == "nonsense\n"
