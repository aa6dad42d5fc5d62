"""Each example as the server that its docstring starts, driven as its users drive it, until the mails are there."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.types import CallToolResult, TextContent

from tests.acceptance.conftest import Start
from tests.rig.programs import Program
from tests.rig.redis_server import RedisServer, free_port
from tests.rig.smtp_server import Mail, SMTPServer
from tests.rig.waiting import wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("django_app", "fastapi_app", "flask_app", "mcp_tool_guard", "own_celery_app")
#: Notifications are off, and what a hook would talk to is not there either.
SWITCHED_OFF = {"NOTIFICATION_ENABLED": "", "REDIS_URL": "redis://127.0.0.1:1/0"}
OPERATOR = "operator@localhost"

Begin = Callable[..., Program]
Serve = Callable[..., "Site"]
Answer = tuple[int, Any]


@dataclass(frozen=True)
class Site:
    """An example that answers HTTP."""

    address: str

    def get(self, path: str) -> Answer:
        return self._call(path, None, {})

    def post_json(self, path: str, **fields: Any) -> Answer:
        return self._call(path, json.dumps(fields), {"Content-Type": "application/json"})

    def post_form(self, path: str, user: str | None, **fields: str) -> Answer:
        return self._call(path, urllib.parse.urlencode(fields), {} if user is None else {"X-User": user})

    def _call(self, path: str, body: str | None, headers: dict[str, str]) -> Answer:
        request = urllib.request.Request(self.address + path, None if body is None else body.encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def documented(example: str) -> list[str]:
    """The command of the example's docstring that starts it; settings before it are the test's to give."""
    docstring = ast.get_docstring(ast.parse((EXAMPLES / f"{example}.py").read_text("utf-8"))) or ""
    _install, run = [line for line in docstring.splitlines() if line.startswith("    ")]
    return [word for word in shlex.split(run) if "=" not in word]


@pytest.fixture
def settings(settings: dict[str, str], redis_server: RedisServer, tmp_path: Path) -> dict[str, str]:
    """The test's folder looks like a checkout with its environment activated."""
    (tmp_path / "examples").symlink_to(EXAMPLES)
    settings["PATH"] = f"{Path(sys.executable).parent}:{settings['PATH']}"
    settings["RELEASES_BROKER_URL"] = redis_server.url.replace("/0", "/5")
    return settings


@pytest.fixture
def begin(settings: dict[str, str], tmp_path: Path) -> Iterator[Begin]:
    """Start an example; it ends with the test."""
    running: list[Program] = []

    def run(example: str, *more: str, **changes: str) -> Program:
        words, name = (*documented(example), *more), f"{example}-{len(running)}"
        running.append(Program(*words, folder=tmp_path, settings={**settings, **changes}, name=name))
        return running[-1]

    yield run
    for program in running:
        program.kill()


