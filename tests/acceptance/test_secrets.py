"""No secret is in any log, message, result, answer of Flower's, value of Redis's or file of the spool."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
import secrets
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
import trustme

from approval_mail.api.keys import KeyFile, Role
from approval_mail.demo.visitor import PageRefused, Visitor
from tests.conftest import environment
from tests.rig.monitor import Monitor
from tests.rig.programs import Program
from tests.rig.redis_server import RedisServer, free_port
from tests.rig.smtp_server import Mail, SMTPServer
from tests.rig.waiting import wait_for

USER = "mailer@example.com"
JUDGE = ("judge", "judge-password")
#: What a host keeps in arguments under a key that is redacted, and in arguments that approval_mail only passes on.
ASK = """
import json, os, sys
from approval_mail import approvals, hooks
from approval_mail.tasks import notify

hidden = os.environ["TEST_ARGUMENT"]
arguments = {"message": "fix", "password": hidden, "body": json.dumps({"api_key": hidden})}
names = {"user_id": "agent-7", "tool_name": "git_commit"}
asked = ("by-link", "by-api", "by-admin")
handles = [approvals.require(request_id=name, arguments=arguments, **names) for name in asked]
passed_on = {"arguments": {"note": os.environ["TEST_NOTE"]}, **names}
hooks.approval_requested(request_id="by-hook", **passed_on)
notify.delay("approval_rejected", {"request_id": "notified", **passed_on}).get(timeout=60)
print("asked", flush=True)
print([handle.wait().status.value for handle in handles], flush=True)
"""
TELL = """
import logging, os
from approval_mail import hooks

