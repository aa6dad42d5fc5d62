"""Redis over TLS, and with a user that may do no more than the README says."""

from __future__ import annotations

import fnmatch
import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
import trustme

from approval_mail import hooks
from approval_mail.settings import Settings
from tests.acceptance.conftest import Run, Start
from tests.conftest import environment
from tests.rig.monitor import Monitor
from tests.rig.programs import Program
from tests.rig.redis_server import RedisServer, free_port
from tests.rig.smtp_server import SMTPServer
from tests.rig.tls_front import TLSFront
from tests.rig.waiting import wait_for

README = Path(__file__).parents[2] / "README.md"
#: What a URL has to spell otherwise.
PASSWORD = "s/3:c@r%t?"
#: The administrator of these tests; nobody else may log in without a password.
JUDGE = ("judge", "judge-password")
#: Commands of the rule that one run does not come by, called by hand: when they are needed.
RARE: dict[str, Callable[[redis.Redis], object]] = {
    # A Celery client whose connection broke while it waited for results.
    "mget": lambda client: client.mget("celery-task-meta-1"),
    # kombu gives up putting a message back.
    "unwatch": lambda client: client.execute_command("UNWATCH"),
    # An event with more than 1,000 lines of trace.
    "lindex": lambda client: client.lindex("approval_mail:{store}:trace:1", 0),
    "lpop": lambda client: client.lpop("approval_mail:{store}:trace:1"),
    # A database other than 0.
    "select": lambda client: client.execute_command("SELECT", 0),
}


def rules() -> dict[str, list[str]]:
    """The words of each rule in the README, by its user's name."""
    found = re.findall(r"^    ACL SETUSER (\w+) (.*(?:\n        .*)*)", README.read_text("utf-8"), re.MULTILINE)
    return {name: words.split() for name, words in found}


def setuser(server: RedisServer, name: str, words: list[str]) -> None:
    words = [f">{PASSWORD}" if word.startswith(">") else word for word in words]
    with server.client as client:
        client.execute_command("ACL", "SETUSER", name, *words)


def commands(words: list[str]) -> set[str]:
    return {word[1:] for word in words if word.startswith("+")}


def context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(made)
    return made


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


HOST = """
from approval_mail import approvals, hooks
from approval_mail.tasks import notify

names = {"user_id": "kim", "tool_name": "git_commit"}
for n in range(11):
    assert hooks.approval_requested(request_id=f"r{n}", **names) == "accepted"
assert notify.delay("approval_rejected", {"request_id": "n1", **names}).get(timeout=30) == "accepted"
short = approvals.require(timeout=1, **names)
decided = approvals.require(timeout=600, **names)
decided.extend(30)
assert not approvals.resume(decided.request_id).wait(0)
decided.cancel()
assert short.wait().status == "expired"
"""
#: Commands of operators, one after the other in one process; each one's exit code must be 0. To those that ask it, a
#: worker has a second to answer: they are tried again.
OPERATOR = """
import json, sys
from click.testing import CliRunner
from approval_mail.cli import main
from approval_mail.cli.admin import main as admin

def run(program, *words, tries=1):
    for _ in range(tries):
        done = CliRunner().invoke(program, words)
        if done.exit_code == 0:
            return done.output.strip()
    raise AssertionError((words, done.output))

print(run(main, "check", tries=30))
assert any(json.loads(run(main, "status", "--json"))["workers"] == 1 for _ in range(30))
run(main, "trace", "n1")
run(main, "trace", "n")
event = json.loads(run(main, "dead", "list", "--json"))[0]["event_id"]
run(main, "dead", "retry", event)
run(main, "spool", "list")
run(main, "emit", "approval_timeout", "--field", "request_id=e1", "--field", "user_id=kim", "--field", "tool_name=t")
asked = run(admin, "request", "--user", "kim", "--tool", "git_commit").split()[0]
run(admin, "list", "--all")
run(admin, "approve", asked[:8])
run(admin, "status", asked)
run(admin, "status")
"""


#: A host that asks, and that is told of an answer twice.
TELL = """
import logging
from approval_mail import hooks

logging.basicConfig()
for n in range(12):
    for name in ("approval_requested", "approval_approved", "approval_approved", "approval_reminder"):
        print(hooks.emit(name, {"request_id": f"r{n}", "user_id": "kim", "tool_name": "git_commit", "fraction": "0.5"}))
"""