@pytest.fixture
def serve(begin: Begin) -> Serve:
    """Start an example that answers HTTP, on a free port."""

    def run(example: str, **changes: str) -> Site:
        port = free_port()
        where = ("--noreload", f"127.0.0.1:{port}") if example == "django_app" else (f"--port={port}",)
        program = begin(example, *where, **changes)
        wait_for(lambda: listens(port) or program.process.poll() is not None, saying=example)
        assert program.process.poll() is None, program.output()
        return Site(f"http://127.0.0.1:{port}")

    return run


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def output(*words: str, folder: Path, settings: dict[str, str]) -> str:
    """What a command prints that ends well."""
    done = subprocess.run(words, cwd=folder, env=settings, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    return done.stdout.strip()


def mails(smtp: SMTPServer, count: int) -> list[tuple[str, str]]:
    """Recipient and subject of each mail, once there are so many."""
    wait_for(lambda: len(smtp.mails) >= count, saying=f"{count} mails")
    return sorted((mail.recipient, mail.subject) for mail in smtp.mails)


def text(mail: Mail) -> str:
    part = mail.message.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def test_each_example_is_one_short_file() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == [f"{name}.py" for name in NAMES]
    for name in NAMES:
        assert len((EXAMPLES / f"{name}.py").read_text("utf-8").splitlines()) < 60, name


def test_fastapi_tells_of_requests_and_answers(start: Start, serve: Serve, smtp: SMTPServer) -> None:
    start("worker")
    site = serve("fastapi_app")
    ids = {}
    for tool in ("git_commit", "git_push"):
        code, asked = site.post_json(f"/tools/{tool}", user="kim", arguments={"message": "fix"})
        assert code == 202
        ids[tool] = asked["request_id"]
    assert site.get(f"/requests/{ids['git_commit']}") == (200, {"status": "pending"})

    for responder in ("kim", "kim ", "", " "):
        refused = site.post_json(f"/requests/{ids['git_commit']}/approve", responder=responder, reason="I may")
        assert refused[0] == 403, "by nobody, or not by the one who asked"
    answer = {"responder": "lee", "reason": "looks fine"}
    assert site.post_json(f"/requests/{ids['git_commit']}/approve", **answer) == (200, {"status": "approved"})
    assert site.post_json(f"/requests/{ids['git_push']}/reject", **answer) == (200, {"status": "rejected"})
    assert site.post_json(f"/requests/{ids['git_push']}/approve", **answer)[0] == 409, "decided once"
    assert site.get("/requests/unknown")[0] == 404
    assert site.post_json("/tools/git_commit", user="", arguments={})[0] == 422
    assert mails(smtp, 4) == [
        (OPERATOR, "[거부됨] git_push 도구"),
        (OPERATOR, "[승인 필요] git_commit 도구"),
        (OPERATOR, "[승인 필요] git_push 도구"),
        (OPERATOR, "[승인됨] git_commit 도구"),
    ]


def test_fastapi_tells_of_a_request_that_ran_out_and_takes_no_answer_any_more(
    start: Start, serve: Serve, smtp: SMTPServer
) -> None:
    start("worker")
    site = serve("fastapi_app", PERMISSION_SECONDS="0")
    _, asked = site.post_json("/tools/git_commit", user="kim", arguments={})
    for _ in range(2):
        assert site.get(f"/requests/{asked['request_id']}") == (200, {"status": "expired"})
    assert site.post_json(f"/requests/{asked['request_id']}/approve", responder="lee", reason="")[0] == 409
    assert mails(smtp, 2) == [(OPERATOR, "[승인 필요] git_commit 도구"), (OPERATOR, "[타임아웃] git_commit 승인 요청")]


def test_flask_tells_those_who_may_agree_to_a_payout(start: Start, serve: Serve, smtp: SMTPServer) -> None:
    start("worker")
    site = serve("flask_app", PAYOUT_APPROVERS="lee@example.com, park@example.com")
    payouts = []
    for amount in ("100", "90000"):
        code, asked = site.post_form("/payouts", "kim", amount=amount, to="Ham GmbH")
        assert code == 202
        payouts.append(f"/payouts/{asked['payout_id']}")
    small, large = payouts
    assert site.post_form(f"{large}/approve", "kim")[0] == 403, "not by the one who asked"
    assert site.post_form(f"{large}/approve", None)[0] == 401
    assert site.post_form(f"{small}/approve", "lee")[1]["status"] == "paid"
    assert site.post_form(f"{large}/reject", "lee", reason="too much")[1]["status"] == "refused"
    assert site.post_form(f"{large}/approve", "lee")[0] == 404, "decided once"
    each = ["[거부됨] payout 도구", "[승인 필요] payout 도구", "[승인 필요] payout 도구", "[승인됨] payout 도구"]
    assert mails(smtp, 8) == [(to, subject) for to in ("lee@example.com", "park@example.com") for subject in each]


def test_flask_keeps_no_payout_that_nobody_would_hear_of(serve: Serve) -> None:
    site = serve("flask_app", PAYOUT_APPROVERS="lee")
    assert [site.post_form("/payouts", user, amount="1", to="Ham GmbH")[0] for user in (None, " ")] == [401, 401]
    code, page = site.post_form("/payouts", "kim", amount="1", to="Ham GmbH")
    assert (code, "which is not an address" in page) == (422, True)


#: The database refuses one request, and that when its transaction is committed, not before.
FAILING_COMMIT = """
CREATE TABLE parent (id INTEGER PRIMARY KEY);
CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
CREATE TRIGGER refuse AFTER INSERT ON permissions_permission WHEN NEW.tool_name = 'doomed'
BEGIN INSERT INTO child VALUES (1); END;
"""


def test_django_tells_of_what_was_committed_alone(start: Start, serve: Serve, smtp: SMTPServer, tmp_path: Path) -> None:
    start("worker")
    site = serve("django_app")
    with closing(sqlite3.connect(tmp_path / "permissions.sqlite3")) as database:
        database.executescript(FAILING_COMMIT)
    assert site.post_form("/requests", "kim", tool="doomed")[0] == 500
    paths = []
    for tool in ("deploy", "migrate"):
        code, asked = site.post_form("/requests", "kim", tool=tool)
        assert code == 202
        paths.append(f"/requests/{asked['request_id']}")
    for responder in ("kim", " ", None):
        assert site.post_form(f"{paths[0]}/approve", responder, reason="I may")[0] == 409, "not by the one who asked"
    assert site.post_form(f"{paths[0]}/approve", "lee", reason="fine") == (200, {"answer": "approve"})
    assert site.post_form(f"{paths[1]}/reject", "lee", reason="not now") == (200, {"answer": "reject"})
    assert site.post_form(f"{paths[1]}/approve", "lee", reason="or now")[0] == 409, "decided once"
    assert mails(smtp, 4) == [
        (OPERATOR, "[거부됨] migrate 도구"),
        (OPERATOR, "[승인 필요] deploy 도구"),
        (OPERATOR, "[승인 필요] migrate 도구"),
        (OPERATOR, "[승인됨] deploy 도구"),
    ]


def test_django_stores_no_request_that_nobody_would_hear_of(serve: Serve, tmp_path: Path) -> None:
    site = serve("django_app")
    for user, fields in ((None, {"tool": "deploy"}), (" ", {"tool": "deploy"}), ("kim", {"tool": " "}), ("kim", {})):
        assert site.post_form("/requests", user, **fields)[0] == 400, (user, fields)
    with closing(sqlite3.connect(tmp_path / "permissions.sqlite3")) as database:
        assert database.execute("SELECT * FROM permissions_permission").fetchall() == []


@dataclass(frozen=True)
class Guarded:
    """A git repository with a change to commit, which the MCP example guards, and the person who decides."""

    folder: Path
    settings: dict[str, str]
    smtp: SMTPServer

    def git(self, *arguments: str) -> str:
        return output("git", *arguments, folder=self.folder, settings=self.settings)

    @asynccontextmanager
    async def agent(self, **changes: str) -> AsyncIterator[Client]:
        """An MCP client, which starts the example over stdio."""
        program, *arguments = documented("mcp_tool_guard")
        settings = {**self.settings, **changes}
        server = StdioServerParameters(command=program, args=arguments, env=settings, cwd=self.folder)
        with (self.folder / "mcp_tool_guard.log").open("w") as log:
            async with Client(stdio_client(server, errlog=log)) as client:
                yield client

    async def request_id(self, number: int) -> str:
        """Of the request that was asked as the ``number``-th, as its mail tells it."""
        await asyncio.to_thread(wait_for, lambda: len(self.asked()) >= number, saying=f"the mail of request {number}")
        found = re.search(r"approval-admin approve (\S+)", text(self.asked()[number - 1]))
        assert found
        return found[1]

    def asked(self) -> list[Mail]:
        return [mail for mail in self.smtp.mails if "[승인 필요]" in mail.subject]

    def decide(self, act: str, request_id: str, reason: str) -> str:
        """Decide as a person does, by the command in the mail; answers what it prints."""
        code = "from approval_mail.cli.admin import main; main()"
        command = [sys.executable, "-c", code, act, request_id, "--reason", reason, "--as", "lee"]
        done = subprocess.run(command, cwd=self.folder, env=self.settings, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr


@pytest.fixture
def guarded(settings: dict[str, str], smtp: SMTPServer, tmp_path: Path) -> Guarded:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    settings |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    for who in ("AUTHOR", "COMMITTER"):
        settings |= {f"GIT_{who}_NAME": "kim", f"GIT_{who}_EMAIL": "kim@example.com"}
    made = Guarded(tmp_path, settings, smtp)
    made.git("init", "--quiet")
    (tmp_path / "shown.txt").write_text("what the person is shown\n")
    made.git("add", "shown.txt")
    return made


def test_the_mcp_server_commits_what_a_person_has_approved_and_nothing_else(start: Start, guarded: Guarded) -> None:
    start("worker")

    async def session(client: Client) -> None:
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == ["git_commit"], "there is none to decide with"

        def commit() -> asyncio.Task[CallToolResult]:
            return asyncio.create_task(client.call_tool("git_commit", {"message": "fix"}))

        (guarded.folder / "long.txt").write_text("\t" * 1_000)
        guarded.git("add", "long.txt")
        ran, why = said(await commit())
        assert (ran, "a person has to see it all" in why) == (False, True)
        guarded.git("rm", "--quiet", "--cached", "long.txt")

        rejected = commit()
        guarded.decide("reject", await guarded.request_id(1), "not today")
        assert said(await rejected) == (False, "Error executing tool git_commit: Not permitted: rejected not today")

        abandoned = commit()
        request_id = await guarded.request_id(2)
        abandoned.cancel()
        with suppress(asyncio.CancelledError):
            await abandoned
        await asyncio.to_thread(
            wait_for, lambda: "cancelled" in guarded.decide("approve", request_id, "late"), saying="it withdrawn"
        )

        smuggling = commit()
        request_id = await guarded.request_id(3)
        (guarded.folder / "smuggled.txt").write_text("what the person is not shown\n")
        guarded.git("add", "smuggled.txt")
        guarded.decide("approve", request_id, "fine")
        ran, why = said(await smuggling)
        assert (ran, "has changed since" in why) == (False, True)
        guarded.git("rm", "--quiet", "--cached", "smuggled.txt")

        assert guarded.git("rev-list", "--all") == ""
        approved = commit()
        guarded.decide("approve", await guarded.request_id(4), "looks fine")
        ran, what = said(await approved)
        assert (ran, "shown.txt" in what) == (True, True)

    async def drive() -> None:
        async with guarded.agent() as client:
            await session(client)

    asyncio.run(drive())
    assert guarded.git("log", "--all", "--name-only", "--format=%s").split() == ["fix", "shown.txt"]
    assert all("  +what the person is shown" in text(mail).splitlines() for mail in guarded.asked())
    assert [subject for _, subject in mails(guarded.smtp, 7)] == [
        "[거부됨] git_commit 도구",
        *["[승인 필요] git_commit 도구"] * 4,
        *["[승인됨] git_commit 도구"] * 2,
    ]


def said(result: CallToolResult) -> tuple[bool, str]:
    """Whether the tool ran, and what the agent reads."""
    [content] = result.content
    assert isinstance(content, TextContent)
    return not result.is_error, content.text


def test_the_mcp_server_does_not_commit_when_nobody_answers(start: Start, guarded: Guarded) -> None:
    start("worker")

    async def session() -> None:
        async with guarded.agent(APPROVAL_TIMEOUT_SECONDS="1") as client:
            ran, why = said(await client.call_tool("git_commit", {"message": "fix"}))
            assert (ran, "Not permitted: expired" in why) == (False, True)

    asyncio.run(session())
    assert guarded.git("rev-list", "--all") == ""


HOST = """
from celery import current_app
from examples import own_celery_app
assert current_app.main == "releases"
print(own_celery_app.ask.delay("web-1.2", "kim").id)
"""


def test_a_celery_app_of_its_own_stays_the_default_and_asks(
    start: Start, begin: Begin, settings: dict[str, str], smtp: SMTPServer, tmp_path: Path
) -> None:
    start("worker")
    begin("own_celery_app", "--without-mingle")
    request_id = output("python", "-c", HOST, folder=tmp_path, settings=settings)
    answer = json.dumps([request_id, "kim", "lee", True, "looks fine"])
    call = ("celery", "-A", "examples.own_celery_app", "call", "releases.decide", "--args", answer)
    output(*call, folder=tmp_path, settings=settings)
    assert mails(smtp, 2) == [(OPERATOR, "[승인 필요] release 도구"), (OPERATOR, "[승인됨] release 도구")]
    assert all(request_id in text(mail) for mail in smtp.mails)


@pytest.mark.parametrize(
    ("example", "ask"),
    [
        ("django_app", lambda site: site.post_form("/requests", "kim", tool="deploy")),
        ("fastapi_app", lambda site: site.post_json("/tools/git_commit", user="kim", arguments={})),
        ("flask_app", lambda site: site.post_form("/payouts", "kim", amount="1", to="Ham GmbH")),
    ],
    ids=["django", "fastapi", "flask"],
)
def test_an_application_answers_while_notifications_are_off(
    serve: Serve, example: str, ask: Callable[[Site], Answer]
) -> None:
    assert ask(serve(example, **SWITCHED_OFF))[0] == 202


def test_the_mcp_server_runs_nothing_while_nobody_can_be_asked(guarded: Guarded) -> None:
    async def session() -> None:
        async with guarded.agent(**SWITCHED_OFF) as client:
            ran, _ = said(await client.call_tool("git_commit", {"message": "fix"}))
            assert not ran

    asyncio.run(session())
    assert guarded.git("rev-list", "--all") == ""


def test_a_celery_task_succeeds_while_notifications_are_off(
    begin: Begin, settings: dict[str, str], tmp_path: Path
) -> None:
    worker = begin("own_celery_app", "--without-mingle", "--loglevel=INFO", **SWITCHED_OFF)
    output("python", "-c", HOST, folder=tmp_path, settings=settings)
    worker.wait_for_line("succeeded in")
