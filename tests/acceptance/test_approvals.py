"""The approvals store over the whole pipeline: real worker and beat, racing and dying processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from approval_mail import services
from approval_mail.approvals import Status, desks
from approval_mail.approvals.desk import Desk
from approval_mail.store import EventStore
from tests.acceptance.conftest import Start
from tests.integration.test_approvals import turn_back
from tests.rig.programs import Program
from tests.rig.proxy import Proxy
from tests.rig.redis_server import RedisServer
from tests.rig.smtp_server import SMTPServer
from tests.rig.waiting import wait_for


@pytest.fixture
def desk(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk in this process, by the settings of the programs."""
    for name, value in settings.items():
        if name.startswith(("NOTIFICATION_", "REDIS_", "SMTP_", "APPROVAL_")):
            monkeypatch.setenv(name, value)
    services.configure(None)
    return desks.for_operators()


def ask(desk: Desk, timeout: float = 300, **more: Any) -> str:
    return desk.ask(user_id="agent-7", tool_name="git_commit", timeout=timeout, **more).request_id


def subjects(smtp: SMTPServer) -> list[str]:
    return sorted(mail.subject for mail in smtp.mails)


def test_a_timeout_is_announced_though_nobody_polls(
    start: Start, desk: Desk, smtp: SMTPServer, store: EventStore
) -> None:
    worker = start("worker", "--concurrency=2", "-E", "--loglevel=INFO").ready()
    beat = start("beat", "--loglevel=INFO")
    beat.wait_for_line("Sending due task gather")

    name = ask(desk, timeout=6)

    wait_for(lambda: "[타임아웃] git_commit 승인 요청" in subjects(smtp), seconds=60)
    announced = next(c.at for c in store.history.trace(name) if c.event_id.endswith("approval_timeout"))
    approval = desk.read(name)
    assert approval.status is Status.EXPIRED
    assert 0 <= (announced - approval.expires_at).total_seconds() < 2
    assert subjects(smtp) == ["[승인 필요] git_commit 도구", "[타임아웃] git_commit 승인 요청"]
    assert "approval_mail.gather" in worker.output()
    assert "sweep_expired[" not in worker.output() + beat.output(), "nobody reads a log with a line each second"


def test_reminders_name_the_time_left_and_the_last_goes_further_up(
    start: Start, settings: dict[str, str], desk: Desk, smtp: SMTPServer
) -> None:
    settings |= {"APPROVAL_ESCALATE_TO": "boss@example.com", "NOTIFICATION_LANGUAGE": "en"}
    services.configure(None)
    start("worker", "--concurrency=2").ready()
    start("beat")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APPROVAL_REMINDERS", "0.1,0.3")
        services.configure(None)
        name = ask(desks.for_operators(), timeout=20)

    wait_for(lambda: len(smtp.mails) == 4, saying="a request and its reminders")

    reminders = [mail for mail in smtp.mails if mail.subject.startswith("[Still waiting] git_commit")]
    assert Counter(mail.recipient for mail in reminders) == {"operator@localhost": 2, "boss@example.com": 1}
    assert all("s left" in mail.subject for mail in reminders)
    assert len({mail.message_id for mail in reminders}) == 3
    asked = next(mail for mail in smtp.mails if mail.subject.startswith("[Approval needed]"))
    assert all(
        mail.message["In-Reply-To"] == asked.message_id for mail in reminders if mail.recipient == "operator@localhost"
    )
    desk.cancel(name)


def test_no_mail_goes_out_about_what_was_decided_meanwhile(
    start: Start, desk: Desk, smtp: SMTPServer, status: Callable[[], dict[str, int]], run: Any
) -> None:
    name = ask(desk)
    desk.reject(name, responder_id="kim")
    start("worker", "--concurrency=2").ready()
    wait_for(lambda: status() == {"sent": 1, "suppressed": 1})
    assert subjects(smtp) == ["[거부됨] git_commit 도구"]
    shown = run("trace", name[:8]).stdout
    assert "moot: already rejected" in shown


def test_nobody_was_told_while_the_mail_server_is_down(
    start: Start, desk: Desk, smtp: SMTPServer, run: Any, client: redis.Redis
) -> None:
    smtp.stop()
    worker = start("worker", "--concurrency=2").ready()
    start("beat")
    approval = desk.ask(user_id="agent-7", tool_name="git_commit", timeout=100)
    turn_back(client, approval, 51)

    worker.wait_for_line(f"Nobody was told of approval {approval.request_id[:8]}")

    assert json.loads(run("status", "--json").stdout)["untold"] == 1
    turn_back(client, approval, 50)
    wait_for(lambda: desk.read(approval.request_id).status is Status.EXPIRED)
    assert worker.output().count("Nobody was told of approval") == 1


