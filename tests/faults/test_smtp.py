"""Faults of the mail server within a mail's own steps: what may pass is tried again, what is final is dead at once."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from approval_mail.store import EventStore
from approval_mail.store.history import History
from tests.faults.world import World
from tests.rig.programs import Program
from tests.rig.smtp_server import Connection
from tests.rig.waiting import wait_for

Act = Callable[[Connection], None]


def worker(world: World, *, schedule: dict[str, float] | None = None, **changes: str) -> Program:
    """One process, so that what the server hears is in order; by a shorter schedule if one is given."""
    program = world.celery(
        "worker", "--concurrency=1", "-I", "tests.faults.schedule", SCHEDULE=json.dumps(schedule or {}), **changes
    )
    world.beat()
    return program


def waits(moments: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(moments)]


@contextlib.contextmanager
def history(world: World) -> Iterator[History]:
    with world.client as client:
        yield EventStore(client).history


def until_gone(connection: Connection) -> None:
    """Say nothing more, until the client has had enough."""
    with contextlib.suppress(OSError):
        connection.file.read()


def drip(connection: Connection) -> None:
    """Half a second for each byte of a reply that has no end, until the client has had enough."""
    with contextlib.suppress(OSError):
        for byte in itertools.cycle(b"250-wait a little "):
            connection.sock.sendall(bytes([byte]))
            time.sleep(0.5)


# --- what may pass


@pytest.mark.fault("SMTP refused, 421, 451, greylisting")
def test_a_greylisted_mail_is_tried_ever_more_seldom_until_it_is_taken(world: World) -> None:
    """By a schedule of one quick retry, after 2 s, and rounds after 1 s and more; 421 is one of the refusals."""
    world.smtp.on("rcpt", "451 4.7.1 greylisted", times=1)
    world.smtp.on("rcpt", "421 4.7.0 try again later", times=1)
    sender = worker(world, schedule={"QUICK_RETRIES": 1, "ROUND_BACKOFF": 1})
    world.tell(1)
    ledger = world.judge(within=30)
    assert ledger.sent == 1
    for found, planned in zip(waits(world.smtp.moments("rcpt")), (2, 1), strict=True):
        assert planned * 0.9 < found < planned + 2.5
    assert sender.output().count("Not accepted") == 2


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.fault("SMTP refused, 421, 451, greylisting")
def test_greylisting_for_minutes_by_the_usual_schedule(world: World) -> None:
    """After 2, 4 and 8 s, then after 30 and 60 s; a neighbour that is not greylisted goes out at once."""
    world.smtp.on("rcpt", "451 4.7.1 greylisted", recipient="slow@host.example", times=5)
    worker(world)
    world.tell(1, email_to=["slow@host.example", "quick@host.example"])
    world.fault_begins()
    assert world.judge(within=200).sent == 1
    measured = waits(world.smtp.moments("rcpt TO:<slow"))
    for found, planned in zip(measured, (2, 4, 8, 30, 60), strict=True):
        assert planned * 0.95 < found < planned + 3, measured
    [quick], [slow] = world.smtp.to("quick@host.example"), world.smtp.to("slow@host.example")
    assert slow.at - quick.at > 100


@pytest.mark.fault("reset mid-DATA")
def test_a_connection_reset_within_the_content_is_tried_again_and_doubles_nothing(world: World) -> None:
    """Reset after a number of lines left to chance, of mails of the usual size and of some megabytes.

    Of a small one the final dot may be on its way by then, and its outcome not known: that is tried later.
    """
    count = 20 if world.thorough else 4
    templates = world.folder / "templates"
    templates.mkdir()
    (templates / "approval_rejected.txt").write_text("{% for _ in range(60000) %}{{ tool_name * 8 }}\n{% endfor %}")

    def reset_within(connection: Connection) -> None:
        for _ in range(world.random.randrange(100)):
            connection.file.readline()
        connection.reset()

    world.smtp.on("content", act=reset_within, times=count)
    schedule = {"ROUND_BACKOFF": 1, "ROUND_BACKOFF_MAX": 1}
    sender = worker(world, schedule=schedule, NOTIFICATION_TEMPLATE_DIR=str(templates))
    world.tell(count, types=["approval_approved", "approval_rejected"])
    wait_for(lambda: sender.output().count("Not accepted") == count)
    world.fault_begins()
    assert world.judge().sent == count
    large = [line for line in sender.output().splitlines() if "Not accepted ApprovalEvent(approval_rejected" in line]
    assert large
    assert all("failed in content" in line for line in large)


# --- what is final


@pytest.mark.fault("550 for one of three, 552 at DATA, 550 for all")
def test_who_is_refused_for_good_is_dead_at_once_and_the_others_get_their_mail(world: World) -> None:
    """Refused at rcpt, at data and after the final dot; and an event of which nobody gets anything."""
    reasons = {
        "gone@host.example": ("rcpt", 550, "5.1.1 no such user"),
        "full@host.example": ("data", 552, "5.2.2 mailbox full"),
        "small@host.example": ("dot", 552, "5.3.4 message too big"),
    }
    for recipient, (step, code, text) in reasons.items():
        world.smtp.on(step, f"{code} {text}", recipient=recipient)
    well = ["a@host.example", "b@host.example"]
    sender = worker(world)
    some = world.host(10 if world.thorough else 2, email_to=[*well, *reasons])
    none = world.host(1, email_to=["gone@host.example"])
    assert [some.process.wait(30), none.process.wait(30)] == [0, 0]
    ledger = world.judge(within=20)
    assert (ledger.sent, ledger.dead) == (0, ledger.events)

    rows = json.loads(world.ask("dead", "list", "--json").stdout)
    assert len(rows) == (ledger.events - 1) * len(reasons) + 1
    for row in rows:
        phase, code, text = reasons[row["recipient"]]
        assert (row["phase"], row["code"], row["reason"]) == (phase, code, f"{code} {text}")
        assert row["attempts"] == 1
    assert Counter(mail.recipient for mail in world.smtp.mails) == dict.fromkeys(well, ledger.events - 1)
    assert sender.output().count("refused for good") == len(rows)


# --- nobody knows


def close(connection: Connection) -> None:
    connection.cut()


def garbage(connection: Connection) -> None:
    connection.say("\x00\x01 what?")


#: What may follow the final dot in place of a reply, and what is known of it then.
SILENCES: dict[str, tuple[Act, str]] = {
    "closed@host.example": (close, "the server closed the connection"),
    "reset@host.example": (Connection.reset, "Connection reset by peer"),
    "hung@host.example": (until_gone, "no reply within 0.5 s"),
    "garbage@host.example": (garbage, "which is no SMTP reply"),
}


@pytest.mark.fault("closed, hung or garbage after the dot")
def test_a_mail_of_unknown_outcome_is_tried_three_times_and_not_more(world: World) -> None:
    """The server keeps each copy before it falls silent: at most three, all with one Message-ID."""
    for recipient, (act, _) in SILENCES.items():
        world.smtp.on("dot", act=act, recipient=recipient)
    schedule = {"ROUND_BACKOFF": 1, "ROUND_BACKOFF_MAX": 1, "FINAL_DOT_TIMEOUT": 0.5}
    sender = worker(world, schedule=schedule)
    world.tell(1, email_to=[*SILENCES, "well@host.example"])
    ledger = world.judge(explained=2 * len(SILENCES), within=40)
    assert ledger.dead == 1
    assert len(world.smtp.to("well@host.example")) == 1
    with history(world) as known:
        rows = {mail.recipient: mail for mail in known.dead()}
        told = known.trace("host1-0")
    for recipient, (_, why) in SILENCES.items():
        assert len(world.smtp.to(recipient)) == 3
        assert len({mail.message_id for mail in world.smtp.to(recipient)}) == 1
        assert (rows[recipient].phase, rows[recipient].attempts) == ("dot", 3)
        assert rows[recipient].reason.startswith("outcome unknown 3 times; last: ")
        tries = [change for change in told if change.recipient == recipient and change.state == "claimed"]
        assert [change.attempt for change in tries] == [1, 2, 3]
        assert all("outcome unknown: " in change.reason and why in change.reason for change in tries), tries
    assert sender.output().count("unknown in dot") == 3 * len(SILENCES)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.fault("closed, hung or garbage after the dot")
def test_a_lost_reply_is_waited_for_and_then_the_mail_is_sent_once_more(world: World) -> None:
    """By the usual schedule: 30 s for a reply, another 30 s until the second try, which is answered."""
    hung, closed = "hung@host.example", "closed@host.example"
    world.smtp.on("dot", act=until_gone, recipient=hung, times=1)
    world.smtp.on("dot", act=close, recipient=closed, times=1)
    worker(world)
    world.tell(1, email_to=[hung, closed, "well@host.example"])
    world.fault_begins()
    assert world.judge(explained=2, within=150).sent == 1
    for recipient, planned in ((hung, 60), (closed, 30)):
        first, second = world.smtp.to(recipient)
        assert first.message_id == second.message_id
        assert planned * 0.95 < second.at - first.at < planned + 35


# --- around the mails


@pytest.mark.fault("QUIT refused or unanswered")
@pytest.mark.long
def test_a_goodbye_that_fails_takes_no_acceptance_back(world: World) -> None:
    """QUIT is said after a hundred mails, and when the worker ends: refused, unanswered, reset, refused."""
    for act in (None, until_gone, Connection.reset, None):
        world.smtp.on("quit", "" if act else "421 4.3.2 shutting down", act=act, times=1)
    sender = worker(world, SMTP_TIMEOUT="0.5")
    world.tell(320)
    assert world.judge(within=20).sent == 320
    assert len(world.smtp.moments("QUIT")) == 3
    assert sender.stop() == 0
    assert len(world.smtp.moments("QUIT")) == 4
    assert world.judge().sent == 320
    assert "Not accepted" not in sender.output()
    assert "Channel" not in sender.output()


@pytest.mark.fault("server that drips")
def test_a_server_that_drips_is_left_at_the_deadline(world: World) -> None:
    """A byte each half second, of a reply to a recipient and of the next greeting: no byte buys it more time."""
    world.smtp.on("rcpt", act=drip, times=1)
    world.smtp.on("banner", "220 test ESMTP", times=1)
    world.smtp.on("banner", act=drip, times=1)
    sender = worker(world, SMTP_TIMEOUT="1.2")
    world.tell(3)
    sender.wait_for_line("failed in rcpt: no reply within 1.2 s")
    world.fault_begins()
    assert world.judge(within=30).sent == 3
    assert "banner failed: no reply within 1.2 s" in sender.output()
    first, second, third = world.smtp.moments("CONNECT")
    assert 1.2 * 0.9 < second - first < 1.2 + 2
    assert (1.2 + 2) * 0.9 < third - second < 1.2 + 2 + 2.5, "its deadline, and the wait before a quick retry"
