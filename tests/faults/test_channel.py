"""Trouble of the channel is no event's fault: the channel is held, everybody can see why, and nothing is spent."""

from __future__ import annotations

import itertools
import json
import ssl
from datetime import datetime, timedelta, timezone

import pytest
import trustme

from approval_mail.store import EventStore
from tests.faults.world import World
from tests.rig.programs import Program
from tests.rig.waiting import wait_for

PASSWORD = "correct horse"
#: What servers say of a login, with something after it that is another each time, and the code that `check` explains.
BAD_CREDENTIALS = "535 5.7.8 Username and Password not accepted. For more, see https://mail.example/?p=Bad {}.gsmtp"
BASIC_IS_OFF = "550 5.7.30 Basic authentication is not supported for Client Submission. [{}.PROD.EXAMPLE]"
#: Seconds between probes, by the schedule of these tests and by the product's.
FAST, USUAL = (0.3, 0.6, 1.0), (5, 10, 20, 40, 60)
FASTER = json.dumps({"QUICK_RETRIES": 1, "HOLD_BACKOFF": FAST[0], "HOLD_BACKOFF_MAX": FAST[-1]})


def worker(world: World, schedule: str = FASTER, *, processes: int = 2) -> Program:
    return world.celery("worker", f"--concurrency={processes}", "-I", "tests.faults.schedule", SCHEDULE=schedule)


def refuse_logins(world: World, reply: str) -> None:
    numbers = itertools.count()
    world.smtp.behave()
    world.smtp.on("auth", act=lambda connection: connection.say(reply.format(f"{next(numbers):08x}")))


def log_in_with(world: World, password: str) -> None:
    world.smtp.users = {"me": PASSWORD}
    world.settings |= {"SMTP_USER": "me", "SMTP_PASSWORD": password}


def gaps(moments: list[float]) -> list[float]:
    """Seconds between the probes: logins within a tenth of a second, by several processes, count as one."""
    apart = [after - before for before, after in itertools.pairwise(moments)]
    return [gap for gap in apart if gap > 0.1]


def assert_waits(measured: list[float], planned: tuple[float, ...], *, late: float) -> None:
    """Nothing came sooner than planned, and nothing by more than ``late`` seconds later."""
    for found, wait in zip(measured, planned, strict=False):
        assert wait * 0.9 < found < wait + late, f"waited {measured}, planned {planned}"


def channel(world: World) -> dict[str, str]:
    found: dict[str, str] = json.loads(world.ask("status", "--json").stdout)["channel"]
    return found


def smtp_line(world: World) -> dict[str, str]:
    done = world.ask("check", "--only", "smtp", "--json")
    [line] = json.loads(done.stdout)
    assert done.returncode == (not line["ok"])
    return dict(line)


def attempts(world: World) -> int:
    """How many attempts all mails together have spent."""
    with world.client as client:
        events = [client.hgetall(key) for key in client.scan_iter(match="approval_mail:{store}:event:*")]
    return sum(json.loads(text)["a"] for event in events for name, text in event.items() if name.startswith("mail:"))


def held_lines(program: Program) -> list[str]:
    return [line for line in program.output().splitlines() if "Channel held" in line]


@pytest.mark.fault("535, 550 5.7.30: login refused")
def test_a_refused_login_holds_the_channel_and_spends_nothing(world: World) -> None:
    count = 200 if world.thorough else 40
    log_in_with(world, "wrong")
    world.settings["SMTP_USE_TLS"] = "false"
    refuse_logins(world, BAD_CREDENTIALS)
    sender = worker(world, processes=1)
    world.beat()
    world.tell(count)

    def probed() -> list[float]:
        logins = world.smtp.moments("AUTH")
        return logins if len(gaps(logins)) >= len(FAST) else []

    logins = wait_for(probed, saying="probes")
    assert len(logins) == 1 + len(gaps(logins)), "one login, then one per probe"
    assert_waits(gaps(logins), FAST, late=2)
    wait_for(lambda: world.counts() == {"deferred": count}, saying="all of them deferred")
    assert attempts(world) == 0
    assert len(held_lines(sender)) == 1, "not once per event, batch or probe, whatever words the server has"
    [told] = held_lines(sender)
    assert "ERROR" in told
    assert "auth was refused: 535 5.7.8 Username and Password not accepted" in told
    assert "next step: set SMTP_USER and SMTP_PASSWORD" in told

    seen = channel(world)
    assert datetime.now(timezone.utc) - datetime.fromisoformat(seen["held_since"]) < timedelta(seconds=60)
    assert "535 5.7.8" in seen["reason"]

    refuse_logins(world, BASIC_IS_OFF)
    wait_for(lambda: len(held_lines(sender)) == 2, saying="the other reason told as well")
    line = smtp_line(world)
    assert "auth was refused: 550 5.7.30 Basic authentication is not supported" in line["detail"]
    assert "workers have held the channel since " in line["detail"]
    assert "SMTP_OAUTH_TOKEN_FILE" in line["next_step"]
    assert attempts(world) == 0

    world.smtp.behave()
    world.smtp.users = {"me": "wrong"}  # The server's side is mended.
    world.fault_ends()
    assert world.judge(within=30).sent == count
    drained = world.smtp.mails[-1].at - world.smtp.mails[0].at
    assert drained < 20, "all goes at once, in the order of a backlog, not by waits of its own"
    assert len(held_lines(sender)) == 2
    assert sender.output().count("works again after ") == 1


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.fault("535, 550 5.7.30: login refused")
def test_a_held_channel_is_probed_ever_more_seldom_and_at_least_once_a_minute(world: World) -> None:
    """By the schedule as it is, while further events come in."""
    log_in_with(world, "wrong")
    world.settings["SMTP_USE_TLS"] = "false"
    refuse_logins(world, BASIC_IS_OFF)
    sender = worker(world, "{}")
    world.beat()
    host = world.host(130, per_second=1, types=["approval_requested", "approval_approved"])
    wait_for(lambda: len(gaps(world.smtp.moments("AUTH"))) >= len(USUAL) + 1, seconds=250)
    assert_waits(gaps(world.smtp.moments("AUTH")), (*USUAL, 60), late=6)
    assert host.process.wait(10) == 0
    assert len(held_lines(sender)) == 1
    assert attempts(world) == 0
    world.smtp.behave()
    world.smtp.users = {"me": "wrong"}
    world.fault_ends()
    ledger = world.judge(within=100)
    assert (ledger.sent, ledger.suppressed) == (130, 0)