#: Decides once `go` is there, and prints its own name if it was the one.
_RACER = """
import pathlib, sys, time
from concurrent.futures import ThreadPoolExecutor
from approval_mail.approvals import NotPending, desks
name, racer, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
desk = desks.for_operators()
desk.read(name)
pathlib.Path(f"ready-{racer}").touch()
while not pathlib.Path("go").exists():
    time.sleep(0.001)
def decide(number):
    act = (desk.approve, desk.reject)[number % 2]
    try:
        return act(name, responder_id=f"{racer}-{number}").responder_id
    except NotPending:
        return None
with ThreadPoolExecutor(threads) as pool:
    for winner in pool.map(decide, range(threads)):
        if winner is not None:
            print(winner)
"""


def test_of_200_decisions_from_threads_and_processes_one_wins_and_one_mail_tells(
    start: Start, desk: Desk, smtp: SMTPServer, settings: dict[str, str], tmp_path: Path, client: redis.Redis
) -> None:
    start("worker", "--concurrency=2").ready()
    start("beat")
    name = ask(desk)
    wait_for(lambda: len(smtp.mails) == 1, saying="the request's mail")
    racers = [
        Program(
            sys.executable, "-c", _RACER, name, f"racer{n}", "25", folder=tmp_path, settings=settings, name=f"racer{n}"
        )
        for n in range(7)
    ]
    wait_for(lambda: len(list(tmp_path.glob("ready-*"))) == 7, saying="the processes that race")
    (tmp_path / "go").touch()
    here = [threading.Thread(target=_decide, args=(desk, name, f"here-{n}")) for n in range(25)]
    for thread in here:
        thread.start()
    for racer in racers:
        racer.process.wait(120)
    for thread in here:
        thread.join()

    won = [line for racer in racers for line in racer.output().split()]
    approval = desk.read(name)
    assert won == ([] if approval.responder_id.startswith("here") else [approval.responder_id])
    wait_for(lambda: len(smtp.mails) == 2, saying="the outcome's mail")
    recorded = {key.rpartition(":")[2] for key in client.scan_iter(f"approval_mail:{{store}}:event:{name}:*")}
    assert recorded == {"approval_requested", "approval_approved" if approval else "approval_rejected"}
    outcome = "[승인됨] git_commit 도구" if approval else "[거부됨] git_commit 도구"
    assert subjects(smtp) == sorted(["[승인 필요] git_commit 도구", outcome])


def _decide(desk: Desk, name: str, who: str) -> None:
    from approval_mail.approvals import NotPending

    try:
        desk.approve(name, responder_id=who)
    except NotPending:
        return


@pytest.mark.parametrize("act", ["ask", "approve"])
def test_a_process_killed_at_any_step_leaves_both_status_and_event_or_neither(
    act: str, redis_server: RedisServer, desk: Desk, settings: dict[str, str], tmp_path: Path
) -> None:
    code = {
        "ask": "desk.ask(user_id='agent-7', tool_name='deploy', request_id=sys.argv[1])",
        "approve": "desk.approve(sys.argv[1], responder_id='kim')",
    }[act]
    program = f"import sys\nfrom approval_mail.approvals import desks\ndesk = desks.for_hosts()\n{code}\n"
    seen = []
    with redis_server.client as client:
        for step in range(1, 40):
            # So that each child loads the scripts: one step more to die at.
            client.script_flush()
            name = f"r{step}"
            if act == "approve":
                desk.ask(user_id="agent-7", tool_name="deploy", request_id=name)
            finished = _run_until_reply(program, name, step, redis_server, settings, tmp_path)
            kind, status = {"ask": ("requested", "pending"), "approve": ("approved", "approved")}[act]
            event = client.exists(f"approval_mail:{{store}}:event:{name}:approval_{kind}")
            found = client.hget(f"approval_mail:{{store}}:approval:{name}", "status")
            assert (found == status) is bool(event), f"killed at reply {step}: status {found}, event {event}"
            seen.append(bool(event))
            if finished:
                break
    assert finished
    assert seen == sorted(seen), "once it is done it stays done"
    assert seen.count(False) >= 2
    assert seen.count(True) >= 2


def _run_until_reply(
    program: str, name: str, step: int, redis_server: RedisServer, settings: dict[str, str], folder: Path
) -> bool:
    """Run ``program`` and kill -9 it when the server's reply number ``step`` is about to reach it; False if so."""
    replies = 0
    child: subprocess.Popen[bytes] | None = None
    started = threading.Event()

    def judge(request: bytes, reply: bytes) -> bool:
        nonlocal replies
        replies += 1
        if replies < step:
            return True
        started.wait()
        assert child is not None
        child.kill()
        return False

    with Proxy(redis_server.port, judge) as proxy:
        environment = {**settings, "REDIS_URL": proxy.redis_url}
        child = subprocess.Popen([sys.executable, "-c", program, name], cwd=folder, env=environment)
        started.set()
        child.wait(120)
    assert child.returncode in (0, -9)
    return child.returncode == 0
