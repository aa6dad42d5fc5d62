"""Each error that the guides explain, provoked: what a person then sees is what they find there.

A test's name is short for the error, and its `explained` holds the guides' text of it, in which ``...`` stands for
anything.
"""

from __future__ import annotations

import functools
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from approval_mail.spool_room import MAX_BYTES
from tests.conftest import environment
from tests.rig.guide import pattern, read
from tests.rig.leases import let_leases_run_out
from tests.rig.programs import Program
from tests.rig.redis_server import RedisServer, free_port
from tests.rig.smtp_server import SMTPServer

DOCS = Path(__file__).parents[2] / "docs"
PROGRAM = str(Path(sys.executable).with_name("approval-mail"))
PERSON = ("user_id=kim", "tool_name=git_commit")
EVENT = ("approval_requested", "request_id=abc12345", *PERSON)

#: What the guides have to explain, by the test that provokes it.
EXPLAINED: dict[str, str] = {}


def explained(text: str) -> Callable[[Callable[..., str]], Callable[..., None]]:
    """A test that what the decorated function answers, all that was printed and logged, shows the guides' text."""

    def decorate(provoke: Callable[..., str]) -> Callable[..., None]:
        EXPLAINED[provoke.__name__] = text

        @functools.wraps(provoke)
        def test(**fixtures: object) -> None:
            printed = provoke(**fixtures)
            assert any(pattern(text).search(line) for line in printed.splitlines()), f"no {text!r} in:\n{printed}"

        return test

    return decorate


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_guides_explain_these_errors_and_no_others(language: str) -> None:
    found = [error for path in sorted(DOCS.glob(f"*.{language}.md")) for error in read(path).errors()]
    assert [error for error in found if error not in EXPLAINED.values()] == [], "no test provokes these"
    assert [error for error in EXPLAINED.values() if found.count(error) != 1] == [], "not explained, or twice"


@dataclass(frozen=True, slots=True)
class Operator:
    """Someone at a terminal."""

    settings: dict[str, str]
    folder: Path

    def run(self, *arguments: str, **changes: str) -> str:
        """Run ``approval-mail``; answers all that it printed."""
        return subprocess.run(
            [PROGRAM, *arguments],
            cwd=self.folder,
            env={**self.settings, **changes},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        ).stdout

    def check(self, name: str, **changes: str) -> str:
        return self.run("check", "--only", name, **changes)

    def emit(self, event_type: str, request_id: str, *fields: str) -> None:
        assert self.run("emit", event_type, f"request_id={request_id}", *PERSON, *fields).endswith("accepted\n")


@pytest.fixture
def operator(settings: dict[str, str], tmp_path: Path) -> Operator:
    return Operator(settings, tmp_path)


@pytest.fixture
def nowhere() -> str:
    """The URL of a Redis that is not running."""
    return f"redis://127.0.0.1:{free_port()}/0"


def configure(server: RedisServer, name: str, value: str) -> None:
    with server.client as client:
        client.config_set(name, value)


@explained("nothing was recorded: set NOTIFICATION_ENABLED=true")
def test_disabled(operator: Operator) -> str:
    return operator.run("emit", *EVENT, NOTIFICATION_ENABLED="")


@explained("none consumes the queue approval_mail")
def test_no_worker(operator: Operator) -> str:
    return operator.check("worker")


@explained("no gather of beat's was ever run")
def test_no_beat(operator: Operator) -> str:
    return operator.check("beat")


@explained("Redis cannot be used (Error ... connecting to ... Connection refused.)")
def test_redis_not_running(operator: Operator, nowhere: str) -> str:
    return operator.run("status", REDIS_URL=nowhere)


@explained("Redis cannot be used (HELLO must be called with the client already authenticated...")
def test_redis_wants_a_password(operator: Operator, own_redis: RedisServer) -> str:
    configure(own_redis, "requirepass", "secret")
    return operator.run("status", REDIS_URL=own_redis.url)


@explained("Redis cannot be used (invalid username-password pair...")
def test_redis_wants_another_password(operator: Operator, own_redis: RedisServer) -> str:
    configure(own_redis, "requirepass", "secret")
    return operator.run("status", REDIS_URL=own_redis.url.replace("//", "//:wrong@"))


@explained("evicts keys when its memory is full (maxmemory-policy ...)")
def test_redis_evicts(operator: Operator, own_redis: RedisServer) -> str:
    configure(own_redis, "maxmemory", "100mb")
    configure(own_redis, "maxmemory-policy", "allkeys-lru")
    return operator.check("redis", REDIS_URL=own_redis.url)


