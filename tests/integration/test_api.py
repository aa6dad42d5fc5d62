"""The HTTP API over a real store: who may do what, and what is answered when something is wrong."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from prometheus_client.parser import text_string_to_metric_families
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from approval_mail import metrics, services
from approval_mail.api import server
from approval_mail.api.app import create_app
from approval_mail.api.gate import MAX_BODY
from approval_mail.api.keys import KeyFile, Role
from approval_mail.api.models import StatusOut
from approval_mail.api.recipients import Recipients
from approval_mail.approvals import Approval, Status, desks
from approval_mail.links import Link, asked_at
from approval_mail.metrics import Scrapes
from approval_mail.settings import Settings
from tests.rig.redis_server import RedisServer

Headers = dict[str, Any]
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "api_keys")


@pytest.fixture
def requester(keys: KeyFile) -> Headers:
    return {"X-API-Key": keys.add("the-requester", Role.REQUESTER), "X-User-ID": "kim"}


@pytest.fixture
def approver(keys: KeyFile) -> Headers:
    return {"X-API-Key": keys.add("the-approver", Role.APPROVER), "X-User-ID": "lee"}


@pytest.fixture
def observer(keys: KeyFile) -> Headers:
    return {"X-API-Key": keys.add("the-observer", Role.OBSERVER), "X-User-ID": "prometheus"}


def serve(
    redis_url: str,
    keys: KeyFile | None,
    *,
    address: str = "127.0.0.1",
    look: Callable[[], bytes] = metrics.exposition,
) -> TestClient:
    services.configure(Settings(redis_url=redis_url, enabled=True))
    app = create_app(desks.for_operators(), keys, recipients=Recipients(["@example.com"]), scrapes=Scrapes(look))
    return TestClient(app, base_url="http://localhost:8020", client=(address, 1), raise_server_exceptions=False)


@pytest.fixture
def api(redis_server: RedisServer, keys: KeyFile, requester: Headers, approver: Headers) -> TestClient:
    return serve(redis_server.url, keys)


@pytest.fixture
def local(redis_server: RedisServer) -> TestClient:
    """The API without a key file."""
    return serve(redis_server.url, None)


@pytest.fixture
def ask(api: TestClient, requester: Headers) -> Callable[..., str]:
    def make(**body: Any) -> str:
        answer = api.post("/api/approvals", headers=requester, json={"tool_name": "git_commit", **body})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["request_id"])

    return make


def fault(answer: Any) -> tuple[int, str, str | None]:
    """Status, code and field of an answer, which has a sentence too and nothing else."""
    body = answer.json()
    assert body.pop("message")
    body.pop("approval", None)
    assert body.keys() == {"code", "field"}
    return answer.status_code, body["code"], body["field"]


def test_a_request_is_asked_read_and_approved(api: TestClient, requester: Headers, approver: Headers) -> None:
    asked = api.post(
        "/api/approvals",
        headers=requester | {"X-User-ID": "김철수".encode()},
        json={
            "tool_name": "git_commit",
            "arguments": {"message": "fix", "password": "hunter2"},
            "timeout_seconds": 60,
            "email_to": ["a@example.com"],
            "request_id": "abc-1",
            "extra": {"project_path": "/srv"},
        },
    )
    assert asked.status_code == 201
    found = asked.json()
    assert (found["request_id"], found["status"], found["user_id"]) == ("abc-1", "pending", "김철수")
    assert found["arguments"] == {"message": "fix", "password": "[redacted]"}
    assert desks.for_operators().read("abc-1").extra == {"project_path": "/srv"}
    assert api.get("/api/approvals/abc-1", headers=approver).json() == found
    status = api.get("/api/approvals/abc-1/status", headers={**approver, "X-User-ID": "admin"}).json()
    assert status["status"] == "pending"
    assert 50 < status["seconds_left"] <= 60

    approved = api.post("/api/approvals/abc-1/approve", headers=approver, json={"reason": "fine"})
    assert approved.status_code == 200
    assert {"status": "approved", "responder_id": "lee", "reason": "fine"}.items() <= approved.json().items()
    status = api.get("/api/approvals/abc-1/status", headers=requester).json()
    assert status["seconds_left"] == 0
    assert status["ended_at"] == approved.json()["ended_at"]


def test_an_unanswered_request_is_expired(api: TestClient, approver: Headers, ask: Callable[..., str]) -> None:
    name = ask(timeout_seconds=0.001)
    time.sleep(0.002)
    assert api.get(f"/api/approvals/{name}/status", headers=approver).json()["status"] == "expired"


def test_conflicts_carry_the_request_as_it_stands(
    api: TestClient, requester: Headers, approver: Headers, ask: Callable[..., str]
) -> None:
    name = ask(request_id="r1")
    again = api.post("/api/approvals", headers=requester, json={"tool_name": "x", "request_id": "r1"})
    assert fault(again) == (409, "exists", "request_id")
    assert again.json()["approval"] == api.get("/api/approvals/r1", headers=requester).json()

    assert api.post(f"/api/approvals/{name}/reject", headers=approver, json={"reason": "no"}).status_code == 200
    for who, action in ((approver, "approve"), (approver, "reject"), (requester, "cancel")):
        late = api.post(f"/api/approvals/{name}/{action}", headers=who)
        assert fault(late) == (409, "not_pending", None)
        assert (late.json()["approval"]["status"], late.json()["approval"]["responder_id"]) == ("rejected", "lee")
    late = api.post(f"/api/approvals/{name}/extend", headers=requester, json={"seconds": 10})
    assert late.json()["approval"]["status"] == "rejected"


def test_lists_are_filtered_and_paged(api: TestClient, approver: Headers, ask: Callable[..., str]) -> None:
    names = [ask(tool_name=tool) for tool in ("a", "b", "a", "a")]
    api.post(f"/api/approvals/{names[3]}/approve", headers=approver)
    seen, cursor = [], None
    while True:
        query = {"tool_name": "a", "status": "pending", "limit": 1} | ({"cursor": cursor} if cursor else {})
        page = api.get("/api/approvals", headers=approver, params=query).json()
        seen += [row["request_id"] for row in page["approvals"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert sorted(seen) == sorted([names[0], names[2]])
    assert api.get("/api/approvals?user_id=nobody", headers=approver).json() == {"approvals": [], "cursor": None}
    assert api.get("/api/stats", headers=approver).json()["pending"] == 3


#: Method, path, body, whether a requester's key and an approver's key may.
ROLES = [
    ("POST", "/api/approvals", {"tool_name": "x"}, True, False),
    ("POST", "/api/approvals/{}/approve", {}, False, True),
    ("POST", "/api/approvals/{}/reject", {"reason": "no"}, False, True),
    ("POST", "/api/approvals/{}/cancel", {}, True, False),
    ("POST", "/api/approvals/{}/extend", {"seconds": 5}, True, True),
    ("GET", "/api/approvals", None, True, True),
    ("GET", "/api/approvals/{}", None, True, True),
    ("GET", "/api/approvals/{}/status", None, True, True),
    ("GET", "/api/stats", None, True, True),
]


@pytest.mark.parametrize(("method", "path", "body", "for_requester", "for_approver"), ROLES)
def test_each_role_may_do_its_part_alone(
    api: TestClient,
    requester: Headers,
    approver: Headers,
    observer: Headers,
    ask: Callable[..., str],
    method: str,
    path: str,
    body: dict[str, Any] | None,
    for_requester: bool,
    for_approver: bool,
) -> None:
    for headers, allowed in ((requester, for_requester), (approver, for_approver), (observer, False)):
        name = ask()
        answer = api.request(method, path.format(name), headers=headers, json=body)
        if allowed:
            assert answer.status_code in (200, 201), answer.text
        else:
            assert fault(answer) == (403, "forbidden", "X-API-Key")
            assert desks.for_operators().read(name).status == "pending"


def test_every_endpoint_of_the_document_is_in_the_table_of_roles(api: TestClient) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    documented = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert documented == {(method, path.replace("{}", "{request_id}")) for method, path, *_ in ROLES} | {
        ("GET", "/health")
    }


@pytest.mark.parametrize("key", [None, "", "am_wrong"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/approvals/{known}"),
        ("GET", "/api/approvals/unknown"),
        ("GET", "/api/approvals/%00"),
        ("DELETE", "/api/approvals/{known}"),
        ("GET", "/api/nothing"),
        ("GET", "/api"),
        ("POST", "/api/approvals/{known}/approve"),
        ("POST", "/api/approvals/unknown/approve"),
    ],
)
def test_without_a_valid_key_nothing_is_told_but_that(
    api: TestClient, ask: Callable[..., str], method: str, path: str, key: str | None
) -> None:
    headers = {"X-User-ID": "lee", **JSON, **({} if key is None else {"X-API-Key": key})}
    answer = api.request(method, path.format(known=ask()), headers=headers, content=b"{" if method == "POST" else None)
    assert fault(answer) == (401, "unauthenticated", "X-API-Key")
    assert answer.headers["WWW-Authenticate"]


def test_the_name_of_a_person_proves_nothing(api: TestClient) -> None:
    assert fault(api.get("/api/stats", headers={"X-User-ID": "admin"}))[0] == 401


@pytest.mark.parametrize("action", ["", "/approve", "/reject", "/cancel"])
@pytest.mark.parametrize("name", [None, "", "   ", "x" * 201])
def test_who_asks_or_decides_is_named(
    api: TestClient, requester: Headers, approver: Headers, ask: Callable[..., str], action: str, name: str | None
) -> None:
    request_id = ask()
    key = (approver if action in ("/approve", "/reject") else requester)["X-API-Key"]
    headers = {"X-API-Key": key} | ({} if name is None else {"X-User-ID": name})
    path, body = (f"/api/approvals/{request_id}{action}", {}) if action else ("/api/approvals", {"tool_name": "x"})
    assert fault(api.post(path, headers=headers, json=body)) == (422, "invalid", "X-User-ID")
    assert desks.for_operators().read(request_id).status == "pending"


#: What json reads and a function that walks it by calling itself would not survive.
DEEP = b'{"tool_name": "x", "arguments": ' + b"[" * 600 + b"]" * 600 + b"}"


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"{", "malformed", "body"),
        (b"\xff\xfe\xfd", "malformed", "body"),
        (b"[" * 200_000, "malformed", "body"),
        (b'{"tool_name": "x", "arguments": ' + b"9" * 5000 + b"}", "malformed", "body"),
        (b"[]", "invalid", "body"),
        (b"", "invalid", "body"),
        (b"{}", "invalid", "tool_name"),
        (b'{"tool_name": ""}', "invalid", "tool_name"),
        (b'{"tool_name": 7}', "invalid", "tool_name"),
        (b'{"tool_name": "\\ud800"}', "invalid", "tool_name"),
        (b'{"tool_name": "x", "nonsense": 1}', "invalid", "nonsense"),
        (b'{"tool_name": "x", "\\ud800": 1}', "invalid", "body"),
        (b'{"tool_name": "x", "timeout_seconds": 1e999}', "invalid", "timeout_seconds"),
        (b'{"tool_name": "x", "timeout_seconds": true}', "invalid", "timeout_seconds"),
        (b'{"tool_name": "x", "timeout_seconds": -1}', "invalid", "timeout_seconds"),
        (b'{"tool_name": "x", "arguments": NaN}', "invalid", "arguments"),
        (b'{"tool_name": "x", "email_to": ["nobody"]}', "invalid", "email_to"),
        (b'{"tool_name": "x", "request_id": "a b"}', "invalid", "request_id"),
        (b'{"tool_name": "x", "extra": {"user_id": "admin"}}', "invalid", "extra"),
        (b'{"tool_name": "x", "extra": {"self": 1}}', "invalid", "extra"),
        (b'{"tool_name": "x", "extra": {"requested_at": "2000-01-01"}}', "invalid", "extra"),
        (DEEP, "invalid", "arguments"),
        (
            json.dumps({"tool_name": "x", "extra": {"a": "b" * 100, "c": ["d" * 3000] * 40}}).encode(),
            "invalid",
            "extra",
        ),
    ],
)
def test_what_is_malformed_names_the_field(
    api: TestClient, requester: Headers, body: bytes, code: str, field: str
) -> None:
    answer = api.post("/api/approvals", headers={**requester, **JSON}, content=body)
    assert fault(answer) == (422, code, field)
    assert desks.for_operators().stats().pending == 0


def test_nul_bytes_and_lone_surrogates_become_marks_that_are_seen(api: TestClient, requester: Headers) -> None:
    body = rb'{"tool_name": "a\u0000b", "arguments": {"\udfff": ["\u0000\ud800"]}}'
    answer = api.post("/api/approvals", headers={**requester, **JSON}, content=body)
    assert answer.status_code == 201
    assert (answer.json()["tool_name"], answer.json()["arguments"]) == ("a\ufffdb", {"\ufffd": ["\ufffd\ufffd"]})


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/approvals?limit=0", "limit"),
        ("/api/approvals?limit=1000", "limit"),
        ("/api/approvals?status=open", "status"),
        ("/api/approvals?cursor=nonsense", "cursor"),
        ("/api/approvals?cursor=" + "9" * 500, "cursor"),
        ("/api/approvals/%00", "request_id"),
        ("/api/approvals/%ff", "request_id"),
        ("/api/approvals/" + "a" * 201, "request_id"),
    ],
)
def test_a_malformed_question_names_the_field(api: TestClient, requester: Headers, path: str, field: str) -> None:
    assert fault(api.get(path, headers=requester)) == (422, "invalid", field)


def test_a_body_is_json_or_nothing(api: TestClient, requester: Headers) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        headers = {**requester, "Content-Type": content_type}
        answer = api.post("/api/approvals", headers=headers, content=b'{"tool_name": "x"}')
        assert fault(answer) == (422, "invalid", "Content-Type")


def test_a_long_body_is_refused_however_it_is_announced(api: TestClient, requester: Headers) -> None:
    body = b'{"tool_name": "' + b"x" * MAX_BODY + b'"}'
    parts: Iterator[bytes] = iter([body[:1000], body[1000:]])
    for content in (body, parts):
        answer = api.post("/api/approvals", headers={**requester, **JSON}, content=content)
        assert fault(answer) == (413, "too_large", "body")
    assert fault(api.get("/api/stats", headers={**requester, "Content-Length": "9" * 30}))[0] == 413


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/nothing", (404, "not_found", None)),
        ("GET", "/api/nothing", (404, "not_found", None)),
        ("GET", "/api/approvals/", (404, "not_found", None)),
        ("GET", "/api/approvals/unknown", (404, "unknown_approval", "request_id")),
        ("GET", "/api/approvals/unknown/status", (404, "unknown_approval", "request_id")),
        ("POST", "/api/approvals/unknown/extend", (404, "unknown_approval", "request_id")),
        ("DELETE", "/api/approvals", (405, "method_not_allowed", None)),
        ("GET", "/api/approvals/x/approve", (405, "method_not_allowed", None)),
        ("POST", "/docs", (405, "method_not_allowed", None)),
    ],
)
def test_what_is_not_there_is_said_in_the_same_form(
    api: TestClient, requester: Headers, method: str, path: str, expected: tuple[int, str, str | None]
) -> None:
    body = {"seconds": 5} if path.endswith("extend") else None
    answer = api.request(method, path, headers=requester, json=body)
    assert fault(answer) == expected
    assert answer.status_code != 405 or answer.headers["Allow"]


def test_failures_are_counted_by_address_and_spare_those_with_a_key(
    redis_server: RedisServer, keys: KeyFile, requester: Headers, api: TestClient
) -> None:
    for _ in range(10):
        assert fault(api.get("/api/stats"))[0] == 401
    blocked = api.get("/api/stats")
    assert fault(blocked) == (429, "too_many_failures", "X-API-Key")
    assert 1 <= int(blocked.headers["Retry-After"]) <= 60
    assert api.get("/api/stats", headers=requester).status_code == 200
    elsewhere = TestClient(api.app, base_url="http://localhost", client=("127.0.0.2", 1))
    assert elsewhere.get("/api/stats").status_code == 401
    assert elsewhere.get("/api/stats", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 401


def test_an_ipv6_customer_has_one_count(api: TestClient) -> None:
    def status(address: str) -> int:
        return TestClient(api.app, client=(address, 1)).get("/api/stats").status_code

    assert [status(f"2001:db8::{number:x}") for number in range(1, 12)] == [401] * 10 + [429]
    assert status("2001:db8:0:1::1") == 401


def test_a_key_ends_and_begins_while_the_server_runs(api: TestClient, keys: KeyFile, requester: Headers) -> None:
    made = keys.add("later", Role.APPROVER)
    assert api.get("/api/stats", headers={"X-API-Key": made}).status_code == 200
    KeyFile(keys.path).revoke("the-requester")
    assert api.get("/api/stats", headers=requester).status_code == 401
    assert api.get("/api/stats", headers={"X-API-Key": made}).status_code == 200


@pytest.mark.parametrize(
    ("configured", "allowed", "refused"),
    [
        (
            {"email_to": ("boss@example.com",), "approval_escalate_to": ("Head@example.com",)},
            [["boss@EXAMPLE.com"], ["Boss@example.com", "head@example.com"], [], None],
            [["eve@example.com"], ["boss@example.com,eve@example.org"], ["boss@example.com", " eve@example.org"]],
        ),
        (
            {"email_to": ("boss@example.com",), "approval_api_recipients": ("kim@example.org", "@Example.net")},
            [["kim@example.org"], ["any.one@example.NET"]],
            [["boss@example.com"], ["kim@example.net.evil.example"], ["kim@sub.example.net"], ["lee@example.org"]],
        ),
        ({"email_to": ("boss@example.com",), "routes": Path("routes.toml")}, [None], [["boss@example.com"]]),
    ],
)
@pytest.mark.parametrize("keyless", [False, True])
def test_callers_name_only_recipients_that_the_operator_lets_them(
    redis_server: RedisServer,
    keys: KeyFile,
    requester: Headers,
    configured: dict[str, Any],
    allowed: list[list[str] | None],
    refused: list[list[str]],
    keyless: bool,
) -> None:
    path = None if keyless else keys.path
    services.configure(Settings(redis_url=redis_server.url, approval_api_keys_file=path, **configured))
    api = TestClient(server.from_settings("127.0.0.1"), base_url="http://localhost:8020", client=("127.0.0.1", 1))

    def ask(email_to: list[str] | None) -> Any:
        return api.post("/api/approvals", headers=requester, json={"tool_name": "x", "email_to": email_to})

    for email_to in refused:
        answer = ask(email_to)
        assert fault(answer) == (422, "invalid", "email_to")
        assert "APPROVAL_API_RECIPIENTS" in answer.json()["message"]
    assert desks.for_operators().stats().pending == 0
    assert [ask(email_to).status_code for email_to in allowed] == [201] * len(allowed)
    answer = ask(["nobody"])
    assert fault(answer) == (422, "invalid", "email_to")
    assert "APPROVAL_API_RECIPIENTS" not in answer.json()["message"], "that is no address at all"


@pytest.mark.parametrize(("left", "told"), [(42, 42), (-1, 0)])
def test_the_time_left_is_reckoned_by_the_clock_of_redis(left: int, told: int) -> None:
    deadline = datetime(2025, 10, 25, 6, 30, tzinfo=timezone.utc)
    read = Approval("r1", "kim", "git_commit", None, deadline, deadline, Status.PENDING)
    assert StatusOut.of(replace(read, read_at=deadline - timedelta(seconds=left))).seconds_left == told


@pytest.mark.parametrize("damage", [b"nonsense\n", b"", None])
def test_a_key_file_that_cannot_be_used_lets_nobody_in(
    api: TestClient, keys: KeyFile, requester: Headers, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    sound = keys.path.read_bytes()
    if damage is None:
        keys.path.unlink()
    else:
        keys.path.write_bytes(sound + damage if damage else b"")
    for path in ("/api/stats", "/health", "/api/approvals"):
        answer = api.get(path, headers=requester)
        assert fault(answer) == (503, "keys_unusable", None)
        assert answer.headers["Retry-After"] == "5"
    assert [str(keys.path) in record.message for record in caplog.records if record.levelno == logging.ERROR] == [True]
    keys.path.write_bytes(sound)
    assert api.get("/api/stats", headers=requester).status_code == 200


def test_without_redis_nothing_is_known_and_nothing_approved(
    own_redis: RedisServer, keys: KeyFile, requester: Headers, approver: Headers
) -> None:
    api = serve(own_redis.url, keys)
    assert api.get("/health").json() == {"status": "ok"}
    own_redis.kill()
    for method, path, body, *_ in ROLES:
        headers = approver if path.endswith(("/approve", "/reject")) else requester
        answer = api.request(method, path.format("r1"), headers=headers, json=body)
        assert fault(answer) == (503, "unavailable", None)
        assert answer.headers["Retry-After"] == "5"
    assert fault(api.get("/health")) == (503, "unavailable", None)


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"Host": "rebound.example"}, "Host"),
        ({"Host": "localhost.example:8020"}, "Host"),
        ({"Host": "x@localhost"}, "Host"),
        ({"Host": ""}, "Host"),
        ({"X-Forwarded-For": "10.0.0.1"}, "X-Forwarded-For"),
        ({"Forwarded": "for=10.0.0.1"}, "Forwarded"),
        ({"X-Forwarded-Proto": "https"}, "X-Forwarded-Proto"),
        ({"X-Forwarded-Server": "x"}, "X-Forwarded-Server"),
        ({"X-Forwarded": "for=10.0.0.1"}, "X-Forwarded"),
        ({"X-Real-IP": "10.0.0.1"}, "X-Real-IP"),
        ({"X-Client-IP": "10.0.0.1"}, "X-Client-IP"),
        ({"True-Client-IP": "10.0.0.1"}, "True-Client-IP"),
        ({"CF-Connecting-IP": "10.0.0.1"}, "CF-Connecting-IP"),
        ({"Via": "1.1 proxy"}, "Via"),
        ({"Sec-Fetch-Site": "cross-site"}, "Sec-Fetch-Site"),
        ({"Sec-Fetch-Site": "same-site"}, "Sec-Fetch-Site"),
        ({"Origin": "http://evil.example"}, "Origin"),
        ({"Origin": "http://localhost:3000"}, "Origin"),
        ({"Origin": "null"}, "Origin"),
        ({"Origin": "http://["}, "Origin"),
        ({"Origin": ""}, "Origin"),
    ],
)
def test_without_keys_strangers_are_refused(local: TestClient, headers: Headers, field: str) -> None:
    body = {"tool_name": "x"}
    answer = local.post("/api/approvals", headers={"X-User-ID": "kim", **headers}, json=body)
    assert fault(answer) == (403, "not_local", field)
    assert desks.for_operators().stats().pending == 0


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost:8020"},
        {"Host": "127.0.0.1"},
        {"Host": "[::1]:8020"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:8020"},
    ],
)
def test_without_keys_a_program_of_this_machine_has_every_role(local: TestClient, headers: Headers) -> None:
    headers = {"X-User-ID": "kim", **headers}
    asked = local.post("/api/approvals", headers=headers, json={"tool_name": "x"})
    assert asked.status_code == 201, asked.text
    assert local.post(f"/api/approvals/{asked.json()['request_id']}/approve", headers=headers).status_code == 200


def test_without_keys_a_second_host_is_refused(local: TestClient) -> None:
    answer = local.get("/api/stats", headers=[("Host", "localhost:8020"), ("Host", "evil.example")])
    assert fault(answer) == (403, "not_local", "Host")


def test_without_keys_other_machines_are_refused(redis_server: RedisServer) -> None:
    assert fault(serve(redis_server.url, None, address="192.0.2.1").get("/health")) == (403, "not_local", None)
    assert serve(redis_server.url, None, address="::ffff:127.0.0.1").get("/health").status_code == 200


def test_a_line_is_logged_per_request_without_what_it_holds(
    api: TestClient, requester: Headers, ask: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "approval_mail.api")
    name = ask(request_id="very-private")
    api.get(f"/api/approvals/{name}/status", headers=requester)
    api.get("/api/stats", headers={"X-API-Key": "am_wrong"})
    api.get("/decide/a-token?reason=private")
    lines = [record.message for record in caplog.records if record.name == "approval_mail.api.gate"]
    assert [line.split(" ms ")[0].rsplit(" ", 1)[0] for line in lines] == [
        "POST /api/approvals 201",
        "GET /api/approvals/{request_id}/status 200",
        "GET - 401",
        "GET - 404",
    ]
    assert [line.split(" ms ")[1] for line in lines] == ["the-requester", "the-requester", "-", "-"]
    for secret in (requester["X-API-Key"], "am_wrong", "private", "a-token", "kim"):
        assert secret not in caplog.text


def test_answers_are_kept_by_nobody_and_read_as_what_they_are(api: TestClient, requester: Headers) -> None:
    for answer in (api.get("/api/stats", headers=requester), api.get("/api/stats"), api.get("/docs")):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


def test_damaged_links_are_counted_and_sound_ones_open_from_another_site(redis_server: RedisServer) -> None:
    secret = ("0123456789abcdef" * 2,)
    services.configure(
        Settings(redis_url=redis_server.url, approval_public_url="http://localhost:8020", approval_link_secret=secret)
    )
    local = TestClient(server.from_settings("127.0.0.1"), base_url="http://localhost:8020", client=("127.0.0.1", 1))
    links = services.links()
    assert links
    asked = desks.for_operators().ask(user_id="kim", tool_name="git_commit")
    name = asked.request_id
    sound = f"/decide/{links.token(Link(name, 'lee@example.com', 'approve', asked_at(asked.requested_at)))}"
    # A person follows it from a web mail, which is another site.
    assert local.get(sound, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
    assert local.get(sound, headers={"Host": "rebound.example"}).status_code == 403
    assert [local.get("/decide/damaged").status_code for _ in range(11)] == [404] * 10 + [429]
    assert local.get(sound).status_code == 200


def test_an_observer_learns_nothing_of_requests(api: TestClient, observer: Headers, ask: Callable[..., str]) -> None:
    for path in (f"/api/approvals/{ask()}", "/api/approvals/unknown", "/api/nothing", "/api"):
        assert fault(api.get(path, headers=observer)) == (403, "forbidden", "X-API-Key")


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", None])
def test_a_key_of_any_role_reads_the_metrics(api: TestClient, keys: KeyFile, role: Role, scheme: str | None) -> None:
    key = keys.add("it", role)
    answer = api.get("/metrics", headers={"Authorization": f"{scheme} {key}"} if scheme else {"X-API-Key": key})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    families = {family.name for family in text_string_to_metric_families(answer.text)}
    assert families == {row.name.removesuffix("_total") for row in metrics.ROWS}


def test_without_a_valid_key_there_are_no_metrics(
    redis_server: RedisServer, keys: KeyFile, observer: Headers, requester: Headers
) -> None:
    api = serve(redis_server.url, keys, look=lambda: pytest.fail("nobody may look"))
    key = observer["X-API-Key"]
    strangers: list[Headers] = [
        {},
        {"Authorization": f"Basic {key}"},
        {"Authorization": key},
        {"Authorization": "Bearer am_wrong"},
        {"Authorization": "Bearer"},
        {"X-API-Key": "am_wrong", "Authorization": f"Bearer {key}"},
    ]
    for headers in strangers:
        answer = api.get("/metrics", headers=headers)
        assert fault(answer) == (401, "unauthenticated", "X-API-Key")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert [api.get("/metrics").status_code for _ in range(5)] == [401] * 4 + [429]
    # Elsewhere a key is shown in one way alone.
    bearer = {"Authorization": f"Bearer {requester['X-API-Key']}"}
    assert fault(TestClient(api.app, client=("127.0.0.2", 1)).get("/api/stats", headers=bearer))[0] == 401


def test_without_keys_this_machine_alone_reads_the_metrics(redis_server: RedisServer) -> None:
    local = serve(redis_server.url, None, look=lambda: b"metrics")
    assert local.get("/metrics").text == "metrics"
    for headers in ({"Host": "rebound.example"}, {"Sec-Fetch-Site": "cross-site"}, {"X-Forwarded-For": "10.0.0.1"}):
        assert fault(local.get("/metrics", headers=headers))[:2] == (403, "not_local")
    elsewhere = serve(redis_server.url, None, address="192.0.2.1", look=lambda: b"metrics")
    assert fault(elsewhere.get("/metrics"))[:2] == (403, "not_local")


def test_without_redis_there_are_no_metrics_and_then_there_are(
    own_redis: RedisServer, keys: KeyFile, observer: Headers, caplog: pytest.LogCaptureFixture
) -> None:
    api = serve(own_redis.url, keys)
    own_redis.kill()
    for _ in range(2):
        answer = api.get("/metrics", headers=observer)
        assert fault(answer) == (503, "unavailable", None)
        assert answer.headers["Retry-After"] == "5"
    told = [record.message for record in caplog.records if record.name == "approval_mail.metrics.scrapes"]
    assert [line.startswith("There are no metrics: Redis cannot be used") for line in told] == [True]
    own_redis.start()
    assert api.get("/metrics", headers=observer).status_code == 200


def test_nobody_waits_for_a_slow_scrape(redis_server: RedisServer, keys: KeyFile, observer: Headers) -> None:
    looks, go_on = threading.Event(), threading.Event()

    def look() -> bytes:
        looks.set()
        assert go_on.wait(30)
        return b"metrics"

    # As a context, so that all requests are on one event loop.
    with serve(redis_server.url, keys, look=look) as api:
        found: list[str] = []
        scrape = threading.Thread(target=lambda: found.append(api.get("/metrics", headers=observer).text))
        scrape.start()
        assert looks.wait(10)
        health: list[int] = []
        asks = threading.Thread(target=lambda: health.append(api.get("/health").status_code))
        asks.start()
        asks.join(10)
        answered_meanwhile = list(health)
        go_on.set()
        scrape.join(10)
        asks.join(10)
    assert (answered_meanwhile, found) == ([200], ["metrics"])


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


#: Nothing about /health can be unsound.
QUESTIONS = [
    ("GET", "/health", GenerationMode.POSITIVE),
    *((method, path, mode) for method, path, *_ in ROLES for mode in GenerationMode),
]


@pytest.mark.parametrize(("method", "path", "mode"), QUESTIONS)
def test_every_answer_is_as_the_document_says(
    api: TestClient,
    requester: Headers,
    approver: Headers,
    ask: Callable[..., str],
    method: str,
    path: str,
    mode: GenerationMode,
) -> None:
    """What every caller is answered to sound and unsound questions; those of a request, also of ones that are there."""
    operation = schemathesis.openapi.from_asgi("/openapi.json", api.app)[path.replace("{}", "{request_id}")][method]
    statuses = set()
    ended = ask()
    desks.for_operators().cancel(ended)

    @settings(max_examples=15, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def question(case: Any) -> None:
        sent = {name: text for name, text in (case.headers or {}).items() if name.lower() != "x-api-key"}
        ids = [(case.path_parameters or {}).get("request_id"), *([ask(), ended] if "{}" in path else [])]
        for request_id in ids:
            if request_id is not None:
                case.path_parameters["request_id"] = request_id
            for key in (None, "am_wrong", requester["X-API-Key"], approver["X-API-Key"]):
                case.headers = sent | ({} if key is None else {"X-API-Key": key})
                statuses.add(case.call_and_validate(checks=CHECKS).status_code)

    question()
    if path != "/health":
        assert {401, 429} <= statuses
    if mode is GenerationMode.POSITIVE:
        assert statuses & {200, 201}
        assert 409 in statuses or method == "GET" or "{}" not in path