@dataclass
class Tour:
    """What was seen of the whole pipeline at work as the README's user, over TLS."""

    words: list[str]
    server: RedisServer
    used: set[str]
    refused: list[object]
    sent: list[list[str]]
    told: str
    connections: int
    mails: int
    output: str


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA, ca_file: Path) -> Iterator[Tour]:
    folder = tmp_path_factory.mktemp("tour")
    (folder / "redis").mkdir()
    server = RedisServer(folder / "redis").start()
    words = rules()["approval_mail"]
    setuser(server, "approval_mail", words)
    with server.client as judge:
        judge.execute_command("ACL", "SETUSER", JUDGE[0], "on", f">{JUDGE[1]}", "~*", "&*", "+@all")
        judge.execute_command("ACL", "SETUSER", "default", "off")
        with (
            SMTPServer() as smtp,
            TLSFront(server.port, context(authority.issue_cert("localhost"))) as front,
            Monitor(server.port, *JUDGE) as monitor,
        ):
            settings = {
                **environment(server, smtp, folder),
                "REDIS_URL": f"rediss://approval_mail:{quote(PASSWORD, '')}@localhost:{front.port}/0"
                f"?ssl_ca_certs={ca_file}",
                "APPROVAL_REMINDERS": "0.5",
                "XDG_STATE_HOME": str(folder / "state"),
                "FLOWER_UNAUTHENTICATED_API": "true",
            }
            judge.config_resetstat()
            smtp.on("rcpt", "550 no such user", times=1)
            told = _use_everything(folder, settings, smtp)
            used = {name.removeprefix("cmdstat_") for name in judge.info("commandstats")}
            refused = judge.acl_log()
            output = "".join(log.read_text() for log in folder.glob("*.log"))
            yield Tour(
                words, server, used, refused, monitor.commands(), told, front.connections, len(smtp.mails), output
            )
    server.kill()