@explained("events are spooled in ...")
def test_spooled(operator: Operator, nowhere: str) -> str:
    printed = operator.run("emit", *EVENT, REDIS_URL=nowhere)
    assert printed.endswith("spooled\n")
    assert "spooled         1  (bring them in: approval-mail spool replay)" in operator.run("status")
    assert operator.run("spool", "replay").endswith("replayed 1, left 0\n")
    return printed


@explained("Event lost: ...: the spool ... cannot be written: ...; free the disk or set NOTIFICATION_SPOOL_DIR")
def test_spool_cannot_be_written(operator: Operator, nowhere: str) -> str:
    printed = operator.run("emit", *EVENT, REDIS_URL=nowhere, NOTIFICATION_SPOOL_DIR="/dev/null/spool")
    assert printed.endswith("refused\n")
    return printed


@explained("Event lost: ...: the spool ... is full: ...; mend Redis: ...")
def test_spool_is_full(operator: Operator, nowhere: str) -> str:
    large = Path(operator.settings["NOTIFICATION_SPOOL_DIR"]) / "core"
    large.parent.mkdir(parents=True, exist_ok=True)
    large.touch()
    os.truncate(large, MAX_BYTES)
    printed = operator.run("emit", *EVENT, REDIS_URL=nowhere)
    assert printed.endswith("refused\n")
    return printed


@explained("connect failed: Connection refused")
def test_smtp_refuses(operator: Operator) -> str:
    return operator.check("smtp", SMTP_PORT=str(free_port()))


@explained("connect failed: ... not known")
def test_smtp_host_without_an_address(operator: Operator) -> str:
    try:
        socket.getaddrinfo("mailhog.invalid", 1025)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            pytest.skip("no name server answers here")
    return operator.check("smtp", SMTP_HOST="mailhog.invalid")


@explained("the server offers no STARTTLS, and TLS is required")
def test_smtp_without_tls(operator: Operator) -> str:
    return operator.check("smtp", SMTP_USE_TLS="true")


