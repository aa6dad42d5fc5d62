"""`approval-mail api` as an operator starts it, and Swagger UI as a person uses it without internet access."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from approval_mail.api.keys import KeyFile, Role
from tests.acceptance.conftest import Run
from tests.rig.browser import browser_page, picture
from tests.rig.programs import Program
from tests.rig.redis_server import free_port
from tests.rig.waiting import wait_for


class Server(Program):
    """`approval-mail api` on a free port."""

    def __init__(self, *arguments: str, folder: Path, settings: dict[str, str]) -> None:
        self.port = free_port()
        code = "from approval_mail.cli import main; main()"
        command = (sys.executable, "-c", code, "api", "--port", str(self.port), *arguments)
        super().__init__(*command, folder=folder, settings=settings, name="api")

    def url(self, path: str) -> str:
        return f"http://localhost:{self.port}{path}"

    def wait(self) -> Server:
        self.wait_for_line(f"Serving approvals on http://127.0.0.1:{self.port}")
        return self


Serve = Callable[..., Server]


@pytest.fixture
def serve(settings: dict[str, str], tmp_path: Path) -> Iterator[Serve]:
    running: list[Server] = []

    def begin(*arguments: str, **changes: str) -> Server:
        running.append(Server(*arguments, folder=tmp_path, settings={**settings, **changes}))
        return running[-1].wait()

    yield begin
    for server in running:
        server.kill()


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "api_keys")


def status(url: str, body: bytes | None = None, **headers: str) -> int:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, named), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_without_a_key_file_it_serves_this_machine_and_says_so(serve: Serve) -> None:
    server = serve()
    assert "No APPROVAL_API_KEYS_FILE: programs of this machine alone are served" in server.output()
    assert status(server.url("/api/stats")) == 200
    assert status(server.url("/api/stats"), X_Forwarded_For="10.0.0.1") == 403
    port = int(server.url("/").rsplit(":", 1)[1].strip("/"))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as proxy:
        proxy.sendall(f"GET /api/stats HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        assert proxy.recv(100).split()[1] == b"403", "older proxies ask like this, for whoever asks them"
    assert server.stop() == 0
    assert "GET /api/stats 200" in server.output()


@pytest.mark.parametrize(
    ("arguments", "changes", "told"),
    [
        (["--host", "0.0.0.0"], {}, "--host 0.0.0.0 is reached from elsewhere"),
        (["--host", "::"], {}, "--host :: is reached from elsewhere"),
        (["--host", "example.com"], {}, "--host example.com is reached from elsewhere"),
        ([], {"APPROVAL_PUBLIC_URL": "https://approve.example.com"}, "APPROVAL_PUBLIC_URL=https://approve.example.com"),
        ([], {"APPROVAL_PUBLIC_URL": "http://localhost.example.com"}, "is reached from elsewhere"),
    ],
)
def test_without_a_key_file_nothing_is_opened_to_everyone(
    run: Run, arguments: list[str], changes: dict[str, str], told: str
) -> None:
    secret = {"APPROVAL_LINK_SECRET": "0123456789abcdef" * 2} if changes else {}
    done = run("api", "--port", "0", *arguments, **changes, **secret)
    assert done.returncode == 2
    assert told in done.stderr
    assert "approval-admin key create --name NAME --role requester" in done.stderr


def test_a_key_file_that_lets_nobody_in_is_told_at_the_start(run: Run, keys: KeyFile) -> None:
    done = run("api", "--port", "0", APPROVAL_API_KEYS_FILE=str(keys.path))
    assert (done.returncode, f"{keys.path} does not exist; make a key" in done.stderr) == (2, True)
    keys.path.write_text("# mine\nnonsense\n")
    done = run("api", "--port", "0", APPROVAL_API_KEYS_FILE=str(keys.path))
    assert (done.returncode, f"{keys.path}, line 2 is damaged" in done.stderr) == (2, True)
    assert len(done.stderr.splitlines()) == 1


def test_a_key_made_while_it_runs_is_let_in_at_once_and_out_once_revoked(
    serve: Serve, keys: KeyFile, settings: dict[str, str], tmp_path: Path
) -> None:
    keys.add("first", Role.APPROVER)
    server = serve(APPROVAL_API_KEYS_FILE=str(keys.path))

    def admin(*arguments: str) -> str:
        code = "from approval_mail.cli.admin.key import command; command()"
        command = [sys.executable, "-c", code, *arguments, "--file", str(keys.path)]
        return subprocess.run(
            command, cwd=tmp_path, env=settings, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    made = admin("create", "--name", "ci", "--role", "requester").removesuffix("\n")
    body = b'{"tool_name": "git_commit"}'
    headers = {"X_API_Key": made, "X_User_ID": "kim", "Content_Type": "application/json"}
    assert status(server.url("/api/approvals"), body, **headers) == 201
    admin("revoke", "ci")
    assert status(server.url("/api/approvals"), body, **headers) == 401
    assert made not in server.output()


def test_a_port_in_use_is_one_sentence(run: Run, serve: Serve) -> None:
    done = run("api", "--port", str(serve().port))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(
        "cannot be listened on: Address already in use; choose another: --port"
    )


def test_connections_that_are_held_end_at_half_of_the_files_a_process_may_open(serve: Serve) -> None:
    server = serve()
    with contextlib.ExitStack() as held:
        for _ in range(512):
            held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
        wait_for(lambda: status(server.url("/health")) == 503, saying="the refusal of one more")
    wait_for(lambda: status(server.url("/health")) == 200, saying="an answer once they have gone")


@pytest.mark.parametrize("endless", ["GET / HTTP/1.1\r\nA: ", "GET /"])
def test_a_head_without_an_end_is_not_read_for_ever(serve: Serve, endless: str) -> None:
    """Whoever sends it needs no key, and the server's memory is everybody's."""
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as stranger:
        stranger.sendall(endless.encode())
        with pytest.raises(ConnectionError):
            stranger.sendall(b"a" * 64 * 1024 * 1024)
    assert status(server.url("/health")) == 200


def test_other_commands_load_neither_the_api_nor_what_it_needs(settings: dict[str, str], tmp_path: Path) -> None:
    code = (
        "import sys, approval_mail.cli, approval_mail.hooks, approval_mail.cli.admin.key\n"
        "print([name for name in ('fastapi', 'starlette', 'uvicorn', 'limits', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=settings, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_without_the_extra_it_says_what_to_install(settings: dict[str, str], tmp_path: Path) -> None:
    code = "import sys; sys.modules['uvicorn'] = None; from approval_mail.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "api"],
        cwd=tmp_path,
        env=settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (2, "this needs the extra api: in the checkout, pip install '.[api]'\n")


@pytest.mark.parametrize(("name", "width"), [("phone", 390), ("desktop", 1200)])
def test_swagger_ui_asks_and_approves_without_internet_access(
    serve: Serve, keys: KeyFile, tmp_path: Path, name: str, width: int
) -> None:
    made = {role: keys.add(role.value, role) for role in Role}
    server = serve(APPROVAL_API_KEYS_FILE=str(keys.path))
    with browser_page(width=width) as page:
        elsewhere: list[str] = []

        def loopback_only(route: Any) -> None:
            if urlsplit(route.request.url).hostname in ("localhost", "127.0.0.1"):
                route.continue_()
            else:
                elsewhere.append(route.request.url)
                route.abort()

        troubles: list[str] = []
        page.route("**/*", loopback_only)
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(server.url("/docs"))

        def call(title: str, key: str, fields: dict[str, str], body: str | None = None) -> str:
            page.get_by_role("button", name="Authorize").first.click()
            dialog = page.locator(".auth-container")
            dialog.wait_for()
            if dialog.get_by_role("button", name="Remove authorization").count():
                dialog.get_by_role("button", name="Remove authorization").click()
            dialog.get_by_role("textbox").fill(key)
            dialog.get_by_role("button", name="Apply").click()
            dialog.get_by_role("button", name="Close").click()
            block = page.locator(".opblock", has_text=title)
            block.locator(".opblock-summary").click()
            block.get_by_role("button", name="Try it out").click()
            for field, text in fields.items():
                block.locator(f'tr[data-param-name="{field}"] input').fill(text)
            if body is not None:
                block.locator("textarea.body-param__text").fill(body)
            block.get_by_role("button", name="Execute").click()
            answer = block.locator(".live-responses-table tr.response td.response-col_status")
            answer.wait_for()
            found = answer.inner_text().strip()
            answer.scroll_into_view_if_needed()
            picture(page, f"swagger-{name}-{title.split(maxsplit=1)[0].lower()}.png", tmp_path)
            block.locator(".opblock-summary").click()
            return found

        page.get_by_text("Ask for permission").wait_for()
        picture(page, f"swagger-{name}.png", tmp_path)
        body = '{"tool_name": "git_commit", "request_id": "abc12345"}'
        assert call("Ask for permission", made[Role.REQUESTER], {"X-User-ID": "kim"}, body).startswith("201")
        fields = {"request_id": "abc12345", "X-User-ID": "lee"}
        assert call("Give permission", made[Role.APPROVER], fields, '{"reason": "fine"}').startswith("200")
        assert (elsewhere, troubles) == ([], [])
    wait_for(lambda: "POST /api/approvals/{request_id}/approve 200" in server.output(), saying="its log line")