# --- certificates

AUTHORITY, STRANGER = trustme.CA(), trustme.CA()


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(made)
    return made


def expired() -> trustme.LeafCert:
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    return AUTHORITY.issue_cert("localhost", not_after=yesterday)


#: How the server's TLS can be bad, and what both log and `check` say of it.
BAD_TLS = {
    "expired": (expired, "certificate has expired"),
    "self-signed": (lambda: STRANGER.issue_cert("localhost"), "certificate is not trusted (unable to get local issuer"),
    "wrong name": (lambda: AUTHORITY.issue_cert("mail.example"), "Hostname mismatch"),
    "stripped": (None, "the server offers no STARTTLS, and TLS is required"),
}


@pytest.mark.fault("bad certificate, STARTTLS stripped")
def test_nothing_is_said_to_a_server_that_cannot_be_trusted(world: World) -> None:
    """One bad kind of TLS after the other, in an order left to chance, and then a good one."""
    world.smtp.tls = server_context(expired())
    log_in_with(world, PASSWORD)
    AUTHORITY.cert_pem.write_to_path(world.folder / "ca.pem")
    world.settings |= {
        "SMTP_HOST": "localhost",
        "SMTP_USE_TLS": "true",
        "SMTP_TLS_CA_FILE": str(world.folder / "ca.pem"),
    }
    bad = world.random.sample(sorted(BAD_TLS), len(BAD_TLS))
    sender = None
    for kind in bad:
        issue, says = BAD_TLS[kind]
        world.smtp.starttls = issue is not None
        if issue:
            world.smtp.tls = server_context(issue())
        if sender is None:
            sender = worker(world)
            world.beat()
            world.tell(20 if world.thorough else 3)
        wait_for(lambda: any(says in line for line in held_lines(sender)), saying=f"{kind} told")  # noqa: B023
        line = smtp_line(world)
        assert says in line["detail"]
        assert "workers have held the channel since " in line["detail"]
        assert line["next_step"].startswith("use the server's TLS" if kind == "stripped" else "set SMTP_TLS_CA_FILE")
    with world.client as client:
        seen = EventStore(client).count()
    assert seen.held_since
    assert BAD_TLS[bad[-1]][1] in (seen.held_reason or "")
    assert {command.split()[0].upper() for command in world.smtp.commands} == {"EHLO", "STARTTLS"}
    assert attempts(world) == 0

    world.smtp.starttls, world.smtp.tls = True, server_context(AUTHORITY.issue_cert("localhost"))
    world.fault_ends()
    assert world.judge(within=30).dead == 0
    assert world.smtp.mails
    assert [command for command in world.smtp.commands if command.startswith("AUTH")]


# --- out of reach


@pytest.mark.fault("SMTP refused, 421, 451, greylisting")
@pytest.mark.long
def test_a_server_that_is_gone_and_then_too_busy_holds_the_channel(world: World) -> None:
    """It goes while it is spoken to, refuses at first, says 421 to the retry after 2 s, and is probed until it is well.

    Two attempts are spent: one on the mail that it took, one on the mail with which it went.
    """
    count = 100 if world.thorough else 30
    world.smtp.on("rcpt", "250 ok", times=1)
    world.smtp.on("rcpt", act=lambda _: world.smtp.stop(), times=1)
    sender = worker(world, processes=1)
    world.beat()
    world.tell(count)
    sender.wait_for_line("Channel trouble, try 1")
    world.smtp.on("banner", "421 4.3.2 too busy")
    world.smtp.start()
    sender.wait_for_line("Channel held")
    before = world.smtp.connections
    wait_for(lambda: world.smtp.connections >= before + 2, saying="two probes")
    [told] = held_lines(sender)
    assert "banner was refused: 421 4.3.2 too busy" in told
    assert "connect failed: Connection refused" in sender.output()
    assert attempts(world) == 2
    world.smtp.behave()
    world.fault_ends()
    assert world.judge(within=30).sent == count