def smtp_with(certificate: trustme.LeafCert | trustme.CA) -> SMTPServer:
    """A server that shows this certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if isinstance(certificate, trustme.LeafCert):
        certificate.configure_cert(context)
    else:
        with certificate.cert_pem.tempfile() as chain, certificate.private_key_pem.tempfile() as key:
            context.load_cert_chain(chain, key)
    return SMTPServer(tls=context)


@explained("the certificate is not trusted (self-signed certificate...)")
def test_certificate_of_its_own(operator: Operator) -> str:
    with smtp_with(trustme.CA()) as server:
        return operator.check("smtp", SMTP_HOST="localhost", SMTP_PORT=str(server.port))


@explained("the certificate is not trusted (unable to get local issuer certificate)")
def test_certificate_of_an_unknown_ca(operator: Operator) -> str:
    with smtp_with(trustme.CA().issue_cert("localhost")) as server:
        return operator.check("smtp", SMTP_HOST="localhost", SMTP_PORT=str(server.port))


@explained("the certificate is not trusted (...mismatch, certificate is not valid for ...)")
def test_certificate_of_another_name(operator: Operator) -> str:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(operator.folder / "ca.pem")
    with smtp_with(authority.issue_cert("mail.example.com")) as server:
        return operator.check("smtp", SMTP_PORT=str(server.port), SMTP_TLS_CA_FILE="ca.pem")


LOGIN = {"SMTP_USER": "me", "SMTP_PASSWORD": "wrong", "SMTP_USE_TLS": "false"}


@explained("auth was refused: 535 5.7.8 ...")
def test_wrong_password(operator: Operator, smtp: SMTPServer) -> str:
    smtp.users["me"] = "right"
    return operator.check("smtp", **LOGIN)


@explained("auth was refused: 550 5.7.30 ...")
def test_passwords_switched_off(operator: Operator, smtp: SMTPServer) -> str:
    smtp.users["me"] = "right"
    smtp.on("auth", "550 5.7.30 Basic authentication is not supported for Client Submission")
    return operator.check("smtp", **LOGIN)


@explained("auth was refused: 535 5.7.139 ...")
def test_smtp_auth_disabled_for_the_tenant(operator: Operator, smtp: SMTPServer) -> str:
    smtp.users["me"] = "right"
    smtp.on(
        "auth",
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. "
        "Visit https://aka.ms/smtp_auth_disabled for more information.",
    )
    return operator.check("smtp", **LOGIN)


@explained("SMTP_USER is unset while SMTP_PASSWORD has a value: set both, or neither")
def test_password_without_a_user(operator: Operator) -> str:
    return operator.check("settings", SMTP_PASSWORD="secret")


@explained("both have a value: remove one")
def test_a_password_and_its_file(operator: Operator) -> str:
    (operator.folder / ".env").write_text("SMTP_PASSWORD_FILE=/run/secrets/smtp_password")
    return operator.check("settings", SMTP_PASSWORD="secret")


@explained("SMTP_USE_TLS=ture (...): use true or false")
def test_a_value_with_a_typing_mistake(operator: Operator) -> str:
    return operator.check("settings", SMTP_USE_TLS="ture")


@explained("NOTIFICATON_ENABLED (...) is not a setting: did you mean NOTIFICATION_ENABLED?")
def test_a_name_with_a_typing_mistake(operator: Operator) -> str:
    return operator.check("settings", NOTIFICATON_ENABLED="true")


@explained("field 'user_id' is missing or empty; it is required")
def test_a_field_is_missing(operator: Operator) -> str:
    return operator.run("emit", "approval_requested", "--field", "request_id=x")


@explained("which is not an address like name@example.com")
def test_a_recipient_without_an_address(operator: Operator) -> str:
    return operator.run("emit", *EVENT, 'email_to:=["nobody"]')


@explained("is not a folder: the packaged templates are used")
def test_no_template_folder(operator: Operator) -> str:
    return operator.check("templates", NOTIFICATION_TEMPLATE_DIR="nowhere")


@explained("no event of request ... is on record")
def test_an_unknown_request(operator: Operator) -> str:
    return operator.run("trace", "abc12345")


@explained("would show everyone who asks for what: set FLOWER_BASIC_AUTH_FILE")
def test_flower_open_to_everyone(operator: Operator) -> str:
    flower = Program.celery("flower", "--address=0.0.0.0", folder=operator.folder, settings=operator.settings)
    assert flower.process.wait(30) == 2
    return flower.output()


@dataclass(frozen=True, slots=True)
class Night:
    """What was left of two workers in the morning."""

    log: str
    status: str


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """A worker with bad templates and bad recipients that is killed, and one after it that cannot log in."""
    folder = tmp_path_factory.mktemp("night")
    (folder / "redis").mkdir()
    (folder / "mine").mkdir()
    (folder / "mine" / "approval_approved.html").touch()
    (folder / "mine" / "approval_rejected.html").write_text("<p>{{ ticket }}</p>")
    server = RedisServer(folder / "redis").start()
    with SMTPServer() as smtp:
        settings = {**environment(server, smtp, folder), "NOTIFICATION_TEMPLATE_DIR": str(folder / "mine")}
        operator = Operator(settings, folder)
        smtp.on(
            "rcpt", "550 5.1.1 The email account that you tried to reach does not exist", recipient="typo@localhost"
        )
        smtp.on("rcpt", "451 4.7.1 Greylisted, try again in 300 seconds", recipient="busy@localhost")
        worker = start_worker(operator).ready()
        try:
            operator.emit("approval_requested", "late", "email_to=busy@localhost")
            worker.wait_for_line("Not accepted")
            operator.emit("approval_approved", "late")
            operator.emit("approval_rejected", "rejected")
            operator.emit("approval_timeout", "wrong", "email_to=typo@localhost")
            worker.wait_for_line("Dead wrong:approval_timeout")
            worker.wait_for_line("Template failed")
            worker.wait_for_line("Suppressed late:approval_requested")
            operator.emit("approval_timeout", "waits", "email_to=busy@localhost")
            worker.wait_for_line("Not accepted ApprovalEvent(approval_timeout, waits)")
        finally:
            worker.kill()
        with server.client as client:
            let_leases_run_out(client)
        smtp.on("mail", "530 5.7.0 Authentication required")
        worker = start_worker(operator)
        try:
            worker.wait_for_line("Channel held")
            yield Night(worker.output(), operator.run("status"))
        finally:
            worker.kill()
            server.kill()


def start_worker(operator: Operator) -> Program:
    """Start one with a log file, as the guides do; it goes on after that of the worker before."""
    options = ("--loglevel=INFO", "--logfile=worker.log", "--concurrency=1", "--without-mingle")
    worker = Program.celery("worker", *options, folder=operator.folder, settings=operator.settings, name="terminal")
    worker.log = operator.folder / "worker.log"
    worker.log.touch()
    return worker


@explained("refused for good in rcpt: 550 5.1.1 ...")
def test_a_recipient_who_does_not_exist(night: Night) -> str:
    return night.log


@explained("failed in rcpt: 451 ...")
def test_greylisting(night: Night) -> str:
    return night.log


@explained("Suppressed ...: moot: already approved")
def test_a_late_request(night: Night) -> str:
    return night.log


@explained("Template ... is blank and passed over")
def test_a_blank_template(night: Night) -> str:
    return night.log


@explained("UndefinedError: '...' is undefined")
def test_a_template_with_an_unknown_variable(night: Night) -> str:
    return night.log


@explained("Rescued ... events whose lease had run out")
def test_a_killed_worker(night: Night) -> str:
    return night.log


@explained("channel         held since ...")
def test_a_held_channel(night: Night) -> str:
    return night.status
