"""XOAUTH2 logins on a real socket: where the token comes from, what a refusal means, and who sees the token."""

from __future__ import annotations

import base64
import json
import logging
import os
import shlex
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from approval_mail import services
from approval_mail.errors import ChannelTrouble, LeaseLost
from approval_mail.mailer import Mailer, Reply
from approval_mail.settings import Settings
from approval_mail.store import EventStore
from tests.integration import test_mailer
from tests.integration.test_delivery import Rig
from tests.integration.test_mailer import CONTENT, TO, _close, context  # noqa: F401 - a fixture for every test
from tests.integration.test_store import event, record, states
from tests.rig.smtp_server import Connection, SMTPServer
from tests.rig.waiting import wait_for

#: As Google's begin, with every kind of character that a token may have.
TOKEN = "ya29.Vf9-dft_4qm~TcN/vb3+lckBhd=="

#: A login in the clear, unless a test says otherwise.
LOGIN = {"use_tls": False, "user": "me@example.com"}


@pytest.fixture
def server() -> Iterator[SMTPServer]:
    with SMTPServer(tokens={"me@example.com": TOKEN}) as made:
        yield made


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"\n  {TOKEN}\r\n")
    return path


def mailer(server: SMTPServer, **changes: Any) -> Mailer:
    return test_mailer.mailer(server, **{**LOGIN, **changes})


def send(server: SMTPServer, **changes: Any) -> Reply:
    return test_mailer.send(server, **{**LOGIN, **changes})


def trouble(server: SMTPServer, **changes: Any) -> ChannelTrouble:
    return test_mailer.trouble(server, **{**LOGIN, **changes})


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


def logins(server: SMTPServer) -> list[str]:
    return [command for command in server.commands if command.startswith("AUTH")]


# Where the token comes from


def test_a_token_is_read_from_its_file(server: SMTPServer, token_file: Path) -> None:
    assert send(server, token_file=token_file).state == "sent"


def test_a_token_is_what_the_command_prints(server: SMTPServer, token_file: Path) -> None:
    assert send(server, token_command=("cat", str(token_file))).state == "sent"


def test_a_command_is_run_without_a_shell(server: SMTPServer) -> None:
    assert trouble(server, token_command=("echo", f"{TOKEN};", "true")).phase == "auth"
    assert send(server, token_command=("printf", "%s", TOKEN)).state == "sent"


@pytest.mark.parametrize("source", ["file", "command"])
def test_a_token_is_read_anew_at_each_login(server: SMTPServer, token_file: Path, source: str) -> None:
    now = [0.0]
    reading = {"token_file": token_file} if source == "file" else {"token_command": ("cat", str(token_file))}
    kept = mailer(server, clock=lambda: now[0], **reading)
    for token in ("first", "second", "third"):
        server.tokens["me@example.com"] = token
        token_file.write_text(token)
        now[0] += 3600  # The connection of before is not used again.
        with kept.session() as session:
            assert session.send(TO, CONTENT).state == "sent"
    assert len(logins(server)) == 3


def test_the_settings_reach_the_login(server: SMTPServer, token_file: Path, tmp_path: Path) -> None:
    environ = {
        "SMTP_HOST": "localhost",
        "SMTP_PORT": str(server.port),
        "SMTP_USE_TLS": "false",
        "SMTP_USER": "me@example.com",
    }
    for source in (
        {"SMTP_OAUTH_TOKEN_FILE": str(token_file)},
        {"SMTP_OAUTH_TOKEN_COMMAND": f"cat {shlex.quote(str(token_file))}"},
    ):
        services.configure(Settings.load({**environ, **source}, tmp_path).require())
        with services.mailer().session() as session:
            assert session.send(TO, CONTENT).state == "sent"
        services.mailer().close()
    assert len(logins(server)) == 2


# What a refusal means


def test_a_refused_token_is_channel_trouble_after_the_servers_explanation(server: SMTPServer, token_file: Path) -> None:
    token_file.write_text("expired")
    found = trouble(server, token_file=token_file)
    assert (found.phase, found.code, found.permanent) == ("auth", 535, True)
    assert "5.7.8 Username and Password not accepted" in found.reason
    assert found.next_step.startswith("let SMTP_OAUTH_TOKEN_FILE give a token that has not expired")
    assert server.commands[-2:] == [logins(server)[0], ""], "the explanation is answered by an empty line"


def test_a_server_that_explains_and_then_hangs_meets_the_total_deadline(server: SMTPServer, token_file: Path) -> None:
    token_file.write_text("expired")
    server.on("auth", act=lambda _: time.sleep(3))
    started = time.monotonic()
    assert "no reply within 0.5 s" in trouble(server, token_file=token_file, timeout=0.5).reason
    assert time.monotonic() - started < 2.5