def _use_everything(folder: Path, settings: dict[str, str], smtp: SMTPServer) -> str:
    """Run every program at least once; answers what operators were shown."""
    port = free_port()
    flower = Program.celery("flower", f"--port={port}", folder=folder, settings=settings)
    # With gossip and mingle, as operators start it.
    worker = Program.celery("worker", "-E", "--loglevel=INFO", folder=folder, settings=settings)
    beat = Program.celery("beat", folder=folder, settings=settings)
    try:
        worker.ready()
        flower.wait_for_line("Connected to")
        _python(HOST, folder, settings)
        told = _python(OPERATOR, folder, settings)
        for page in ("/", "/tasks", "/broker", "/api/workers?refresh=1", "/api/queues/length"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}") as answer:
                told += answer.read().decode()
        inspect = [sys.executable, "-m", "celery", "-A", "approval_mail", "inspect", "scheduled", "--timeout=10"]
        done = subprocess.run(
            [*inspect, f"--destination=celery@{socket.gethostname()}"],
            cwd=folder,
            env=settings,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        wait_for(lambda: len(smtp.mails) >= 15, saying="every mail")
        assert worker.stop() == 0
        assert flower.stop() == 0
        assert beat.stop() == 0
    finally:
        for program in (worker, beat, flower):
            program.kill()
    return told


def _python(code: str, folder: Path, settings: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=settings, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_pipeline_needs_no_more_than_the_readmes_rule(tour: Tour) -> None:
    assert tour.refused == []
    assert "NOPERM" not in tour.output
    assert tour.told.count("ok  ") == 8, tour.told
    assert tour.connections > 10


def test_the_rule_allows_no_command_without_need(tour: Tour) -> None:
    assert sorted(commands(tour.words) - tour.used) == sorted(RARE)


@pytest.mark.parametrize("command", sorted(RARE))
def test_what_is_needed_only_rarely_is_allowed_too(tour: Tour, command: str) -> None:
    client = redis.Redis(port=tour.server.port, username="approval_mail", password=PASSWORD)
    with client:
        RARE[command](client)
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.keys()


def test_each_pattern_of_keys_and_channels_is_needed(tour: Tour) -> None:
    """Something that was sent is covered by this one and no other."""
    channels, keys = set(), set()
    for command, *arguments in tour.sent:
        if command.upper() in ("PUBLISH", "SUBSCRIBE"):
            channels.add(arguments[0])
        elif command.upper() != "PSUBSCRIBE":  # What it names must stand in the rule itself.
            keys.update(arguments)
    subscribed = {word for command, *words in tour.sent if command.upper() == "PSUBSCRIBE" for word in words}
    assert _only_cover(_patterns(tour.words, "~"), keys) == _patterns(tour.words, "~")
    assert _only_cover(_patterns(tour.words, "&"), channels) | subscribed == _patterns(tour.words, "&")


def _patterns(words: list[str], kind: str) -> set[str]:
    return {word[1:] for word in words if word.startswith(kind)}


def _only_cover(patterns: set[str], names: set[str]) -> set[str]:
    """Those patterns that a name needs: no other covers it."""
    covers = [[each for each in patterns if fnmatch.fnmatchcase(name, each)] for name in names]
    return {found[0] for found in covers if len(found) == 1}


def test_a_host_that_only_calls_hooks_needs_less(tmp_path: Path, own_redis: RedisServer, smtp: SMTPServer) -> None:
    words, everything = rules()["approval_mail_host"], rules()["approval_mail"]
    assert commands(words) < commands(everything)
    assert {word for word in words if word[0] in "~&"} < {word for word in everything if word[0] in "~&"}
    setuser(own_redis, "approval_mail_host", words)
    url = f"redis://approval_mail_host:{quote(PASSWORD, '')}@127.0.0.1:{own_redis.port}/0"
    settings = {**environment(own_redis, smtp, tmp_path), "REDIS_URL": url}
    with own_redis.client as judge:
        # As under a backlog: a hook then looks whether there is room for more claims.
        judge.zadd("approval_mail:{store}:pending", {f"waits{n}": 1 for n in range(20)})
        judge.zadd("approval_mail:{store}:claimed", {"under-way": 2e15})
        judge.set("approval_mail:{store}:room", "0 0")
        judge.config_resetstat()
        told = _python(TELL, tmp_path, settings)
        used = {name.removeprefix("cmdstat_") for name in judge.info("commandstats")}
        assert set(told.split()) == {"accepted", "duplicate"}, told
        assert judge.acl_log() == []
        assert judge.llen("approval_mail") > 0, "the wake-up"
    assert sorted(commands(words) - used) == []


#: Each of the three clients by itself; a line says what came of it.
THREE = """
import redis
from approval_mail import services
from approval_mail.celery import app

def tell(name, connect):
    try:
        connect()
    except Exception as error:
        print(name, "refused:", error)
    else:
        print(name, "connected")

tell("store", lambda: services.operator_store().count())
tell("broker", lambda: app.connection_for_write().ensure_connection(max_retries=0, timeout=5).close())
tell("results", lambda: app.backend.client.ping())
"""
MISMATCH = "IP address mismatch, certificate is not valid for '127.0.0.1'"


@pytest.fixture
def front(redis_server: RedisServer, authority: trustme.CA) -> Iterator[TLSFront]:
    with TLSFront(redis_server.port, context(authority.issue_cert("localhost"))) as found:
        yield found


@pytest.mark.parametrize(
    ("host", "options", "environ", "answer"),
    [
        ("localhost", "?ssl_ca_certs={ca}", {}, "connected"),
        ("localhost", "", {"SSL_CERT_FILE": "{ca}"}, "connected"),
        ("localhost", "", {}, "unable to get local issuer certificate"),
        ("localhost", "?ssl_ca_certs={other}", {}, "unable to get local issuer certificate"),
        ("127.0.0.1", "?ssl_ca_certs={ca}", {}, MISMATCH),
        ("127.0.0.1", "?ssl_ca_certs={ca}&ssl_cert_reqs=CERT_REQUIRED", {}, MISMATCH),
        ("127.0.0.1", "?ssl_ca_certs={ca}&ssl_check_hostname=false", {}, "connected"),
        ("127.0.0.1", "?ssl_cert_reqs=none", {}, "connected"),
    ],
)
def test_store_broker_and_results_each_verify_certificate_and_name(
    front: TLSFront,
    settings: dict[str, str],
    ca_file: Path,
    tmp_path: Path,
    host: str,
    options: str,
    environ: dict[str, str],
    answer: str,
) -> None:
    files = {"ca": ca_file, "other": tmp_path / "other.pem"}
    trustme.CA().cert_pem.write_to_path(str(files["other"]))
    url = f"rediss://{host}:{front.port}/0{options.format_map(files)}"
    environ = {name: text.format_map(files) for name, text in environ.items()}
    lines = _python(THREE, tmp_path, {**settings, "REDIS_URL": url, **environ}).splitlines()
    told = [line for line in lines if line.startswith(("store ", "broker ", "results "))]
    assert len(told) == 3, lines
    assert [line for line in told if answer not in line] == []


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (
            "rediss://localhost/0?ssl_ca_certs=nowhere.pem",
            "ssl_ca_certs names 'nowhere.pem', and there is no such file",
        ),
        ("redis://localhost/0?ssl_ca_certs=nowhere.pem", "ssl_ca_certs needs rediss:// or amqps://"),
        ("rediss://localhost/0?ssl_cert_reqs=maybe", "ssl_cert_reqs: use required, optional or none"),
    ],
)
@pytest.mark.parametrize("name", ["REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"])
def test_a_wrong_option_in_a_url_is_told_before_anything_starts(run: Run, name: str, url: str, told: str) -> None:
    done = run("status", **{name: url})
    assert (done.returncode, done.stderr) == (2, f"{name}=**** (the environment): {told}\n")


