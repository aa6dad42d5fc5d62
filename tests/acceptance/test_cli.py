"""``approval-mail`` as operators run it."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.acceptance.conftest import Run, Start
from tests.rig.programs import Program
from tests.rig.redis_server import RedisServer, free_port
from tests.rig.smtp_server import SMTPServer
from tests.rig.waiting import wait_for

FIELDS = ("--field", "request_id=abc12345", "--field", "user_id=kim", "--field", "tool_name=git_commit")


def test_emit_goes_through_the_hook_and_prints_the_receipt(run: Run, client: redis.Redis) -> None:
    done = run("emit", "approval_requested", *FIELDS, "--field", 'arguments:={"message": "fix"}')
    assert (done.stdout, done.returncode) == ("accepted\n", 0)
    record = client.hget("approval_mail:{store}:event:abc12345:approval_requested", "record")
    assert json.loads(str(record))["extra"] == {"arguments": {"message": "fix"}}
    assert run("emit", "approval_requested", *FIELDS).stdout == "duplicate\n"


def test_emit_while_disabled_says_so_and_exits_1(run: Run) -> None:
    done = run("emit", "approval_requested", *FIELDS, NOTIFICATION_ENABLED="")
    assert (done.stdout, done.returncode) == ("disabled\n", 1)
    assert "NOTIFICATION_ENABLED=true" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("approval_asked", *FIELDS), "use one of: approval_requested"),
        (("approval_requested", "--field", "request_id=x"), "field 'user_id' is missing"),
        (("approval_requested", "--field", "nonsense"), "write NAME=TEXT"),
        (("approval_requested", *FIELDS, "--field", "arguments:={"), "is not JSON"),
    ],
)
def test_wrong_usage_gets_a_sentence_and_exit_code_2(run: Run, arguments: tuple[str, ...], says: str) -> None:
    done = run("emit", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""


def test_bad_settings_are_all_listed_and_exit_code_is_2(run: Run) -> None:
    for command in (("status",), ("send-test",), ("dead", "list"), ("spool", "replay")):
        done = run(*command, SMTP_PORT="x", EMAIL_TO="nobody")
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 2


def test_without_redis_one_sentence_and_exit_code_1(run: Run) -> None:
    done = run("status", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert done.returncode == 1
    assert done.stderr.startswith("Redis cannot be used")
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_status_has_the_contracts_shape(run: Run, start: Start, settings: dict[str, str]) -> None:
    assert json.loads(run("status", "--json").stdout) == {
        "enabled": True,
        "pending": 0,
        "deferred": 0,
        "claimed": 0,
        "sent": 0,
        "dead": 0,
        "suppressed": 0,
        "spooled": 0,
        "untold": 0,
        "oldest_pending_seconds": None,
        "beat_seconds_ago": None,
        "workers": 0,
        "channel": {"held_since": None, "reason": None},
        "spool": {"folder": settings["NOTIFICATION_SPOOL_DIR"], "fault": None},
        "routes_faults": {},
    }
    start("worker").ready()
    start("beat")
    run("emit", "approval_approved", *FIELDS)
    found = wait_for(lambda: (f := json.loads(run("status", "--json").stdout))["beat_seconds_ago"] is not None and f)
    assert 0 <= found["beat_seconds_ago"] < 10
    # Who asks a worker waits a second for its answer.
    wait_for(lambda: (f := json.loads(run("status", "--json").stdout))["sent"] == f["workers"] == 1)

    def page_with_the_worker() -> str:
        page = run("status").stdout
        return page if "workers         1" in page else ""

    page = wait_for(page_with_the_worker)
    assert "channel         open" in page
    assert f"spool           {settings['NOTIFICATION_SPOOL_DIR']} has room" in page


def test_dead_mails_are_listed_shown_retried_and_discarded(run: Run, start: Start, smtp: SMTPServer) -> None:
    smtp.on("rcpt", "550 5.1.1 no such user", recipient="typo@example.com")
    worker = start("worker", EMAIL_TO="typo@example.com,good@example.com").ready()
    run("emit", "approval_approved", *FIELDS)
    run("emit", "approval_rejected", *FIELDS)
    wait_for(lambda: len(json.loads(run("dead", "list", "--json").stdout)) == 2)
    rows = json.loads(run("dead", "list", "--json").stdout)
    row = next(row for row in rows if row["type"] == "approval_approved")
    assert list(row) == [
        "event_id", "type", "request_id", "recipient", "reason", "code", "phase", "attempts", "failed_at",
    ]  # fmt: skip
    assert row["failed_at"]
    assert {**row, "failed_at": ""} == {
        "event_id": "abc12345:approval_approved",
        "type": "approval_approved",
        "request_id": "abc12345",
        "recipient": "typo@example.com",
        "reason": "550 5.1.1 no such user",
        "code": 550,
        "phase": "rcpt",
        "attempts": 1,
        "failed_at": "",
    }
    assert "550 5.1.1 no such user" in run("dead", "list").stdout
    assert "typo@example.com" in run("dead", "show", "abc12345:approval_approved").stdout

    worker.stop()
    start("worker", EMAIL_TO="mended@example.com,good@example.com").ready()
    assert run("dead", "retry", "abc12345:approval_approved").stdout == "reopened 1 mail of 1 event\n"
    wait_for(lambda: len(smtp.to("mended@example.com")) == 1)
    assert len(smtp.to("good@example.com")) == 2, "one for each event, none repeated"

    refused = run("dead", "discard", "--all")
    assert refused.returncode == 1, "without --yes and without an answer nothing is discarded"
    assert run("dead", "discard", "--all", "--yes").returncode == 0
    assert json.loads(run("dead", "list", "--json").stdout) == []
    found = wait_for(lambda: (f := json.loads(run("status", "--json").stdout))["sent"] == 2 and f)
    assert (found["suppressed"], found["dead"]) == (0, 0), "of the discarded one another recipient has the mail"


def test_dead_commands_want_events_and_know_which_they_have(run: Run) -> None:
    assert run("dead", "retry").returncode == 2
    assert run("dead", "retry", "x:y", "--all").returncode == 2
    assert run("dead", "list", "x:y", "--all").returncode == 2
    for arguments in (("list", "--all"), ("list", "x:y"), ("show", "--all")):
        assert run("dead", *arguments, "--json", "--yes").stdout == "[]\n"
    assert json.loads(run("dead", "retry", "--all", "--json", "--yes").stdout) == {"reopened": 0, "events": 0}
    unknown = run("dead", "show", "x:approval_approved")
    assert unknown.returncode == 1
    assert "no dead mail of x:approval_approved" in unknown.stderr


def test_the_spool_is_listed_and_replayed(run: Run, redis_server: RedisServer) -> None:
    gone = f"redis://127.0.0.1:{free_port()}/0"
    assert run("emit", "approval_requested", *FIELDS, REDIS_URL=gone).stdout == "spooled\n"
    [row] = json.loads(run("spool", "list", "--json").stdout)
    assert row["event_id"] == "abc12345:approval_requested"
    assert json.loads(run("status", "--json").stdout)["spooled"] == 1
    failed = run("spool", "replay", REDIS_URL=gone)
    assert failed.returncode == 1
    done = run("spool", "replay", "--json")
    assert json.loads(done.stdout) == {"replayed": 1, "left": 0}
    assert json.loads(run("status", "--json").stdout)["pending"] == 1


@pytest.mark.parametrize("command", ["list", "replay"])
def test_a_spool_that_cannot_be_listed_is_not_called_empty(run: Run, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()
    done = run("spool", command, NOTIFICATION_SPOOL_DIR=str(tmp_path / "file"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{tmp_path / 'file'}: Not a directory\n"


def test_a_worker_replays_the_spool_of_its_host(run: Run, start: Start, smtp: SMTPServer) -> None:
    gone = f"redis://127.0.0.1:{free_port()}/0"
    run("emit", "approval_requested", *FIELDS, REDIS_URL=gone)
    start("worker").ready()
    wait_for(lambda: len(smtp.mails) == 1)


def test_send_test_needs_neither_redis_nor_notifications(run: Run, smtp: SMTPServer) -> None:
    done = run("send-test", "--to", "me@example.com", NOTIFICATION_ENABLED="false", REDIS_URL="redis://127.0.0.1:1/0")
    assert done.returncode == 0
    assert done.stdout.startswith("sent  me@example.com  dot: 250")
    run("send-test")
    mail, again = smtp.mails
    assert mail.recipient == "me@example.com"
    assert mail.subject == "[승인 필요] send-test 도구"
    assert mail.message["Message-ID"] != again.message["Message-ID"], "some servers drop what they have seen before"


def test_send_test_tells_a_refusal_and_an_outage_with_the_next_step(run: Run, smtp: SMTPServer) -> None:
    smtp.on("rcpt", "550 no such user")
    refused = run("send-test")
    assert refused.returncode == 1
    assert "dead  operator@localhost  rcpt: 550 no such user" in refused.stdout
    smtp.stop()
    gone = run("send-test")
    assert gone.returncode == 1
    assert "Connection refused; next step: check SMTP_HOST and SMTP_PORT" in gone.stderr


def check(run: Run, *arguments: str, **changes: str) -> tuple[int, dict[str, dict[str, object]]]:
    done = run("check", "--json", *arguments, **changes)
    return done.returncode, {line["name"]: line for line in json.loads(done.stdout)}


def test_check_names_each_trouble_with_the_next_step(run: Run, smtp: SMTPServer) -> None:
    code, lines = check(run)
    assert code == 1
    assert list(lines) == ["settings", "templates", "routes", "spool", "redis", "worker", "beat", "smtp"]
    assert all(set(line) == {"name", "ok", "seconds", "detail", "next_step"} for line in lines.values())
    assert {name for name, line in lines.items() if not line["ok"]} == {"worker", "beat"}
    assert "celery -A approval_mail worker" in str(lines["worker"]["next_step"])
    assert smtp.mails == []
    assert smtp.commands[-2:] == ["RSET", "QUIT"]

    smtp.stop()
    _, lines = check(run, REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert {name for name, line in lines.items() if line["ok"]} == {"settings", "templates", "routes", "spool"}

    assert lines["worker"]["next_step"] == "mend Redis first"
    assert "Connection refused" in str(lines["smtp"]["detail"])

    code, lines = check(run, NOTIFICATION_ENABLED="false")
    assert (code, len(lines), lines["settings"]["ok"]) == (1, 8, False)

    code, lines = check(run, "--wait", "600", SMTP_PORT="x")
    assert (code, list(lines)) == (2, ["settings"]), "what cannot mend itself is not waited for"


def test_check_is_well_when_all_is_and_waits_for_it(run: Run, start: Start) -> None:
    start("worker")
    start("beat")
    code, lines = check(run, "--wait", "30")
    assert (code, [line["detail"] for line in lines.values() if not line["ok"]]) == (0, [])
    assert "ok   smtp" in run("check").stdout


def test_check_says_why_a_login_fails(run: Run, smtp: SMTPServer) -> None:
    smtp.users["me"] = "secret"
    _, lines = check(run, SMTP_USE_TLS="false", SMTP_USER="me", SMTP_PASSWORD="wrong")
    assert "535 5.7.8" in str(lines["smtp"]["detail"])
    assert "SMTP_USER and SMTP_PASSWORD" in str(lines["smtp"]["next_step"])


def test_check_finds_a_broken_template(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "mails"
    folder.mkdir()
    (folder / "approval_timeout.html").write_text("{{ nobody_knows }}")
    _, lines = check(run, NOTIFICATION_TEMPLATE_DIR=str(folder))
    assert not lines["templates"]["ok"]
    assert "approval_timeout.html:1: UndefinedError: 'nobody_knows' is undefined" in str(lines["templates"]["detail"])


@pytest.mark.parametrize("name", ["en/base.html", "en/approval_timeout.txt", "style.css", "en/duration.txt"])
def test_check_finds_a_broken_template_beside_packaged_ones_in_every_language_in_use(
    run: Run, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "mails" / name
    path.parent.mkdir(parents=True)
    path.write_text("{{ nobody_knows }}")
    (tmp_path / "routes.toml").write_text("[[rule]]\nname = 'english'\nto = 'a@example.com'\nlanguage = 'en'\n")
    changes = {
        "NOTIFICATION_TEMPLATE_DIR": str(tmp_path / "mails"),
        "NOTIFICATION_ROUTES": str(tmp_path / "routes.toml"),
    }
    _, lines = check(run, "--only", "templates", **changes)
    assert not lines["templates"]["ok"]
    assert f"{Path(name).name}:1: UndefinedError: 'nobody_knows' is undefined" in str(lines["templates"]["detail"])


def test_a_missing_template_folder_is_told_and_the_packaged_templates_are_sent(
    run: Run, smtp: SMTPServer, tmp_path: Path
) -> None:
    gone = {"NOTIFICATION_TEMPLATE_DIR": str(tmp_path / "gone")}
    _, lines = check(run, **gone)
    assert "is not a folder" in str(lines["templates"]["detail"])
    assert run("send-test", **gone).returncode == 0
    assert smtp.mails[0].subject == "[승인 필요] send-test 도구"


def test_a_held_channel_is_visible_in_status(
    run: Run, start: Start, smtp: SMTPServer, status: Callable[[], dict[str, int]]
) -> None:
    smtp.users["me"] = "secret"
    start("worker", SMTP_USE_TLS="false", SMTP_USER="me", SMTP_PASSWORD="wrong").ready()
    run("emit", "approval_approved", *FIELDS)
    wait_for(lambda: status() == {"deferred": 1})
    channel = json.loads(run("status", "--json").stdout)["channel"]
    assert channel["held_since"]
    assert "535 5.7.8" in channel["reason"]
    assert "channel         held since" in run("status").stdout


def test_trace_tells_the_whole_story_of_a_request_by_its_short_id(run: Run, start: Start, smtp: SMTPServer) -> None:
    smtp.on("rcpt", "451 greylisted", recipient="slow@example.com", times=1)
    smtp.on("rcpt", "550 5.1.1 no such user", recipient="typo@example.com")
    start("worker", EMAIL_TO="typo@example.com,slow@example.com").ready()
    run("emit", "approval_requested", *FIELDS, "request_id=abc12345-6789")
    wait_for(lambda: len(smtp.to("slow@example.com")) == 1)
    rows = wait_for(
        lambda: (found := json.loads(run("trace", "abc12345", "--json").stdout))[-1]["state"] == "sent" and found
    )
    assert all(set(row) == {"at", "event_id", "recipient", "state", "reason", "code", "attempt"} for row in rows)
    assert {row["event_id"] for row in rows} == {"abc12345-6789:approval_requested"}
    told = [(row["state"], row["recipient"], row["code"], row["attempt"]) for row in rows]
    assert told[:2] == [("pending", "", None, None), ("claimed", "", None, None)]
    assert sorted(told[2:4]) == [("claimed", "slow@example.com", 451, 1), ("dead", "typo@example.com", 550, 1)]
    assert told[4:] == [("sent", "slow@example.com", 250, 2)]
    page = run("trace", "abc12345").stdout
    assert "550  typo@example.com  5.1.1 no such user" in page
    assert "try 2   250  slow@example.com" in page
    assert page.splitlines()[2].split()[1].startswith("+0."), "the seconds since the change before"


def test_trace_of_an_unknown_or_ambiguous_id_says_what_to_do(run: Run) -> None:
    run("emit", "approval_requested", *FIELDS, "request_id=abc12345-1")
    run("emit", "approval_requested", *FIELDS, "request_id=abc12345-2")
    ambiguous = run("trace", "abc12345")
    assert ambiguous.returncode == 1
    assert "give more of yours: abc12345-1, abc12345-2" in ambiguous.stderr
    unknown = run("trace", "nobody")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert run("trace", "nobody", "--json").stdout == "[]\n"
    assert "no event of request nobody is on record (finished ones are kept for 7 days)" in unknown.stderr


def test_trace_finds_what_waits_on_this_hosts_disk(run: Run, tmp_path: Path) -> None:
    run("emit", "approval_requested", *FIELDS, REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    waiting = run("trace", "abc12345")
    assert waiting.returncode == 1
    assert "abc12345 waits on this host's disk alone: see approval-mail spool list" in waiting.stderr


@pytest.mark.parametrize(
    ("arguments", "subject", "shown"),
    [
        (("approval_requested",), "[승인 필요] git_commit 도구", "실행할 내용"),
        (("approval_rejected", "--lang", "en"), "[Rejected] git_commit", "bora"),
    ],
)
def test_preview_shows_a_mail_without_sending_one(
    run: Run, smtp: SMTPServer, tmp_path: Path, arguments: tuple[str, ...], subject: str, shown: str
) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    page = run("preview", *arguments, REDIS_URL=nowhere)
    assert page.returncode == 0, page.stderr
    assert f"<title>{subject}</title>" in page.stdout
    text = run("preview", *arguments, "--text", "--field", "user_id=<kim>", REDIS_URL=nowhere)
    assert text.stdout.startswith(f"{subject}\n\n")
    assert "<kim>" in text.stdout
    assert shown in page.stdout
    assert run("preview", *arguments, "--out", "mail.html").stdout == ""
    assert shown in (tmp_path / "mail.html").read_text("utf-8")
    assert smtp.connections == 0


def test_preview_all_puts_every_mail_of_both_languages_on_one_page(run: Run) -> None:
    page = run("preview", "all").stdout
    assert page.count("<iframe") == 10
    assert "[승인 필요] git_commit 도구" in page
    assert "[Approval needed] git_commit" in page


def test_preview_opens_a_web_browser(run: Run, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o700)
    assert run("preview", "approval_timeout", "--open", BROWSER=f"{browser} %s").returncode == 0
    opened = (tmp_path / "opened").read_text().strip()
    assert opened.startswith("file://")
    assert "[타임아웃]" in Path(opened.removeprefix("file://")).read_text("utf-8")


def test_preview_of_a_template_that_fails_names_the_line_and_exits_1(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "approval_requested.html").write_text("<p>hello</p>\n<p>{{ nobody }}</p>")
    done = run("preview", "approval_requested", NOTIFICATION_TEMPLATE_DIR=str(folder))
    assert done.returncode == 1
    assert f"{folder}/approval_requested.html:2: UndefinedError: 'nobody' is undefined" in done.stderr
    assert "실행할 내용" in done.stdout
    given = run(
        "preview", "approval_requested", "--field", "nobody=me", NOTIFICATION_TEMPLATE_DIR=str(folder)
    )  # fmt: skip
    assert (given.returncode, "<p>me</p>" in given.stdout) == (0, True)


def test_inbox_is_a_mail_server_with_a_page(run: Run, settings: dict[str, str], tmp_path: Path) -> None:
    code = "from approval_mail.cli import main; main()"
    ports = ("--smtp-port", "0", "--http-port", "0")
    inbox = Program(sys.executable, "-c", code, "inbox", *ports, folder=tmp_path, settings=settings, name="inbox")
    inbox.wait_for_line("until Ctrl-C")
    found = re.match(r"Mails to smtp://127.0.0.1:(\d+) are shown at (\S+) ", inbox.output())
    assert found
    assert run("send-test", SMTP_PORT=found[1]).returncode == 0
    inbox.wait_for_line("[승인 필요] send-test 도구  ->  operator@localhost")
    with urllib.request.urlopen(f"{found[2]}mails.json") as answer:
        assert [mail["subject"] for mail in json.load(answer)] == ["[승인 필요] send-test 도구"]
    taken = run("inbox", "--smtp-port", found[1])
    assert taken.returncode == 1
    assert "choose others with --smtp-port" in taken.stderr
    assert inbox.stop() == 0


def test_check_can_be_asked_about_one_thing(run: Run) -> None:
    code, lines = check(run, "--only", "redis", "--only", "smtp")
    assert (code, list(lines)) == (0, ["redis", "smtp"])
    code, lines = check(run, "--only", "redis", SMTP_PORT="x")
    assert (code, list(lines)) == (2, ["settings"]), "without settings nothing can be tried"


def test_check_names_each_template_file_and_where_it_comes_from(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "approval_timeout.html").write_text("<p>{{ user_id }}</p>")
    (folder / "approval_approved.html").write_text("")
    _, lines = check(run, "--only", "templates", NOTIFICATION_TEMPLATE_DIR=str(folder))
    detail = str(lines["templates"]["detail"])
    own = f"from {folder}: approval_timeout.html, approval_timeout.txt (made from approval_timeout.html)"
    assert own in detail
    packaged = detail.replace(own, "")
    for name in (
        "base.html",
        "style.css",
        "approval_requested.html",
        "approval_approved.html",
        "approval_rejected.txt",
    ):
        assert name in packaged
    assert "approval_timeout" not in packaged


def test_templates_are_copied_to_begin_with_and_listed_where_they_are_taken_from(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "approval_timeout.html").write_text("<p>kept</p>")
    copied = run("templates", "copy", str(mine))
    assert copied.stdout.endswith(f"NOTIFICATION_TEMPLATE_DIR={mine}\n")
    assert copied.stderr == f"kept {mine}/approval_timeout.html\n"
    assert (mine / "approval_timeout.html").read_text() == "<p>kept</p>"
    assert (mine / "en" / "approval_requested.txt").is_file()
    listed = json.loads(run("templates", "list", "--json", NOTIFICATION_TEMPLATE_DIR=str(mine)).stdout)
    assert listed["base.html"] == str(mine / "base.html")
    assert str(mine) not in run("templates", "list").stdout
    _, lines = check(run, "--only", "templates", NOTIFICATION_TEMPLATE_DIR=str(mine))
    assert lines["templates"]["ok"] is True


def test_what_the_machine_refuses_is_one_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for command in (
        ("preview", "approval_requested", "--out", "/dev/null/mail.html"),
        ("templates", "copy", str(tmp_path / "file" / "below")),
    ):
        done = run(*command)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "Not a directory" in done.stderr
    latin = run("preview", "approval_requested", "--text", PYTHONIOENCODING="latin-1")
    assert latin.returncode == 1
    assert latin.stderr == "this terminal's encoding, latin-1, cannot show all of it: use UTF-8\n"