def test_an_expired_token_holds_the_channel_until_the_file_is_refreshed(
    store: EventStore, server: SMTPServer, client: redis.Redis, token_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token_file.write_text("expired")
    rig = Rig(store, server, None, use_tls=False, user="me@example.com", password="", token_file=token_file)
    for n in range(5):
        record(store, event(f"r{n}"))
    rig.send()
    assert states(store) == {"deferred": 5}
    assert "535" in (store.count().held_reason or "")
    assert caplog.text.count("Channel held") == 1

    token_file.write_text(TOKEN)
    client.hset("approval_mail:{store}:channel", "probe", 1)
    pending = "approval_mail:{store}:pending"
    client.zadd(pending, dict.fromkeys(client.zrange(pending, 0, -1), 1))
    assert rig.send()["sent"] == 5
    assert store.count().held_since is None
    rig.mailer.close()


@pytest.mark.parametrize(("users", "offers"), [({"me": "secret"}, "PLAIN LOGIN"), ({}, "no login")])
def test_a_server_that_takes_no_tokens_is_told_by_what_it_offers(
    server: SMTPServer, tmp_path: Path, users: dict[str, str], offers: str
) -> None:
    server.tokens, server.users = {}, users
    found = trouble(server, token_command=("touch", str(tmp_path / "ran")))
    assert (found.phase, found.permanent) == ("auth", True)
    assert f"it offers {offers}, not XOAUTH2" in found.reason
    assert not (tmp_path / "ran").exists(), "the command is not run in vain"


def test_a_password_where_only_tokens_are_taken_is_told_so(server: SMTPServer) -> None:
    found = trouble(server, password="secret")
    assert "the server offers XOAUTH2" in found.reason
    assert "SMTP_OAUTH_TOKEN_FILE" in found.next_step


#: Reply, what the next step says with a password, and with a token.
REFUSALS = [
    ("535 5.7.8 Username and Password not accepted", "app password", "not expired"),
    ("535 5.7.3 Authentication unsuccessful", "SMTP_USER and SMTP_PASSWORD", "SMTP.Send"),
    ("534 5.7.9 Application-specific password required", "set SMTP_PASSWORD to an app password", "not expired"),
    (
        "550 5.7.30 Basic authentication is not supported for Client Submission.",
        "SMTP_OAUTH_TOKEN_FILE or SMTP_OAUTH_TOKEN_COMMAND in place of SMTP_PASSWORD",
        "not expired",
    ),
    (
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.",
        "SMTP_OAUTH_TOKEN_COMMAND in place of SMTP_PASSWORD",
        "enable Authenticated SMTP",
    ),
    ("530 5.7.57 Client not authenticated to send mail", "set SMTP_USER", "not expired"),
    ("454 4.7.0 Temporary authentication failure", "SMTP_USER", "not expired"),
]


@pytest.mark.parametrize(("reply", "with_password", "with_token"), REFUSALS)
def test_each_refused_login_has_its_next_step(
    server: SMTPServer, token_file: Path, reply: str, with_password: str, with_token: str
) -> None:
    server.users["me@example.com"] = "secret"
    server.on("auth", reply)
    for changes, says in ({"password": "secret"}, with_password), ({"token_file": token_file}, with_token):
        found = trouble(server, **changes)
        assert (found.phase, found.code, found.permanent) == ("auth", int(reply[:3]), reply.startswith("5"))
        assert reply[4:] in found.reason
        assert says in found.next_step


DISGUISED = [
    "550 5.7.30 Basic authentication is not supported for Client Submission.",
    "550 5.7.139 Authentication unsuccessful",
    "550 5.7.57 Client was not authenticated to send anonymous mail during MAIL FROM",
]


@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "dot"])
@pytest.mark.parametrize("reply", DISGUISED)
def test_a_refused_login_in_a_mails_disguise_is_channel_trouble(
    server: SMTPServer, token_file: Path, step: str, reply: str
) -> None:
    server.on(step, reply)
    found = trouble(server, token_file=token_file)
    assert (found.phase, found.code, found.permanent) == (step, 550, True)


def test_a_login_switched_off_between_two_mails_spends_no_attempt_and_buries_nothing(
    store: EventStore, smtp: SMTPServer, client: redis.Redis
) -> None:
    smtp.users["me"] = "secret"
    rig = Rig(store, smtp, None, use_tls=False, user="me", password="secret")
    for n in range(5):
        record(store, event(f"r{n}"))
    smtp.on("mail", "250 ok", times=2)
    smtp.on("mail", DISGUISED[0])
    assert rig.send() == {"sent": 2, "deferred": 3, "dead": 0, "suppressed": 0}
    counts = store.count()
    assert "550 5.7.30" in (counts.held_reason or "")
    for event_id in client.zrange("approval_mail:{store}:pending", 0, -1):
        kept = client.hgetall(f"approval_mail:{{store}}:event:{event_id}")
        assert (int(kept.get("rounds", 0)), json.loads(kept["mail:op@example.com"])["a"]) == (0, 0)
    rig.mailer.close()