@pytest.mark.parametrize("wrong", ["authority", "name", "password"])
def test_each_program_says_in_a_line_why_it_cannot_connect(
    wrong: str, front: TLSFront, start: Start, settings: dict[str, str], ca_file: Path, tmp_path: Path, run: Run
) -> None:
    """And none shows the password."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    host = "127.0.0.1" if wrong == "name" else "localhost"
    url = f"rediss://kim:the-password@{host}:{front.port}/0?ssl_ca_certs={other if wrong == 'authority' else ca_file}"
    why = {
        "authority": "unable to get local issuer certificate",
        "name": MISMATCH,
        "password": "invalid username-password pair",
    }[wrong]
    worker = start("worker", REDIS_URL=url)
    beat = start("beat", REDIS_URL=url)

    host_said = _python(TELL, tmp_path, {**settings, "REDIS_URL": url})
    check = run("check", "--only", "redis", REDIS_URL=url)
    status = run("status", REDIS_URL=url)

    assert host_said.count("spooled\n") == 48
    assert [line for line in host_said.splitlines() if why in line] == [
        line for line in host_said.splitlines() if line.startswith("ERROR")
    ]
    assert host_said.count(why) == 1
    assert (check.returncode, check.stdout.count(why)) == (1, 1)
    assert (status.returncode, status.stderr.count(why), status.stderr.count("\n")) == (1, 1, 1)
    for program in (worker, beat):
        program.wait_for_line(why)
        assert "Traceback" not in program.output()
    assert "the-password" not in "".join(
        (host_said, check.stdout, check.stderr, status.stderr, worker.output(), beat.output())
    )


def test_a_handshake_shares_the_deadline_of_a_hooks_call(
    redis_server: RedisServer, front: TLSFront, ca_file: Path, tmp_path: Path
) -> None:
    """A store that is slow at each step leaves a broker that does not answer its handshake little time."""

    def tell(request_id: str) -> tuple[str, float]:
        started = time.perf_counter()
        receipt = hooks.approval_requested(request_id=request_id, user_id="kim", tool_name="git_commit")
        return receipt, time.perf_counter() - started

    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as silent, redis_server.client as client:
        settings = Settings(
            enabled=True,
            redis_url=f"rediss://localhost:{front.port}/0?ssl_ca_certs={ca_file}",
            celery_broker_url=f"rediss://127.0.0.1:{silent.getsockname()[1]}/0",
            spool_dir=tmp_path / "spool",
        )
        for n in range(5):  # On a busy machine one may not get as far as the broker.
            front.delay = 0.0
            hooks.configure(settings)
            client.set("approval_mail:{store}:wake", 1)  # The broker is not met yet.
            tell(f"warm-up-{n}")
            client.delete("approval_mail:{store}:wake", "approval_mail:{store}:window")
            client.script_flush()  # So that recording takes three steps.
            front.delay = 0.07
            receipt, took = tell(f"r{n}")
            if receipt == "accepted":
                accepted.append(took)
    assert accepted
    assert 0.32 < min(accepted) < 0.5  # The promise.
