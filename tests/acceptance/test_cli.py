"""``approval-mail`` as operators run it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.acceptance.conftest import Run, Start
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


def test_status_has_the_contracts_shape(run: Run, start: Start) -> None:
    assert json.loads(run("status", "--json").stdout) == {
        "enabled": True,
        "pending": 0,
        "deferred": 0,
        "claimed": 0,
        "sent": 0,
        "dead": 0,
        "suppressed": 0,
        "spooled": 0,
        "oldest_pending_seconds": None,
        "beat_seconds_ago": None,
        "workers": 0,
        "channel": {"held_since": None, "reason": None},
    }
    start("worker").ready()
    start("beat")
    run("emit", "approval_approved", *FIELDS)
    found = wait_for(lambda: (f := json.loads(run("status", "--json").stdout))["beat_seconds_ago"] is not None and f)
    assert 0 <= found["beat_seconds_ago"] < 10
    found = wait_for(lambda: (f := json.loads(run("status", "--json").stdout))["sent"] == 1 and f)
    assert found["workers"] == 1
    page = run("status").stdout
    assert "workers         1" in page
    assert "channel         open" in page


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
    assert run("dead", "retry", "abc12345:approval_approved").stdout == "reopened 1 mails of 1 events\n"
    wait_for(lambda: len(smtp.to("mended@example.com")) == 1)
    assert len(smtp.to("good@example.com")) == 2, "one for each event, none repeated"

    refused = run("dead", "discard", "--all")
    assert refused.returncode == 1, "without --yes and without an answer nothing is discarded"
    assert run("dead", "discard", "--all", "--yes").returncode == 0
    assert json.loads(run("dead", "list", "--json").stdout) == []
    found = json.loads(run("status", "--json").stdout)
    assert (found["sent"], found["suppressed"], found["dead"]) == (1, 0, 0) or found["sent"] == 2


def test_dead_commands_want_events_and_know_which_they_have(run: Run) -> None:
    assert run("dead", "retry").returncode == 2
    assert run("dead", "retry", "x:y", "--all").returncode == 2
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


def test_a_worker_replays_the_spool_of_its_host(run: Run, start: Start, smtp: SMTPServer) -> None:
    gone = f"redis://127.0.0.1:{free_port()}/0"
    run("emit", "approval_requested", *FIELDS, REDIS_URL=gone)
    start("worker").ready()
    wait_for(lambda: len(smtp.mails) == 1)


def test_send_test_needs_neither_redis_nor_notifications(run: Run, smtp: SMTPServer) -> None:
    done = run("send-test", "--to", "me@example.com", NOTIFICATION_ENABLED="false", REDIS_URL="redis://127.0.0.1:1/0")
    assert done.returncode == 0
    assert done.stdout.startswith("sent  me@example.com  dot: 250")
    [mail] = smtp.mails
    assert mail.recipient == "me@example.com"
    assert mail.subject == "[승인 필요] send-test 도구"


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
    assert list(lines) == ["settings", "templates", "redis", "worker", "beat", "smtp"]
    assert all(set(line) == {"name", "ok", "seconds", "detail", "next_step"} for line in lines.values())
    assert {name for name, line in lines.items() if not line["ok"]} == {"worker", "beat"}
    assert "celery -A approval_mail worker" in str(lines["worker"]["next_step"])
    assert smtp.mails == []
    assert smtp.commands[-2:] == ["RSET", "QUIT"]

    smtp.stop()
    _, lines = check(run, REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert {name for name, line in lines.items() if line["ok"]} == {"settings", "templates"}

    assert lines["worker"]["next_step"] == "mend Redis first"
    assert "Connection refused" in str(lines["smtp"]["detail"])

    code, lines = check(run, NOTIFICATION_ENABLED="false")
    assert (code, len(lines), lines["settings"]["ok"]) == (1, 6, False)

    code, lines = check(run, SMTP_PORT="x")
    assert (code, list(lines)) == (2, ["settings"])


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


def test_a_missing_template_folder_is_told_and_the_packaged_templates_are_sent(
    run: Run, smtp: SMTPServer, tmp_path: Path
) -> None:
    gone = {"NOTIFICATION_TEMPLATE_DIR": str(tmp_path / "gone")}
    _, lines = check(run, **gone)
    assert "is no folder" in str(lines["templates"]["detail"])
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