def test_a_probe_tells_a_refused_login_from_a_refused_recipient(server: SMTPServer, token_file: Path) -> None:
    server.on("rcpt", "550 5.1.1 no such user", recipient="typo@example.com", times=1)
    server.on("rcpt", DISGUISED[0], recipient=TO)
    with mailer(server, token_file=token_file).session() as session:
        assert list(session.probe(["typo@example.com"])) == ["typo@example.com"]
        with pytest.raises(ChannelTrouble) as caught:
            session.probe([TO])
    assert caught.value.phase == "rcpt"


@pytest.mark.parametrize(
    ("step", "reply"),
    [
        ("dot", "554 5.7.9 Message not accepted for policy reasons"),
        ("rcpt", "550 5.7.8 User unknown in local recipient table"),
        ("dot", "535 5.7.1 looks like spam"),
        ("rcpt", "550 no such user, and see 5.7.57"),
    ],
)
def test_a_filter_that_borrows_a_logins_code_refuses_only_the_mail(
    server: SMTPServer, token_file: Path, step: str, reply: str
) -> None:
    server.on(step, reply)
    assert send(server, token_file=token_file).state == "dead"


# What goes wrong with the token's source


@pytest.mark.parametrize(
    ("content", "says", "permanent"),
    [
        (None, "cannot be read: No such file or directory", False),
        (b"", "is empty", False),
        (b" \r\n", "is empty", False),
        (b"two words", "holds no access token", True),
        (b'{"access_token":"abc"}', "holds no access token", True),
        ("t\u00f6ken".encode(), "holds no access token", True),
        (b"tok\x01auth=Bearer\x01en", "holds no access token", True),
        (b"x" * 20_000, "holds no access token", True),
    ],
)
def test_a_file_without_a_token_is_channel_trouble(
    server: SMTPServer, tmp_path: Path, content: bytes | None, says: str, permanent: bool
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    found = trouble(server, token_file=path)
    assert (found.phase, found.code, found.permanent) == ("auth", None, permanent)
    assert f"SMTP_OAUTH_TOKEN_FILE={path} {says}" in found.reason
    assert logins(server) == []


def test_a_folder_in_the_files_place_is_channel_trouble(server: SMTPServer, tmp_path: Path) -> None:
    found = trouble(server, token_file=tmp_path)
    assert found.permanent
    assert "cannot be read: Is a directory" in found.reason


@pytest.mark.parametrize(
    ("command", "says", "permanent"),
    [
        (shell(f"echo {TOKEN}; exit 3"), "failed with exit status 3", False),
        (shell("kill -9 $$"), "was ended by signal 9", False),
        (("true",), "printed nothing", False),
        (("echo", "two", "words"), "printed something that is no access token", True),
        (("echo", '{"access_token":"abc"}'), "printed something that is no access token", True),
        (("printf", "t\\303\\266ken"), "printed something that is no access token", True),
        (("yes",), "printed something that is no access token", True),
        (("/no/such/program",), "cannot be started: No such file or directory", True),
        (("/",), "cannot be started: Permission denied", True),
    ],
)
def test_a_command_without_a_token_is_channel_trouble(
    server: SMTPServer, command: tuple[str, ...], says: str, permanent: bool
) -> None:
    found = trouble(server, token_command=command)
    assert (found.phase, found.code, found.permanent) == ("auth", None, permanent)
    assert f"SMTP_OAUTH_TOKEN_COMMAND {says}" in found.reason
    assert logins(server) == []


@pytest.mark.parametrize(
    "script",
    [
        "echo started > {fifo}; sleep 60",
        "exec > /dev/null; echo started > {fifo}; sleep 60",
        "sleep 60 & echo started > {fifo}; echo token",
    ],
)
def test_a_slow_command_is_killed_with_its_children(server: SMTPServer, tmp_path: Path, script: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # Whatever of the command lives holds the pipe open, so that its end tells that none does.
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    started = time.monotonic()
    found = trouble(server, token_command=shell(f"exec 3> {fifo}; " + script.format(fifo=fifo)), timeout=2)
    assert time.monotonic() - started < 30
    assert "SMTP_OAUTH_TOKEN_COMMAND did not end within 2 s" in found.reason
    assert not found.permanent
    assert os.read(reader, 100) == b"started\n"
    assert wait_for(lambda: _at_its_end(reader))
    os.close(reader)


def _at_its_end(reader: int) -> bool:
    try:
        return os.read(reader, 100) == b""
    except BlockingIOError:
        return False


# Time, and who sees the token


def test_the_lease_is_looked_at_before_the_command_and_again_before_the_login(
    server: SMTPServer, token_file: Path, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    seen: list[tuple[bool, int]] = []
    command = shell(f"touch {ran}; cat {token_file}")
    with mailer(server, token_command=command).session(lambda: seen.append((ran.exists(), len(logins(server))))):
        pass
    # connect, banner, ehlo, token, login
    assert seen == [(False, 0)] * 4 + [(True, 0)]


def test_a_lost_lease_runs_no_command(server: SMTPServer, tmp_path: Path) -> None:
    steps = []

    def lose_it() -> None:
        steps.append(1)
        if len(steps) == 4:
            raise LeaseLost("token")

    command = ("touch", str(tmp_path / "ran"))
    with pytest.raises(LeaseLost), mailer(server, token_command=command).session(lose_it):
        pass
    assert not (tmp_path / "ran").exists()


def test_a_token_does_not_travel_in_the_clear(tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("localhost")
    with SMTPServer(tls=context(certificate), starttls=False, tokens={"me@example.com": TOKEN}) as server:
        found = trouble(server, use_tls=None, token_command=("touch", str(tmp_path / "ran")))
        assert (found.phase, found.permanent) == ("auth", True)
        assert "SMTP_OAUTH_TOKEN_COMMAND" in found.next_step
        assert logins(server) == []
        assert not (tmp_path / "ran").exists()


def test_a_token_travels_over_tls(tmp_path: Path, token_file: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with SMTPServer(tls=context(authority.issue_cert("localhost")), tokens={"me@example.com": TOKEN}) as server:
        assert send(server, use_tls=None, ca_file=tmp_path / "ca.pem", token_file=token_file).state == "sent"


@pytest.mark.parametrize("cut", [None, 60])
@pytest.mark.parametrize("source", ["token_file", "token_command", "password"])
def test_a_server_that_repeats_the_login_does_not_spread_the_secret(
    server: SMTPServer, token_file: Path, caplog: pytest.LogCaptureFixture, source: str, cut: int | None
) -> None:
    caplog.set_level(logging.DEBUG)

    def repeat(connection: Connection) -> None:
        line = server.commands[-1]
        said = base64.b64decode(line.split(" ")[2]).decode()
        connection.say(f'500-5.5.1 Command unrecognized: "{line[:cut]}..."')
        connection.say(f"500 5.5.1 {said}")

    server.users["me@example.com"] = TOKEN
    server.on("auth", act=repeat)
    given = {"token_file": token_file, "token_command": ("cat", str(token_file)), "password": TOKEN}
    used = mailer(server, **{source: given[source]})
    with pytest.raises(ChannelTrouble) as caught, used.session():
        pass
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(used.channel) + caplog.text
    assert "Command unrecognized" in caught.value.reason
    assert TOKEN not in shown
    assert "Vf9-dft" not in shown
    assert logins(server)[0].split(" ")[2][:20] not in shown


def test_what_a_command_writes_or_is_given_is_not_shown(server: SMTPServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for ending in ("exit 1", "sleep 60", "exec >&-; sleep 60", "echo and more"):
        used = mailer(server, token_command=shell(f"echo {TOKEN}; echo {TOKEN} >&2; {ending}"), timeout=0.5)
        with pytest.raises(ChannelTrouble) as caught, used.session():
            pass
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(used.channel)
        assert TOKEN not in shown + caught.value.next_step + caplog.text


def test_what_a_command_says_on_standard_error_does_not_reach_our_own(
    server: SMTPServer, capfd: pytest.CaptureFixture[str]
) -> None:
    trouble(server, token_command=shell(f"echo {TOKEN} >&2; exit 1"))
    assert TOKEN not in "".join(capfd.readouterr())


@pytest.mark.parametrize("password", ["Hunter2!SECRET", "SECRET#a@b", "S3cret"])
@pytest.mark.parametrize("form", ["password={}", "token={}", "<{}>", "PLAIN/{}", "{}."])
def test_a_password_is_masked_in_whatever_form_a_server_repeats_it(
    server: SMTPServer, password: str, form: str
) -> None:
    server.users["me@example.com"] = password
    server.on("auth", f"535 5.7.8 refused: {form.format(password)}")
    found = trouble(server, password=password)
    assert "535 5.7.8 refused" in found.reason
    assert password not in found.reason
    assert "SECRET" not in found.reason


def test_a_pipe_in_the_files_place_is_not_waited_for(server: SMTPServer, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    found = trouble(server, token_file=tmp_path / "pipe")
    assert "cannot be read: it is a pipe" in found.reason
