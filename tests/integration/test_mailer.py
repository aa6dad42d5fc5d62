from __future__ import annotations

import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from approval_mail.errors import ChannelTrouble, LeaseLost
from approval_mail.mailer import Channel, Mailer, Reply
from tests.rig.addresses import NAME, silent_addresses
from tests.rig.smtp_server import Connection, SMTPServer
from tests.rig.waiting import wait_for

CONTENT = b"Subject: x\r\nMessage-ID: <1@x>\r\n\r\n.dot\r\n..two\r\nlast\r\n"
TO = "op@example.com"


_made: list[Mailer] = []


@pytest.fixture(autouse=True, params=[True, False], ids=["in-groups", "in-turn"])
def _pipelining(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every server of these tests takes commands in groups, then none does."""
    monkeypatch.setattr(SMTPServer, "pipelining", request.param)


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while _made:
        _made.pop().close()


def mailer(server: SMTPServer, clock: Callable[[], float] = time.monotonic, **changes: Any) -> Mailer:
    given: dict[str, Any] = {
        "host": "localhost",
        "port": server.port,
        "use_tls": None,
        "ca_file": None,
        "user": "",
        "password": "",
        "timeout": 5.0,
        "sender": "AI <ai@example.com>",
    }
    _made.append(Mailer(Channel(**{**given, **changes}), clock=clock))
    return _made[-1]


def send(server: SMTPServer, recipient: str = TO, **changes: Any) -> Reply:
    with mailer(server, **changes).session() as session:
        return session.send(recipient, CONTENT)


def trouble(server: SMTPServer, **changes: Any) -> ChannelTrouble:
    with pytest.raises(ChannelTrouble) as caught:
        send(server, **changes)
    assert server.mails == []
    assert caught.value.next_step
    return caught.value


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(made)
    return made


@pytest.fixture
def tls_server(authority: trustme.CA) -> Iterator[SMTPServer]:
    with SMTPServer(tls=context(authority.issue_cert("localhost")), users={"me": "secret"}) as server:
        yield server


def test_what_arrives_is_what_was_sent(smtp: SMTPServer) -> None:
    reply = send(smtp)
    assert (reply.state, reply.code) == ("sent", 250)
    [mail] = smtp.mails
    assert mail.content == CONTENT
    assert (mail.sender, mail.recipient) == ("ai@example.com", TO)


@pytest.mark.parametrize(
    "content",
    [
        b"a: b\n\nbare\nline feeds\n",
        b"a: b\r\rbare\rreturns",
        b"a: b\r\n\r\n.\r\nMAIL FROM:<evil@example.com>\r\n",
        b"",
    ],
)
def test_no_content_can_end_the_mail_early(smtp: SMTPServer, content: bytes) -> None:
    with mailer(smtp).session() as session:
        assert session.send(TO, content).state == "sent"
        assert session.send(TO, CONTENT).state == "sent"
    assert len(smtp.mails) == 2
    assert not [command for command in smtp.commands if "evil" in command]


def test_commands_go_in_one_group_only_where_the_server_takes_groups(smtp: SMTPServer) -> None:
    together = []

    def look(connection: Connection) -> None:
        # What came with MAIL is there to be read; in turn, nothing more comes before this is answered.
        if SMTPServer.pipelining or select.select([connection.sock], [], [], 0.2)[0]:
            together.append(connection.file.peek().decode())
        connection.say("250 ok")

    smtp.on("mail", act=look)

    assert send(smtp).state == "sent"
    assert together == ([f"RCPT TO:<{TO}>\r\nDATA\r\n"] if SMTPServer.pipelining else [])


@pytest.mark.parametrize("lenient", [False, True], ids=["refuses-DATA", "answers-354"])
@pytest.mark.parametrize("step", ["mail", "rcpt"])
def test_what_is_refused_within_a_group_leaves_nothing_for_the_next_mail(
    smtp: SMTPServer, step: str, lenient: bool
) -> None:
    """A server that lets a refused sender go on is left: even a lone dot would be a mail."""
    smtp.lenient = lenient
    smtp.on(step, "550 5.1.1 no", times=1)

    with mailer(smtp).session() as session:
        refused, sent = session.send("no@example.com", CONTENT), session.send(TO, CONTENT)

    assert (refused.state, refused.code, refused.phase) == ("dead", 550, step)
    left = SMTPServer.pipelining and lenient and step == "mail"
    assert (sent.state, smtp.connections) == ("sent", 2 if left else 1)
    assert [mail.recipient for mail in smtp.mails if mail.content] == [TO]
    assert all(mail.recipient == TO for mail in smtp.mails) or step == "rcpt"


def test_after_a_refusal_a_connection_goes_on_command_by_command(smtp: SMTPServer) -> None:
    """The DATA behind a refused RCPT is one more error, and some servers count those."""
    smtp.on("rcpt", "550 5.1.1 no", recipient="no@example.com")

    with mailer(smtp).session() as session:
        for _ in range(3):
            assert session.send("no@example.com", CONTENT).state == "dead"

    assert smtp.connections == 1
    assert smtp.commands.count("DATA") == (1 if SMTPServer.pipelining else 0)


def test_a_server_that_offers_groups_and_ignores_them_gets_mail_all_the_same(
    smtp: SMTPServer, caplog: pytest.LogCaptureFixture
) -> None:
    def answer_mail_alone(connection: Connection) -> None:
        if SMTPServer.pipelining:
            connection.file.read(len(connection.file.peek()))
        connection.say("250 ok")

    smtp.on("mail", act=answer_mail_alone, times=1)
    sender = mailer(smtp, timeout=0.5)

    with sender.session() as session:
        lost, sent = session.send(TO, CONTENT), session.send(TO, CONTENT)

    assert lost.state == ("failed" if SMTPServer.pipelining else "sent")
    assert sent.state == "sent"
    assert ("one by one" in caplog.text) is SMTPServer.pipelining
    sender.close()
    smtp.commands.clear()
    with sender.session() as session:
        assert session.send(TO, CONTENT).state == "sent"
    assert "mail FROM:<ai@example.com> size=" in smtp.commands[1].replace("SIZE", "size"), "smtplib's own, one by one"


@pytest.mark.parametrize("step", ["mail", "rcpt"])
def test_a_server_that_goes_away_within_a_refused_group_is_left(smtp: SMTPServer, step: str) -> None:
    def refuse_and_go(connection: Connection) -> None:
        connection.say("450 4.2.0 later")
        connection.cut()

    smtp.on(step, act=refuse_and_go, times=1)

    with mailer(smtp).session() as session:
        refused, sent = session.send("no@example.com", CONTENT), session.send(TO, CONTENT)

    assert (refused.state, refused.code, refused.phase) == ("failed", 450, step)
    assert (sent.state, smtp.connections) == ("sent", 2)


def test_several_mails_go_over_one_connection_each_in_its_own_transaction(smtp: SMTPServer) -> None:
    with mailer(smtp).session() as session:
        for n in range(3):
            session.send(f"op{n}@example.com", CONTENT)
    assert smtp.connections == 1
    assert [command.upper() for command in smtp.commands if command.upper().startswith("RCPT")] == [
        f"RCPT TO:<OP{n}@EXAMPLE.COM>" for n in range(3)
    ]


def test_a_connection_is_kept_between_sessions_while_fresh(smtp: SMTPServer) -> None:
    now = [0.0]
    kept = mailer(smtp, clock=lambda: now[0])
    for pause in (0.0, 5.0, 3600.0):
        now[0] += pause
        with kept.session() as session:
            session.send(TO, CONTENT)
    assert len(smtp.mails) == 3
    assert smtp.connections == 2
    kept.close()
    assert smtp.commands[-1] == "QUIT"


def test_a_kept_connection_that_the_server_closed_is_replaced_before_anything_is_sent(smtp: SMTPServer) -> None:
    kept = mailer(smtp)
    with kept.session() as session:
        session.send(TO, CONTENT)
    smtp.on("noop", "421 idle too long", times=1)
    with kept.session() as session:
        assert session.send(TO, CONTENT).state == "sent"
    assert smtp.connections == 2


def test_a_connection_carries_no_more_than_a_hundred_mails(smtp: SMTPServer) -> None:
    with mailer(smtp).session() as session:
        for _ in range(101):
            assert session.send(TO, CONTENT).state == "sent"
    assert smtp.connections == 2


@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "dot"])
@pytest.mark.parametrize(("reply", "state"), [("550 5.1.1 no", "dead"), ("451 4.7.1 later", "failed")])
def test_a_refusal_is_classified_with_its_phase_and_spares_the_next_mail(
    smtp: SMTPServer, step: str, reply: str, state: str
) -> None:
    smtp.on(step, reply, times=1)
    with mailer(smtp).session() as session:
        refused = session.send(TO, CONTENT)
        assert (refused.state, refused.code, refused.phase) == (state, int(reply[:3]), step)
        assert refused.reason == reply
        assert session.send(TO, CONTENT).state == "sent"
    assert smtp.connections == 1


def test_after_421_the_next_mail_takes_a_new_connection(smtp: SMTPServer) -> None:
    smtp.on("rcpt", "421 shutting down", times=1)
    with mailer(smtp).session() as session:
        assert session.send(TO, CONTENT).state == "failed"
        assert session.send(TO, CONTENT).state == "sent"
    assert smtp.connections == 2


@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "content"])
def test_a_reset_before_the_final_dot_is_known_not_to_be_accepted(smtp: SMTPServer, step: str) -> None:
    smtp.on(step, act=Connection.reset, times=1)
    # More than the sockets hold, so that the client is still at it when the reset comes.
    content = CONTENT + b"line\r\n" * 4_000_000 if step == "content" else CONTENT
    with mailer(smtp).session() as session:
        assert session.send(TO, content).state == "failed"
    assert smtp.mails == []


@pytest.mark.parametrize("reply", ["", "552 5.3.4 too big"])
def test_a_server_that_ends_it_before_the_final_dot_has_not_accepted(smtp: SMTPServer, reply: str) -> None:
    def end_early(connection: Connection) -> None:
        if reply:
            connection.say(f"354 go ahead\r\n{reply}")
        else:
            # The end travels with the reply, so that the client cannot be done before it.
            connection.sock.sendall(b"354 go ahead\r\n", getattr(socket, "MSG_MORE", 0))
            connection.cut()

    smtp.on("data", act=end_early, times=1)
    found = send(smtp)
    assert (found.state, found.phase) == ("dead" if reply else "failed", "content")


def garbage(connection: Connection) -> None:
    connection.say("\x00\x01 what?")


@pytest.mark.parametrize("act", [Connection.reset, Connection.cut, garbage])
def test_after_the_final_dot_a_lost_reply_is_an_unknown_outcome(
    smtp: SMTPServer, act: Callable[[Connection], None]
) -> None:
    smtp.on("dot", act=act, times=1)
    reply = send(smtp)
    assert (reply.state, reply.phase, reply.code) == ("unknown", "dot", None)
    assert len(smtp.mails) == 1


@pytest.mark.parametrize("reply", ["421 bye", ""])
def test_a_failing_quit_takes_no_acceptance_back(smtp: SMTPServer, reply: str) -> None:
    smtp.on("quit", reply, act=None if reply else Connection.reset)
    kept = mailer(smtp)
    with kept.session() as session:
        assert session.send(TO, CONTENT).state == "sent"
    kept.close()


def drip(connection: Connection) -> None:
    for byte in b"250-never ending " * 10:
        connection.sock.sendall(bytes([byte]))
        time.sleep(0.05)


def test_a_server_that_drips_meets_the_total_deadline(smtp: SMTPServer) -> None:
    smtp.on("rcpt", act=drip, times=1)
    started = time.monotonic()
    reply = send(smtp, timeout=0.3)
    assert (reply.state, reply.phase) == ("failed", "rcpt")
    assert reply.reason == "no reply within 0.3 s"
    assert time.monotonic() - started < 2


def test_a_reply_without_end_is_cut_off_before_it_fills_the_memory(smtp: SMTPServer) -> None:
    def flood(connection: Connection) -> None:
        for _ in range(10_000):
            connection.say("250-never ending " + "x" * 400)

    smtp.on("rcpt", act=flood, times=1)
    reply = send(smtp)
    assert (reply.state, reply.phase, reply.reason) == ("failed", "rcpt", "the server's reply has no end")


def test_a_server_that_never_greets_is_channel_trouble(smtp: SMTPServer) -> None:
    smtp.on("banner", act=lambda _: time.sleep(1))
    found = trouble(smtp, timeout=0.2)
    assert (found.phase, found.permanent) == ("banner", False)


def test_a_refused_connection_is_channel_trouble_that_may_pass(smtp: SMTPServer) -> None:
    smtp.stop()
    found = trouble(smtp)
    assert (found.phase, found.code, found.permanent) == ("connect", None, False)
    assert "Connection refused" in found.reason


def test_an_unknown_host_is_channel_trouble(smtp: SMTPServer) -> None:
    assert trouble(smtp, host="no-such-host.invalid").phase == "connect"


@pytest.mark.parametrize(("reply", "permanent"), [("421 too many", False), ("554 go away", True)])
def test_a_refusing_banner_is_channel_trouble(smtp: SMTPServer, reply: str, permanent: bool) -> None:
    smtp.on("banner", reply)
    found = trouble(smtp)
    assert (found.phase, found.code, found.permanent) == ("banner", int(reply[:3]), permanent)


def test_a_server_without_ehlo_is_greeted_with_helo(smtp: SMTPServer) -> None:
    smtp.on("ehlo", "502 what?")
    assert send(smtp).state == "sent"


def test_tls_is_used_when_offered_and_verified(tls_server: SMTPServer, ca_file: Path) -> None:
    assert send(tls_server, ca_file=ca_file).state == "sent"
    assert "STARTTLS" in tls_server.commands


def test_a_replaced_ca_file_holds_from_the_next_connection_on(tls_server: SMTPServer, ca_file: Path) -> None:
    good = ca_file.read_bytes()
    assert send(tls_server, ca_file=ca_file).state == "sent"
    at = ca_file.stat().st_mtime_ns
    trustme.CA().cert_pem.write_to_path(ca_file)
    os.utime(ca_file, ns=(at, at))
    with pytest.raises(ChannelTrouble, match="not trusted"):
        send(tls_server, ca_file=ca_file)
    ca_file.write_bytes(good)

    assert send(tls_server, ca_file=ca_file).state == "sent"


def test_a_login_is_made_over_tls(tls_server: SMTPServer, ca_file: Path) -> None:
    assert send(tls_server, ca_file=ca_file, user="me", password="secret").state == "sent"


def test_implicit_tls_is_spoken_from_the_first_byte(
    authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SMTPServer(tls=context(authority.issue_cert("localhost")), implicit_tls=True) as server:
        monkeypatch.setattr("approval_mail.mailer.channel._IMPLICIT_TLS_PORT", server.port)
        assert send(server, ca_file=ca_file).state == "sent"
        assert "STARTTLS" not in server.commands


def self_signed(authority: trustme.CA) -> trustme.LeafCert:
    return trustme.CA().issue_cert("localhost")


def wrong_name(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert("other.example.com")


def expired(authority: trustme.CA) -> trustme.LeafCert:
    from datetime import datetime, timezone

    return authority.issue_cert("localhost", not_after=datetime(2020, 1, 1, tzinfo=timezone.utc))


@pytest.mark.parametrize("issue", [self_signed, wrong_name, expired])
@pytest.mark.parametrize("use_tls", [None, True])
def test_an_untrusted_certificate_stops_everything_before_the_login(
    authority: trustme.CA, ca_file: Path, issue: Callable[[trustme.CA], trustme.LeafCert], use_tls: bool | None
) -> None:
    with SMTPServer(tls=context(issue(authority)), users={"me": "secret"}) as server:
        found = trouble(server, ca_file=ca_file, use_tls=use_tls, user="me", password="secret")
        assert (found.phase, found.permanent) == ("tls", True)
        assert "certificate" in found.reason
        assert "SMTP_TLS_CA_FILE" in found.next_step
        assert not [command for command in server.commands if command.startswith("AUTH")]


def test_required_tls_that_is_not_offered_stops_everything(tls_server: SMTPServer) -> None:
    tls_server.starttls = False
    found = trouble(tls_server, use_tls=True, user="me", password="secret")
    assert (found.phase, found.permanent) == ("starttls", True)
    assert not [command for command in tls_server.commands if command.startswith("AUTH")]


def test_credentials_do_not_travel_in_the_clear_unless_tls_is_switched_off(tls_server: SMTPServer) -> None:
    tls_server.starttls = False
    found = trouble(tls_server, user="me", password="secret")
    assert (found.phase, found.permanent) == ("auth", True)
    assert not [command for command in tls_server.commands if command.startswith("AUTH")]
    assert send(tls_server, use_tls=False, user="me", password="secret").state == "sent"


@pytest.mark.parametrize(
    ("reply", "permanent"),
    [
        ("535 5.7.8 Username and Password not accepted", True),
        ("550 5.7.30 Basic authentication is not supported", True),
        ("454 4.7.0 Temporary authentication failure", False),
    ],
)
def test_a_refused_login_is_channel_trouble(tls_server: SMTPServer, ca_file: Path, reply: str, permanent: bool) -> None:
    tls_server.on("auth", reply)
    found = trouble(tls_server, ca_file=ca_file, user="me", password="wrong")
    assert (found.phase, found.code, found.permanent) == ("auth", int(reply[:3]), permanent)
    assert reply[4:] in found.reason
    assert "SMTP_USER" in found.next_step
    assert "wrong" not in found.reason


def test_a_server_that_wants_a_login_is_channel_trouble_not_a_dead_mail(smtp: SMTPServer) -> None:
    smtp.on("mail", "530 5.7.0 Authentication required")
    assert trouble(smtp).code == 530
    smtp.behave()
    smtp.on("mail", "530 5.7.0 Must issue a STARTTLS command first")
    assert trouble(smtp, use_tls=False).next_step.startswith("set SMTP_USE_TLS=true")


def test_a_login_reply_that_cannot_be_decoded_is_channel_trouble(tls_server: SMTPServer, ca_file: Path) -> None:
    tls_server.on("ehlo", "250-test\r\n250-STARTTLS\r\n250 AUTH LOGIN")
    tls_server.on("auth", "334 !!!notb64")
    assert trouble(tls_server, ca_file=ca_file, user="me", password="x").phase == "auth"


@pytest.mark.parametrize("step", ["mail", "rcpt", "data"])
def test_a_login_asked_for_late_is_channel_trouble(smtp: SMTPServer, step: str) -> None:
    smtp.on(step, "530 5.7.0 Authentication required")
    assert trouble(smtp).phase == step


def test_a_login_where_none_is_offered_is_channel_trouble(smtp: SMTPServer) -> None:
    assert trouble(smtp, use_tls=False, user="me", password="x").phase == "auth"


def test_a_bad_ca_file_is_channel_trouble(smtp: SMTPServer, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    assert "SMTP_TLS_CA_FILE" in trouble(smtp, ca_file=bad).reason


@pytest.mark.parametrize("step", [2, 3])
def test_a_lease_lost_while_connecting_leaves_no_connection_open(smtp: SMTPServer, step: int) -> None:
    steps = []

    def lose_it() -> None:
        steps.append(1)
        if len(steps) == step:
            raise LeaseLost("token")

    with pytest.raises(LeaseLost) as held, mailer(smtp).session(lose_it):
        pass
    # The error's traceback still holds the connection: it has to be closed, not only forgotten.
    wait_for(lambda: smtp.connections == 1 and not smtp.open_connections())
    assert held.value


@pytest.mark.parametrize("step", range(4, 9))  # After connect, banner and ehlo, and no later than the final dot.
def test_the_lease_is_looked_at_before_every_step_and_ends_the_session_when_lost(smtp: SMTPServer, step: int) -> None:
    steps = []

    def lose_it() -> None:
        steps.append(1)
        if len(steps) == step:
            raise LeaseLost("token")

    with pytest.raises(LeaseLost), mailer(smtp).session(lose_it) as session:
        session.send(TO, CONTENT)
    assert len(steps) == step
    wait_for(lambda: not smtp.open_connections())
    assert smtp.mails == []
    if step <= (4 if SMTPServer.pipelining else 6):  # In a group, DATA goes with MAIL.
        assert "DATA" not in smtp.commands


def test_a_server_is_reached_though_its_first_addresses_are_silent(
    smtp: SMTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent_addresses(monkeypatch, 2, last=smtp.port):
        assert send(smtp, host=NAME, timeout=1.0).code == 250