logging.basicConfig(level=logging.DEBUG)
print(hooks.approval_approved(request_id="spooled", user_id="agent-7", tool_name="git_commit"))
"""


def holds(text: str, secret: str) -> bool:
    """Whether a secret can be read out of a text: as it is, as part of a URL, or within base64."""
    return any(form in whole for form in (secret, quote(secret, "")) for whole in (text, _decoded(text)))


def _decoded(text: str) -> str:
    found = []
    for run in set(re.findall(r"[A-Za-z0-9+/_-]{12,}={0,2}", text)):
        # Of a run that begins with something else, base64 may begin at any of four places.
        for start in range(4):
            part = run[start:].rstrip("=")
            with contextlib.suppress(binascii.Error):
                found.append(base64.urlsafe_b64decode(part[: len(part) // 4 * 4].replace("+", "-").replace("/", "_")))
                tail = part + "=" * (-len(part) % 4)
                found.append(base64.urlsafe_b64decode(tail.replace("+", "-").replace("/", "_")))
    return b"\n".join(found).decode("latin-1")


@pytest.mark.parametrize(
    "text",
    [
        "password=s3cret-of-ours;",
        "AUTH PLAIN " + base64.b64encode(b"\0mailer\0s3cret-of-ours").decode(),
        "xy" + base64.b64encode(b"s3cret-of-ours").decode(),
        '{"body": "' + base64.b64encode(b'[["a"], {"b": "s3cret-of-ours"}]').decode() + '"}',
        "redis://:" + quote("s3cret-of-ours", "") + "@host",
    ],
)
def test_a_secret_is_found_in_what_hides_it(text: str) -> None:
    assert holds(text, "s3cret-of-ours")
    assert not holds(text, "s3cret-of-others")


def server_with_password(folder: Path, password: str) -> RedisServer:
    """A server of one user's, and of a judge's who watches."""
    folder.mkdir()
    server = RedisServer(folder).start()
    with server.client as client:
        client.execute_command("ACL", "SETUSER", JUDGE[0], "on", f">{JUDGE[1]}", "~*", "&*", "+@all")
        client.execute_command("ACL", "SETUSER", "app", "on", f">{password}", "~*", "&*", "+@all")
        client.execute_command("ACL", "SETUSER", "default", "off")
    return server


def values(server: RedisServer) -> str:
    """Every key with everything in it."""
    with redis.Redis(
        port=server.port, username=JUDGE[0], password=JUDGE[1], decode_responses=True, encoding_errors="replace"
    ) as client:
        read = {
            "string": client.get,
            "hash": client.hgetall,
            "list": lambda key: client.lrange(key, 0, -1),
            "set": client.smembers,
            "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        }
        return "\n".join(f"{key} {read[client.type(key)](key)}" for key in client.scan_iter())


def run(folder: Path, settings: Mapping[str, str], *command: str) -> str:
    """Everything that a program says, whether it succeeds or not."""
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=settings, capture_output=True, text=True, check=False, timeout=180
    )
    return done.stdout + done.stderr


def cli(package: str, *words: str) -> tuple[str, ...]:
    return ("-c", f"from approval_mail.{package} import main; main()", *words)


def call(url: str, body: object = None, **headers: str) -> str:
    data = None if body is None else json.dumps(body).encode()
    named = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, named), timeout=20) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


def links(mails: list[Mail]) -> dict[str, str]:
    """The links of all mails by their tokens."""
    texts = [mail.message.get_body(("plain",)).get_content() for mail in mails]  # type: ignore[union-attr]
    return {url.rpartition("/")[2]: url for text in texts for url in re.findall(r"http://\S+/decide/\S+", text)}


Places = dict[str, str]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Places, dict[str, str], str]:
    """What every place showed of a full run at --loglevel=DEBUG, the secrets in it, and what was passed on."""
    folder = tmp_path_factory.mktemp("secrets")
    hidden = {
        name: f"{name.replace(' ', '-')}-{secrets.token_hex(12)}"
        for name in (
            "smtp password",
            "link secret",
            "old link secret",
            "redis password",
            "argument",
            "wrong key",
            "flower login",
        )
    }
    keys = KeyFile(folder / "api_keys")
    hidden |= {f"key of {role}": keys.add(role.value, role) for role in Role}
    server = server_with_password(folder / "redis", hidden["redis password"])
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    smtp = SMTPServer(tls=context, users={USER: "another password"})
    port, flower_port, note = free_port(), free_port(), f"note-{secrets.token_hex(12)}"
    with smtp, Monitor(server.port, *JUDGE) as monitor:
        settings = {
            **environment(server, smtp, folder),
            "REDIS_URL": f"redis://app:{hidden['redis password']}@127.0.0.1:{server.port}/0",
            "SMTP_HOST": "localhost",
            "SMTP_USE_TLS": "true",
            "SMTP_TLS_CA_FILE": str(folder / "ca.pem"),
            "SMTP_USER": USER,
            "SMTP_PASSWORD": hidden["smtp password"],
            "APPROVAL_PUBLIC_URL": f"http://localhost:{port}",
            "APPROVAL_LINK_SECRET": f"{hidden['link secret']},{hidden['old link secret']}",
            "APPROVAL_API_KEYS_FILE": str(keys.path),
            "FLOWER_BASIC_AUTH": f"operator:{hidden['flower login']}",
            "XDG_STATE_HOME": str(folder / "state"),
        }
        asking = {**settings, "TEST_ARGUMENT": hidden["argument"], "TEST_NOTE": note}
        start = {"folder": folder, "settings": settings}
        programs = {
            "worker": Program.celery("worker", "-E", "--loglevel=DEBUG", "--without-mingle", **start),
            "beat": Program.celery("beat", "--loglevel=DEBUG", **start),
            "flower": Program.celery("flower", f"--port={flower_port}", "--logging=debug", **start),
            "api": Program(sys.executable, *cli("cli", "api", "--port", str(port)), **start, name="api"),
        }
        try:
            programs["worker"].ready()
            programs["flower"].wait_for_line("Connected to")
            programs["api"].wait_for_line("Serving approvals")
            programs["host"] = Program(sys.executable, "-c", ASK, folder=folder, settings=asking, name="host")
            programs["worker"].wait_for_line("Channel held")
            places: Places = {
                "check of a refused login": run(folder, settings, *cli("cli", "check")),
                "status": run(folder, settings, *cli("cli", "status")),
            }
            smtp.users[USER] = hidden["smtp password"]
            wait_for(lambda: len(smtp.mails) == 5, saying="mail after the refusal")
            tokens = links(smtp.mails)
            _decide(port, folder, settings, hidden, tokens)
            programs["host"].wait_for_line("['approved', 'approved', 'rejected']")
            wrong = {
                **settings,
                "REDIS_URL": settings["REDIS_URL"].replace("app:", "app:not-"),
                "NOTIFICATION_SPOOL_DIR": str(folder / "kept"),
            }
            places["host that may not log in"] = run(folder, wrong, "-c", TELL)
            places["spool"] = "".join(path.read_text() for path in (folder / "kept").glob("*.json"))
            places["check without a login"] = run(folder, wrong, *cli("cli", "check"))
            wait_for(lambda: len(smtp.mails) >= 9, saying="mail of the outcomes")
            places |= _flower(flower_port, hidden["flower login"])
            inspect = (f"--destination=celery@{socket.gethostname()}", "--timeout=10")
            for words, more in (("inspect conf", inspect), ("inspect scheduled", inspect), ("report", ())):
                places[words] = run(folder, settings, "-m", "celery", "-A", "approval_mail", *words.split(), *more)
            places["trace"] = run(folder, settings, *cli("cli", "trace", "by-link"))
            places["values"] = values(server)
            for program in programs.values():
                program.stop()
        finally:
            for program in programs.values():
                program.kill()
            server.kill()
        places |= {f"log of {name}": program.output() for name, program in programs.items()}
        places["monitor"] = "\n".join(monitor.lines)
    hidden |= {f"link {n}": token for n, token in enumerate(tokens)}
    assert any(line.startswith("AUTH PLAIN") for line in smtp.commands), "the password was used"
    return places, hidden, note


def _decide(
    port: int, folder: Path, settings: Mapping[str, str], hidden: Mapping[str, str], tokens: Mapping[str, str]
) -> None:
    """One request by a link, one by the API, one by approval-admin; and those who may not."""
    url = f"http://localhost:{port}"
    key = {"X_API_Key": hidden["key of approver"], "X_User_ID": "lee"}
    assert "approved" in call(f"{url}/api/approvals/by-api/approve", {"reason": "fine"}, **key)
    assert "approved" not in call(f"{url}/api/approvals/by-link/approve", {}, X_API_Key=hidden["wrong key"])
    body = {"tool_name": "t", "request_id": "asked-by-api", "arguments": {"password": hidden["argument"]}}
    assert "pending" in call(f"{url}/api/approvals", body, **(key | {"X_API_Key": hidden["key of requester"]}))
    told = run(folder, settings, *cli("cli.admin", "reject", "by-admin", "--reason", "no"))
    assert "rejected" in told, told
    for token, link in tokens.items():
        call(f"{url}/decide/{token[:-1]}")
        with contextlib.suppress(PageRefused):  # Of two links of a request one decides.
            Visitor().send_form(link, text="fine")


def _flower(port: int, password: str) -> Places:
    login = {"Authorization": "Basic " + base64.b64encode(f"operator:{password}".encode()).decode()}
    url = f"http://127.0.0.1:{port}"
    workers, tasks = call(f"{url}/api/workers?refresh=1", **login), call(f"{url}/api/tasks", **login)
    paths = ["/", "/tasks", "/broker", "/metrics", *(f"/worker/{name}" for name in json.loads(workers))]
    for task_id in json.loads(tasks):
        paths += [f"/task/{task_id}", f"/api/task/info/{task_id}", f"/api/task/result/{task_id}"]
    pages = "\n".join(call(f"{url}{path}", **login) for path in paths)
    assert "approval_requested by-link git_commit" in pages
    return {"Flower's workers": workers, "Flower's tasks": tasks, "Flower's pages": pages}


def test_no_secret_is_shown_or_kept_anywhere(seen: tuple[Places, dict[str, str], str]) -> None:
    places, hidden, _ = seen
    assert [place for place, text in places.items() if len(text) < 20] == []
    assert "broker_url" in places["inspect conf"]
    found = [f"{name} in {place}" for place, text in places.items() for name in hidden if holds(text, hidden[name])]
    assert not found, "\n".join(found)


def test_what_a_hook_passes_on_is_in_redis_alone(seen: tuple[Places, dict[str, str], str]) -> None:
    places, _, note = seen
    assert sorted(place for place, text in places.items() if holds(text, note)) == ["monitor", "values"]


def test_an_access_token_is_shown_nowhere(settings: dict[str, str], redis_server: RedisServer, tmp_path: Path) -> None:
    token = f"token-{secrets.token_hex(12)}"
    (tmp_path / "token").write_text(token)
    with SMTPServer(tokens={USER: "another"}) as smtp, Monitor(redis_server.port) as monitor:
        settings |= {
            "SMTP_PORT": str(smtp.port),
            "SMTP_USE_TLS": "false",
            "SMTP_USER": USER,
            "SMTP_OAUTH_TOKEN_FILE": str(tmp_path / "token"),
        }
        worker = Program.celery("worker", "--without-mingle", "--loglevel=DEBUG", folder=tmp_path, settings=settings)
        try:
            worker.ready()
            run(tmp_path, settings, "-c", TELL)
            worker.wait_for_line("Channel held")
            smtp.tokens[USER] = token
            wait_for(lambda: smtp.mails, saying="the mail")
        finally:
            worker.stop()
    assert holds("\n".join(smtp.commands), token)
    assert not holds(worker.output() + "\n".join(monitor.lines), token)
