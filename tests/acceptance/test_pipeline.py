"""From hook to inbox, through real Celery processes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.acceptance.conftest import Start
from tests.rig.programs import Program
from tests.rig.redis_server import RedisServer
from tests.rig.smtp_server import SMTPServer
from tests.rig.waiting import wait_for

Emit = Callable[..., list[str]]
Status = Callable[[], dict[str, int]]


def test_the_four_events_become_four_mails(start: Start, emit: Emit, smtp: SMTPServer, status: Status) -> None:
    start("worker").ready()
    start("beat")
    kinds = ("approval_requested", "approval_timeout", "approval_approved", "approval_rejected")
    assert emit([(kind, f"{kind}-id") for kind in kinds]) == ["accepted"] * 4
    wait_for(lambda: status() == {"sent": 4})
    assert sorted(mail.subject for mail in smtp.mails) == [
        "[거부됨] git_commit 도구",
        "[승인 필요] git_commit 도구",
        "[승인됨] git_commit 도구",
        "[타임아웃] git_commit 승인 요청",
    ]


def test_ten_outcomes_leave_as_one_batch_at_once_and_no_beat_is_needed(
    start: Start, emit: Emit, smtp: SMTPServer, status: Status, settings: dict[str, str]
) -> None:
    settings["NOTIFICATION_BATCH_TIMEOUT"] = "3600"
    worker = start("worker", "--concurrency=2").ready()
    emit([("approval_approved", f"r{n}") for n in range(10)])
    worker.wait_for_line("Batches done: 1 batches, 10 sent, 0 deferred, 0 dead, 0 suppressed in")
    assert status() == {"sent": 10}
    assert smtp.connections == 1


def test_a_worker_subscribes_to_none_of_the_results_of_its_batches(
    start: Start, emit: Emit, status: Status, redis_server: RedisServer
) -> None:
    """Each would be remembered for as long as it runs, though it is unsubscribed again."""
    start("worker", "--concurrency=1").ready()
    emit([("approval_approved", f"r{n}") for n in range(30)])
    wait_for(lambda: status() == {"sent": 30})
    with redis_server.client as client:
        assert client.pubsub_channels("celery-task-meta-*") == []
        assert "cmdstat_subscribe" not in client.info("commandstats")


def test_an_outcome_alone_leaves_after_the_batch_timeout_without_beat(start: Start, emit: Emit, status: Status) -> None:
    start("worker").ready()
    emit([("approval_approved", "alone")])
    wait_for(lambda: status() == {"sent": 1}, seconds=60)


def test_what_is_to_be_tried_again_does_not_hold_up_what_there_is_room_for(
    start: Start, emit: Emit, smtp: SMTPServer, settings: dict[str, str], redis_server: RedisServer
) -> None:
    """Without beat, no gather comes but those that the claims ask for."""
    settings |= {"NOTIFICATION_BATCH_TIMEOUT": "3600", "NOTIFICATION_BATCH_SIZE": "2"}
    smtp.on("rcpt", "451 4.7.1 come back later", recipient="busy@example.com")
    emit([("approval_approved", f"busy{n}") for n in range(30)], email_to="busy@example.com")
    emit([("approval_approved", f"open{n}") for n in range(30)], email_to="open@example.com")
    with redis_server.client as client:
        turns = {f"{who}{n}:approval_approved": n + 1 for n in range(30) for who in ("busy", "open")}
        client.zadd("approval_mail:{store}:pending", turns)
    start("worker", "--concurrency=2").ready()
    wait_for(lambda: len(smtp.to("open@example.com")) == 30, seconds=60)
    began, ended = smtp.moments("rcpt TO:<busy")[0], smtp.moments("rcpt TO:<open")[-1]
    assert ended - began < 13, "before what is to be tried again is tried for the fourth time, after 2, 4 and 8 s"


def test_what_came_in_while_no_worker_ran_is_sent_when_one_starts(start: Start, emit: Emit, status: Status) -> None:
    emit([("approval_approved", "early")])
    start("worker").ready()
    wait_for(lambda: status() == {"sent": 1}, seconds=60)


def test_notify_is_the_hook_run_in_a_worker_and_answers_the_receipt(
    start: Start, settings: dict[str, str], tmp_path: Path, status: Status
) -> None:
    worker = start("worker").ready()
    code = (
        "from approval_mail.tasks import notify\n"
        "data = {'request_id': 'r1', 'user_id': 'kim', 'tool_name': 'git_commit'}\n"
        "for _ in range(2): print(notify.delay('approval_requested', data).get(timeout=20))\n"
        "try: notify.delay('approval_requested', {'request_id': 'r2'}).get(timeout=20)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    caller = Program(sys.executable, "-c", code, folder=tmp_path, settings=settings, name="caller")
    caller.process.wait(120)
    told = "InvalidEvent approval_requested: field 'user_id' is missing or empty; it is required"
    assert caller.output() == f"accepted\nduplicate\n{told}\n"
    assert "Traceback" not in worker.output()
    wait_for(lambda: status() == {"sent": 1})


def test_workers_drain_what_was_recorded_while_notifications_are_switched_off(
    start: Start, emit: Emit, status: Status
) -> None:
    emit([("approval_approved", "r1")])
    start("worker", NOTIFICATION_ENABLED="false").ready()
    wait_for(lambda: status() == {"sent": 1})


@pytest.fixture
def redis_server(own_redis: RedisServer) -> RedisServer:
    """These tests kill workers: each has a server, and so a queue, of its own."""
    return own_redis


def test_the_worker_and_beat_refuse_bad_settings_with_every_problem(start: Start) -> None:
    for program in ("worker", "beat"):
        refused = start(program, SMTP_PORT="x", NOTIFICATION_ENABLED="ture", SMTP_PASSWORD="hunter2")
        assert refused.process.wait(60) == 2
        lines = refused.output().splitlines()
        assert lines[0].startswith("NOTIFICATION_ENABLED=ture (the environment)")
        assert lines[1].startswith("SMTP_PORT=x (the environment)")
        assert len(lines) == 3
        assert "hunter2" not in refused.output()


def test_beat_says_in_one_line_that_redis_is_gone_and_goes_on_when_it_is_back(
    start: Start, redis_server: RedisServer
) -> None:
    beat = start("beat")
    with redis_server.client as client:
        wait_for(lambda: client.llen("approval_mail") > 0)
    redis_server.kill()
    beat.wait_for_line("beat tries again", times=2)
    assert "Traceback" not in beat.output()
    redis_server.start()
    with redis_server.client as client:
        before = client.llen("approval_mail")
        wait_for(lambda: client.llen("approval_mail") > before)


HOST = """
from celery import Celery
host = Celery("host", broker="{broker}", set_as_current=True)
from approval_mail import hooks

@host.task(name="host.task")
def task():
    pass

task.delay()
print(hooks.approval_requested(request_id="r1", user_id="kim", tool_name="git_commit"))
from celery import current_app
assert current_app.main == "host"
"""


def test_a_host_with_a_celery_app_and_a_celeryconfig_of_its_own_keeps_them(
    start: Start, settings: dict[str, str], tmp_path: Path, redis_server: RedisServer, status: Status
) -> None:
    broker = redis_server.url.replace("/0", "/5")
    (tmp_path / "celeryconfig.py").write_text('broker_url = "redis://127.0.0.1:1/0"\ntask_default_queue = "wrong"\n')
    (tmp_path / "host.py").write_text(HOST.format(broker=broker))
    caller = Program(sys.executable, "host.py", folder=tmp_path, settings=settings, name="host")
    assert caller.process.wait(120) == 0, caller.output()
    assert caller.output() == "accepted\n"
    with redis.Redis.from_url(broker) as client:
        assert client.llen("celery") == 1
        assert client.llen("approval_mail") == 0
    start("worker").ready()
    wait_for(lambda: status() == {"sent": 1})


def test_every_line_of_a_batch_is_told_once(start: Start, emit: Emit, status: Status) -> None:
    worker = start("worker").ready()
    emit([("approval_requested", f"abc1234{n}") for n in range(3)])
    wait_for(lambda: status() == {"sent": 3})
    worker.wait_for_line("Batches done", times=1)
    told = re.findall(r"Notification sent for ApprovalEvent\(approval_requested, abc1234\d\)", worker.output())
    assert sorted(told) == [f"Notification sent for ApprovalEvent(approval_requested, abc1234{n})" for n in range(3)]


def test_a_message_of_an_unknown_task_is_named_in_the_log_without_its_body(
    start: Start, settings: dict[str, str], tmp_path: Path
) -> None:
    worker = start("worker").ready()
    code = (
        "from approval_mail.celery import app\n"
        "app.send_task('approval_mail.notifyy', args=['approval_requested', {'email_to': 'secret@example.com'}])"
    )
    Program(sys.executable, "-c", code, folder=tmp_path, settings=settings, name="host").process.wait(120)
    worker.wait_for_line("Received unregistered task of type 'approval_mail.notifyy'.")
    assert "secret" not in worker.output()
