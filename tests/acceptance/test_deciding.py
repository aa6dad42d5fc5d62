"""Deciding from the mail: the page over real HTTP, the real store, and a real browser."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import pytest
import redis
import uvicorn
from playwright.sync_api import Page
from starlette.types import ASGIApp, Receive, Scope, Send

from approval_mail import services
from approval_mail.api import bodies
from approval_mail.api.app import create_app
from approval_mail.api.deciding import COOKIE, router
from approval_mail.api.gate import MAX_FORM
from approval_mail.api.recipients import Recipients
from approval_mail.api.seals import Seals
from approval_mail.approvals import Approval, ApprovalsUnavailable, Status, desks
from approval_mail.approvals.desk import Desk
from approval_mail.events import ApprovalEvent
from approval_mail.links import ACTIONS, Action, Link, Links, asked_at
from approval_mail.rendering import Content, Renderer
from approval_mail.rendering.decision_page import Pages
from approval_mail.settings import LANGUAGES
from tests.rig.browser import browser_page, side_by_side
from tests.rig.programs import Program
from tests.rig.redis_server import RedisServer
from tests.rig.waiting import wait_for

KIM, LEE = "kim@example.com", "lee@example.com"
SECRET = "s" * 40
ARGUMENTS = {"message": "fix: 중복 청구", "files": ["payout/limits.py"], "push": False}


def link_of(approval: Approval, action: Action = "approve", recipient: str = KIM) -> Link:
    return Link(approval.request_id, recipient, action, asked_at(approval.requested_at))


@dataclass
class Site:
    """Where approvers reach the pages, and what lies behind."""

    url: str
    desk: Desk
    links: Links
    #: One of these for each damaged link.
    refused: list[str] = field(default_factory=list)

    def ask(self, **more: Any) -> Approval:
        return self.desk.ask(**{"user_id": "agent-7", "tool_name": "git_commit", "arguments": ARGUMENTS, **more})

    def link(self, approval: Approval, action: str, recipient: str = KIM) -> str:
        return self.links.url(link_of(approval, ACTIONS[ACTIONS.index(action)], recipient))  # type: ignore[arg-type]

    def status(self, approval: Approval) -> Status:
        return self.desk.read(approval.request_id).status


@pytest.fixture
def desk(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("NOTIFICATION_ENABLED", "true")
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    services.configure(None)
    return desks.for_operators()


@pytest.fixture
def open_site(desk: Desk) -> Iterator[Callable[..., Site]]:
    """Serve the pages, below a path as behind a proxy where ``prefix`` is given; ends with the test."""
    with _serving() as serve:

        def begin(prefix: str = "", scheme: str = "http", language: str = "ko", desk: Desk = desk) -> Site:
            listener = socket.create_server(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}{prefix}"
            site = Site(url, desk, Links(url, [SECRET]))
            deciding = router(
                desk,
                site.links,
                Pages(language=language, languages=LANGUAGES, timezone=timezone.utc),
                public_url=url.replace("http", scheme, 1),
                seals=Seals([SECRET]),
                refused=lambda request: site.refused.append(request.method),
            )
            app = create_app(desk, None, lambda _counted: deciding, recipients=Recipients([KIM]))
            serve(_below(prefix, app), listener)
            return site

        yield begin


@pytest.fixture
def site(open_site: Callable[..., Site]) -> Site:
    return open_site()


@contextmanager
def _serving() -> Iterator[Callable[[ASGIApp, socket.socket], None]]:
    running: list[tuple[uvicorn.Server, threading.Thread, socket.socket]] = []

    def serve(app: ASGIApp, listener: socket.socket) -> None:
        server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_config=None, lifespan="off"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        running.append((server, thread, listener))
        wait_for(lambda: server.started, saying="the server's start")

    yield serve
    for server, thread, listener in running:
        server.should_exit = True
        thread.join()
        listener.close()


def _below(prefix: str, app: ASGIApp) -> ASGIApp:
    """A proxy that hands on what is below ``prefix``, without it."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(prefix) if scope["path"].startswith(prefix) else "/elsewhere"
        await app({**scope, "path": path, "raw_path": path.encode()}, receive, send)

    return proxy


# A visitor without a browser


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: str


class Visitor:
    """Keeps cookies by their path, as a browser does, and follows no redirect."""

    def __init__(self) -> None:
        self.cookies: dict[str, str] = {}

    def send(self, method: str, url: str, fields: dict[str, str] | bytes | None = None, **headers: str) -> Answer:
        parts = urlsplit(url)
        assert parts.hostname
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if parts.path in self.cookies:
            sent.setdefault("Cookie", f"{COOKIE}={self.cookies[parts.path]}")
        body = urlencode(fields).encode() if isinstance(fields, dict) else fields
        if body is not None:
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
        connection.request(method, f"{parts.path}?{parts.query}", body, sent)
        found = connection.getresponse()
        answer = Answer(found.status, dict(found.getheaders()), found.read().decode())
        connection.close()
        cookie = next((value for name, value in answer.headers.items() if name.lower() == "set-cookie"), "")
        if cookie:
            path = re.search(r"[Pp]ath=([^;]+)", cookie)
            assert path
            self.cookies[path[1]] = cookie.partition("=")[2].partition(";")[0]
        return answer

    def read(self, url: str) -> Answer:
        return self.send("GET", url)

    def seal(self, url: str) -> str:
        """Open the page and take what its form carries."""
        found = re.search(r'name="seal" value="([^"]+)"', self.read(url).body)
        assert found
        return found[1]

    def decide(self, url: str, reason: str = "", **changes: str) -> Answer:
        """As a person does: open the page, tick, send."""
        return self.send("POST", url, {"seal": self.seal(url), "seen": "yes", "reason": reason, **changes})


class _Links(HTMLParser):
    """Every address in a document, and every form with its fields as they stand."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.forms: list[tuple[str, str, dict[str, str]]] = []
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "href" in given or "src" in given:
            self.addresses.append(given.get("href") or given.get("src", ""))
        if tag == "form":
            self.forms.append((given.get("method", "get").upper(), given.get("action", ""), {}))
        elif tag in ("input", "textarea") and self.forms and given.get("name"):
            ticked = given.get("type") != "checkbox" or "checked" in given
            if ticked:
                self.forms[-1][2][given["name"]] = given.get("value", "")


def mail_of(site: Site, approval: Approval, recipient: str = KIM) -> Content:
    event = ApprovalEvent.from_dict(
        "approval_requested",
        {
            "request_id": approval.request_id,
            "user_id": approval.user_id,
            "tool_name": approval.tool_name,
            "requested_at": approval.requested_at,
            "expires_at": approval.expires_at,
            "arguments": approval.arguments,
        },
        now=approval.requested_at,
        localise=lambda naive: naive,
    )
    renderer = Renderer(folder=None, language="ko", timezone=timezone.utc, sender="admin@example.com")
    urls = site.links.urls(approval.request_id, recipient, approval.requested_at)
    return renderer.render(dataclasses.replace(event, decidable=True), datetime.now(timezone.utc), **urls)


def reached(site: Site, client: redis.Redis, approval: Approval) -> list[str]:
    """The outcomes on record of a request."""
    keys = client.scan_iter(f"approval_mail:{{store}}:event:{approval.request_id}:*")
    return sorted(key.rpartition(":")[2] for key in keys if "requested" not in key)


# Who decides


def test_a_mail_scanner_that_follows_and_submits_everything_decides_nothing(site: Site, client: redis.Redis) -> None:
    approval = site.ask()
    mail = mail_of(site, approval)
    found = [address for address in _Links(mail.html).addresses if address.startswith("http")]
    assert sorted(found) == sorted(re.findall(r"http\S+", mail.text)) == sorted(site.link(approval, a) for a in ACTIONS)
    scanner, seen = Visitor(), set()
    while found:
        url = found.pop()
        if url in seen:
            continue
        seen.add(url)
        assert scanner.send("HEAD", url).status == 200
        page = scanner.read(url)
        assert page.status == 200
        links = _Links(page.body)
        found += [urljoin(url, address) for address in links.addresses if not address.startswith("data:")]
        assert links.forms
        for method, action, fields in links.forms:
            assert scanner.send(method, urljoin(url, action), fields).status == 422
    assert len(seen) > 2, "the languages' links were followed"
    with browser_page() as page_of_browser:
        for url in sorted(seen):
            page_of_browser.goto(url)
            before = page_of_browser.locator("#left").inner_text()
            wait_for(lambda before=before: page_of_browser.locator("#left").inner_text() != before)  # type: ignore[misc]
            page_of_browser.evaluate("document.forms[0].submit()")
            page_of_browser.locator(".fault").first.wait_for()
    assert site.status(approval) is Status.PENDING
    assert reached(site, client, approval) == []


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_persons_two_clicks_decide_once_under_the_recipients_name(
    site: Site, client: redis.Redis, action: str, scripts: bool
) -> None:
    approval = site.ask()
    with browser_page(width=375, height=740) as first:
        assert first.context.browser
        page = first.context.browser.new_context(java_script_enabled=scripts).new_page()
        page.goto(site.link(approval, action))
        assert page.locator("input[type=checkbox]").is_checked() is False
        page.get_by_role("checkbox").check()
        if action == "reject":
            page.get_by_role("textbox").fill("테스트가 아직\n실패합니다")
        page.get_by_role("button").click()
        page.get_by_role("heading", name={"approve": "승인했습니다", "reject": "거부했습니다"}[action]).wait_for()
        assert page.url.partition("?")[0] == site.link(approval, action)
        page.reload()
        assert "kim@example.com" in page.inner_text("main")
        assert page.locator("form").count() == 0
        page.context.close()
    decided = site.desk.read(approval.request_id)
    assert (decided.status, decided.responder_id) == ({"approve": "approved", "reject": "rejected"}[action], KIM)
    assert decided.reason == ("테스트가 아직\n실패합니다" if action == "reject" else "")
    assert len(reached(site, client, approval)) == 1


def test_the_time_left_counts_down_and_ends_without_deciding(site: Site) -> None:
    with browser_page() as page:
        faults = _faults_of(page)
        approval = site.ask(timeout=6)
        page.goto(site.link(approval, "approve"))
        assert page.locator("#left").inner_text() in [f"{seconds}초 남음" for seconds in range(1, 7)]
        assert page.locator("#loaded").is_hidden()
        page.get_by_text("기한이 지났습니다").wait_for()
        page.get_by_role("checkbox").check()
        page.get_by_role("button").click()
        page.get_by_role("heading", name="기한이 지난 요청입니다").wait_for()
        assert faults == ["Failed to load resource: the server responded with a status of 409 (Conflict)"]
    assert site.status(approval) is Status.EXPIRED


def _faults_of(page: Page) -> list[str]:
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    return faults


def test_a_second_visit_says_who_decided_what_and_when(site: Site) -> None:
    approval = site.ask()
    kim, lee = Visitor(), Visitor()
    late = lee.seal(site.link(approval, "reject", LEE))
    assert kim.decide(site.link(approval, "approve"), "확인함").status == 303
    ended = site.desk.read(approval.request_id).ended_at
    assert ended
    for action in ACTIONS:
        for language, words in (("ko", "이미 승인된 요청입니다"), ("en", "This request has already been approved")):
            page = lee.read(f"{site.link(approval, action, LEE)}?lang={language}")
            assert page.status == 200
            for fact in (words, KIM, "확인함", f"{ended:%Y-%m-%d %H:%M:%S} UTC", "git_commit"):
                assert fact in page.body
    answer = lee.send("POST", site.link(approval, "reject", LEE), {"seal": late, "seen": "yes", "reason": "no"})
    assert answer.status == 409
    assert "이미 승인된 요청입니다" in answer.body
    assert site.status(approval) is Status.APPROVED


def test_double_and_parallel_answers_decide_once(site: Site, client: redis.Redis) -> None:
    approval = site.ask()
    visitors = [
        (Visitor(), site.link(approval, action, who)) for who in (KIM, LEE) for action in ACTIONS for _ in range(4)
    ]
    ready = [(visitor, url, visitor.seal(url)) for visitor, url in visitors]

    def decide(number: int) -> int:
        visitor, url, seal = ready[number % len(ready)]
        return visitor.send("POST", url, {"seal": seal, "seen": "yes", "reason": "so"}).status

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(decide, range(2 * len(ready))))
    assert sorted(set(answers)) == [303, 409]
    assert answers.count(303) == 1
    assert len(reached(site, client, approval)) == 1


@pytest.mark.parametrize("action", ACTIONS)
def test_without_tick_or_reason_the_form_comes_back_with_what_was_typed(site: Site, action: str) -> None:
    approval, visitor = site.ask(), Visitor()
    url = site.link(approval, action)
    answer = visitor.decide(url, "typed <&> here", seen="")
    assert answer.status == 422
    assert 'id="seen-fault"' in answer.body
    assert 'id="reason-fault"' not in answer.body
    assert answer.body.count('aria-invalid="true"') == 1
    assert "typed &lt;&amp;&gt; here</textarea>" in answer.body
    answer = visitor.decide(url, " \r\n ")
    assert answer.status == (422 if action == "reject" else 303)
    assert ('id="reason-fault"' in answer.body) is (action == "reject")
    assert site.status(approval) is (Status.PENDING if action == "reject" else Status.APPROVED)


def test_a_reason_too_long_is_refused_and_not_cut(site: Site) -> None:
    approval, visitor = site.ask(), Visitor()
    url = site.link(approval, "reject")
    assert visitor.decide(url, "가" * 4001).status == 422
    seal = visitor.seal(url)
    answer = visitor.send("POST", url, {"seal": seal, "seen": "yes", "reason": "x" * MAX_FORM})
    assert answer.status == 413
    assert site.status(approval) is Status.PENDING
    assert visitor.decide(url, "가\r\n" * 2000).status == 303
    assert len(site.desk.read(approval.request_id).reason) == 3999


@pytest.mark.parametrize(
    ("end", "status", "words"),
    [
        (lambda site, name: site.desk.cancel(name, responder_id="agent-7", reason="no need"), "cancelled", "no need"),
        (lambda site, name: site.desk.reject(name, responder_id="cli", reason="not today"), "rejected", "not today"),
    ],
    ids=["cancelled", "rejected"],
)
def test_what_was_ended_elsewhere_is_told_and_not_changed(
    site: Site, end: Callable[[Site, str], object], status: str, words: str
) -> None:
    approval, visitor = site.ask(), Visitor()
    url = site.link(approval, "approve")
    seal = visitor.seal(url)
    end(site, approval.request_id)
    assert words in visitor.read(url).body
    assert visitor.send("POST", url, {"seal": seal, "seen": "yes"}).status == 409
    assert site.status(approval) == status


# What is refused


def test_a_form_of_another_browser_link_or_site_is_refused(site: Site) -> None:
    approval, other = site.ask(), site.ask()
    url = site.link(approval, "approve")
    kim, stranger = Visitor(), Visitor()
    seal, strangers, others = kim.seal(url), stranger.seal(url), kim.seal(site.link(other, "approve"))
    good = {"seal": seal, "seen": "yes"}
    path = urlsplit(url).path
    refused = [
        kim.send("POST", url, {"seen": "yes"}),
        kim.send("POST", url, good | {"seal": ""}),
        kim.send("POST", url, good | {"seal": seal[:-2] + ("AA" if seal[-2:] != "AA" else "BB")}),
        kim.send("POST", url, good | {"seal": "é\x00"}),
        kim.send("POST", url, good | {"seal": strangers}),
        kim.send("POST", url, good | {"seal": others}),
        kim.send("POST", url, good, Cookie=""),
        kim.send("POST", url, good, Cookie=f"{COOKIE}={stranger.cookies[path]}"),
        kim.send("POST", url, good, Sec_Fetch_Site="cross-site"),
        kim.send("POST", url, good, Sec_Fetch_Site="same-site"),
        kim.send("POST", url, good, Sec_Fetch_Site="none"),
        kim.send("POST", url, b"\xff\xfe"),
        kim.send("POST", url, b"&".join(b"a=1" for _ in range(100))),
        kim.send("POST", url, json.dumps(good).encode(), Content_Type="application/json"),
        kim.send("POST", url, b""),
        kim.send("POST", site.link(approval, "reject"), good | {"reason": "x"}, Cookie=f"{COOKIE}={kim.cookies[path]}"),
    ]
    assert [answer.status for answer in refused] == [403] * len(refused)
    assert all("아무것도 결정되지 않았습니다" in answer.body for answer in refused)
    assert site.status(approval) is Status.PENDING
    assert kim.send("POST", url, good, Sec_Fetch_Site="same-origin", Origin="null").status == 303


def test_a_damaged_link_gives_nothing_away_and_is_counted(site: Site) -> None:
    approval, visitor = site.ask(tool_name="sekret_tool"), Visitor()
    url = site.link(approval, "approve")
    folder, _, token = url.rpartition("/")
    foreign = Links(site.url, ["o" * 40]).token(link_of(approval))
    payload, dot, signature = token.rpartition(".")
    rejecting = Links(site.url, [SECRET]).token(link_of(approval, "reject")).rpartition(".")[0]
    damaged = [
        *("x", "a.b", "%FF%00", "é", payload, token[1:], foreign, f"{rejecting}.{signature}"),
        f"{payload}{dot}{'B' if signature[0] != 'B' else 'C'}{signature[1:]}",
        *(
            f"{token}{tail}"
            for tail in ("%3D", "%3D;%20Domain=x", "%3D%0D%0AX-Evil:%201", "%00", "%3D%00", "%E2%82%AC")
        ),
        f"{token[:-1]}{chr(ord(token[-1]) + 1)}",
    ]
    for one in damaged:
        for method in ("GET", "HEAD", "POST"):
            answer = visitor.send(method, f"{folder}/{_quoted(one)}", {"seen": "yes"} if method == "POST" else None)
            assert answer.status == 404
            assert answer.headers.keys().isdisjoint({"Set-Cookie", "set-cookie", "X-Evil"})
            assert "sekret" not in answer.body + str(answer.headers)
            assert approval.request_id not in answer.body
    assert site.refused == ["GET", "HEAD", "POST"] * len(damaged)
    site.refused.clear()
    assert visitor.read(url).status == 200
    assert site.refused == []


def _quoted(token: str) -> str:
    return token.replace("é", "%C3%A9")


def test_a_request_no_longer_on_record_is_unknown(site: Site) -> None:
    url = site.links.url(Link("gone", KIM, "approve", 0))
    answer = Visitor().read(url)
    assert answer.status == 404
    assert "이 요청을 찾을 수 없습니다" in answer.body
    assert site.refused == []


def test_while_the_store_is_out_of_reach_nothing_is_decided_and_the_page_says_so(
    own_redis: RedisServer, open_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    services.configure(None)
    site = open_site(desk=desks.for_operators())
    approval, visitor = site.ask(), Visitor()
    url = site.link(approval, "approve")
    seal = visitor.seal(url)
    own_redis.kill()
    for answer in (visitor.read(url), visitor.send("POST", url, {"seal": seal, "seen": "yes"})):
        assert answer.status == 503
        assert "이 페이지에서는 아무것도 결정되지 않았습니다" in answer.body
    own_redis.start()
    assert site.status(approval) is Status.PENDING
    assert visitor.send("POST", url, {"seal": seal, "seen": "yes"}).status == 303


class _LosesRedis:
    """A desk whose connection is lost after it was asked to decide."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._desk, name)

    def approve(self, request_id: str, **_given: str) -> Approval:
        raise ApprovalsUnavailable(request_id)


class _Ahead(_LosesRedis):
    """A desk whose Redis is half an hour ahead of this machine."""

    def read(self, request_id: str) -> Approval:
        found: Approval = self._desk.read(request_id)
        return dataclasses.replace(found, read_at=found.expires_at - timedelta(seconds=7))


def test_a_decision_lost_on_its_way_is_not_said_to_be_none(open_site: Callable[..., Site], desk: Desk) -> None:
    site = open_site(desk=_LosesRedis(desk))
    url = site.link(desk.ask(user_id="agent-7", tool_name="git_commit"), "approve")
    answer = Visitor().decide(url)
    assert answer.status == 503
    assert "결정이 기록되었는지 알 수 없습니다" in answer.body
    assert "아무것도 결정되지 않았습니다" not in answer.body


def test_every_answer_carries_the_headers_that_keep_the_link_private(site: Site) -> None:
    approval, visitor = site.ask(), Visitor()
    url = site.link(approval, "approve")
    answers = [
        visitor.read(url),
        visitor.send("HEAD", url),
        visitor.read(f"{site.url}/decide/damaged"),
        visitor.decide(url, seen=""),
        visitor.send("POST", url, {}),
        visitor.decide(url),
        visitor.read(url),
    ]
    assert [answer.status for answer in answers] == [200, 200, 404, 422, 403, 303, 200]
    nonces = set()
    for answer in answers:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert headers["x-robots-tag"] == "noindex, nofollow"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        if answer.status == 303:
            assert headers["location"] == "?lang=ko"
            continue
        nonce = re.search(r"'nonce-([\w-]{20,})'", headers["content-security-policy"])
        assert nonce
        nonces.add(nonce[1])
        assert headers["content-security-policy"] == (
            f"default-src 'none'; style-src 'nonce-{nonce[1]}'; script-src 'nonce-{nonce[1]}'; form-action 'self'; "
            "frame-ancestors 'none'; base-uri 'none'"
        )
        if answer.body:
            assert 'content="noindex, nofollow"' in answer.body
            assert set(re.findall(r'nonce="([^"]+)"', answer.body)) == {nonce[1]}
            assert not re.search(r"\son\w+=|style=|https?://", answer.body)
    assert len(nonces) == 6
    cookie = {name.lower(): value for name, value in answers[0].headers.items()}["set-cookie"]
    assert re.fullmatch(rf"{COOKIE}=[\w-]{{43}}; HttpOnly; Path={urlsplit(url).path}; SameSite=lax", cookie)


def test_a_link_opened_twice_from_a_web_mail_leaves_the_first_form_good(site: Site) -> None:
    approval = site.ask()
    with browser_page() as mail:
        # A page of its own origin, so that the link leads to another site as one in a web mail does.
        mail.set_content(f'<a href="{site.link(approval, "approve")}" target="_blank">approve</a>')
        opened = []
        for _ in range(2):
            with mail.context.expect_page() as tab:
                mail.get_by_role("link").click()
            opened.append(tab.value)
            tab.value.get_by_role("checkbox").wait_for()
        opened[0].get_by_role("checkbox").check()
        opened[0].get_by_role("button").click()
        opened[0].get_by_role("heading", name="승인했습니다").wait_for()
    assert site.status(approval) is Status.APPROVED


def test_the_time_left_on_the_page_is_by_the_clock_of_redis(open_site: Callable[..., Site], desk: Desk) -> None:
    site = open_site(desk=_Ahead(desk))
    approval = desk.ask(user_id="agent-7", tool_name="git_commit", timeout=1800)
    assert "7초 남음" in Visitor().read(site.link(approval, "approve")).body


# Bodies that strangers send


def _open(site: Site, head: str) -> socket.socket:
    """A connection on which the head of a request was sent."""
    host = urlsplit(site.url)
    connection = socket.create_connection((host.hostname or "", host.port or 0), timeout=20)
    connection.sendall(f"{head}\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    return connection


def _all_of(connection: socket.socket) -> str:
    """What is answered until the connection ends."""
    with connection, contextlib.suppress(ConnectionResetError):
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    return ""


@pytest.mark.parametrize(
    ("path", "more", "status"),
    [
        ("/decide/x", "", 408),
        ("/api/approvals", "", 408),
        ("/api/approvals", "\r\nOrigin: http://evil.example", 403),
        ("/health", "", 405),
        ("/nothing", "", 404),
    ],
)
def test_a_body_that_never_ends_is_given_up(
    site: Site, path: str, more: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "DEADLINE", 0.3)
    monkeypatch.setattr(bodies, "SKIP_SECONDS", 0.1)
    connection = _open(site, f"POST {path} HTTP/1.1{more}")
    connection.sendall(b"1\r\nx\r\n")
    answer = _all_of(connection)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert "connection: close" in answer.lower()
    assert status != 408 or '"code":"too_slow"' in answer


def test_a_form_too_long_is_refused_before_its_end(site: Site) -> None:
    connection = _open(site, f"POST {urlsplit(site.link(site.ask(), 'approve')).path} HTTP/1.1")
    connection.sendall(b"%x\r\n%b\r\n" % (MAX_FORM + 1, b"x" * (MAX_FORM + 1)))
    assert _all_of(connection).startswith("HTTP/1.1 413 ")


@pytest.mark.parametrize("path", ["/decide/x", "/health", "/nothing"])
def test_a_body_in_tiny_pieces_is_cut_off_and_spares_others(site: Site, path: str) -> None:
    connection = _open(site, f"POST {path} HTTP/1.1")
    with contextlib.suppress(OSError):
        for _ in range(20):
            connection.sendall(b"2\r\nxy\r\n" * 20_000)
    connection.close()
    assert Visitor().read(f"{site.url}/health").status == 200


def test_who_is_refused_while_sending_is_told_so_and_may_ask_again(site: Site) -> None:
    host = urlsplit(site.url)
    connection = http.client.HTTPConnection(host.hostname or "", host.port, timeout=20)
    for path, status in (("/api/approvals", 403), ("/nothing", 404), ("/health", 405)):
        connection.request("POST", path, b"x" * 50_000, {"Origin": "http://evil.example"})
        answer = connection.getresponse()
        answer.read()
        assert (answer.status, answer.getheader("Connection")) == (status, None)
    connection.close()


def test_the_cookie_is_secure_where_approvers_use_https(open_site: Callable[..., Site]) -> None:
    site = open_site(scheme="https")
    answer = Visitor().read(site.link(site.ask(), "approve"))
    assert "; Secure" in answer.headers["set-cookie"]


def test_the_page_works_below_a_path_whatever_host_is_named(open_site: Callable[..., Site]) -> None:
    site = open_site(prefix="/ops/approvals", language="en")
    approval = site.ask()
    with browser_page() as page:
        page.goto(site.link(approval, "approve"))
        page.get_by_role("link", name="한국어").click()
        page.get_by_role("link", name="대신 거부하기").click()
        assert page.url == f"{site.link(approval, 'reject')}?lang=ko"
        page.get_by_role("checkbox").check()
        page.get_by_role("textbox").fill("아니요")
        page.get_by_role("button").click()
        page.get_by_role("heading", name="거부했습니다").wait_for()
        assert page.url == f"{site.link(approval, 'reject')}?lang=ko"
    assert site.status(approval) is Status.REJECTED
    host = f"localhost:{urlsplit(site.url).port}"
    assert "localhost" not in str(Visitor().send("GET", site.link(site.ask(), "approve"), Host=host))


def test_neither_token_nor_recipient_nor_reason_is_in_a_log(
    settings: dict[str, str], desk: Desk, tmp_path: Path
) -> None:
    more = {"APPROVAL_PUBLIC_URL": "http://localhost/ops", "APPROVAL_LINK_SECRET": SECRET}
    code = "from approval_mail.cli import main; main()"
    command = (sys.executable, "-c", code, "api", "--port", "0")
    api = Program(*command, folder=tmp_path, settings={**settings, **more}, name="api")
    try:
        api.wait_for_line("Serving approvals on")
        port = re.search(r"on http://127\.0\.0\.1:(\d+)", api.output())
        assert port
        approval = desk.ask(user_id="agent-7", tool_name="git_commit")
        token = Links("", [SECRET]).token(link_of(approval, "reject"))
        visitor, url = Visitor(), f"http://127.0.0.1:{port[1]}/decide/{token}"
        page = visitor.read(url)
        seal = re.search(r'name="seal" value="([^"]+)"', page.body)
        assert seal
        # The browser keeps the cookie below the public URL's path, which a proxy takes away.
        cookie = f"{COOKIE}={visitor.cookies[f'/ops/decide/{token}']}"
        fields = {"seal": seal[1], "seen": "yes", "reason": "sekret-reason"}
        assert visitor.send("POST", url, fields, Cookie=cookie).status == 303
        assert visitor.read(url[:-3]).status == 404
        assert desk.read(approval.request_id).responder_id == KIM
        wait_for(lambda: len(re.findall(r"(GET|POST) \S+ (200|303|404) ", api.output())) == 3)
        for hidden in (token[:30], token[-20:], KIM, "sekret-reason", seal[1], cookie):
            assert hidden not in api.output()
    finally:
        api.stop()


# What a person sees


@pytest.mark.parametrize("language", ["ko", "en"])
def test_pages_and_mails_fit_a_narrow_phone_and_buttons_are_large(
    open_site: Callable[..., Site], language: str, tmp_path: Path
) -> None:
    site = open_site(language=language)
    approval = site.ask(arguments={**ARGUMENTS, "path": "x" * 300}, user_id="a" * 120)
    (tmp_path / "mail.html").write_text(mail_of(site, approval).html, "utf-8")
    ended = site.ask()
    site.desk.reject(ended.request_id, responder_id=LEE, reason="y" * 300)
    with browser_page(width=320, height=640, dark=True) as page:
        for url in (
            (tmp_path / "mail.html").as_uri(),
            *(site.link(approval, action) for action in ACTIONS),
            site.link(ended, "approve"),
            f"{site.url}/decide/x",
        ):
            page.goto(url)
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, url
            for target in page.locator("button, .button a, .tick").all():
                box = target.bounding_box()
                assert box
                assert box["height"] >= 44


def test_the_mail_and_the_page_as_pictures(site: Site, tmp_path: Path) -> None:
    approval = site.ask()
    (tmp_path / "mail.html").write_text(mail_of(site, approval).html, "utf-8")
    pictures = {name: tmp_path / f"{name}.png" for name in ("mail", "dark mail", "page", "dark page")}
    with browser_page(width=390, height=844, dark=True, scale=2) as page:
        page.goto((tmp_path / "mail.html").as_uri())
        page.screenshot(path=pictures["dark mail"], full_page=True)
        page.goto(site.link(approval, "approve"))
        page.get_by_role("checkbox").check()
        page.screenshot(path=pictures["dark page"], full_page=True)
    with browser_page(width=680, height=900) as page:
        page.goto((tmp_path / "mail.html").as_uri())
        page.screenshot(path=pictures["mail"], full_page=True)
        page.goto(f"{site.link(approval, 'reject')}?lang=en")
        assert page.locator("h1").inner_text() == "agent-7 asks to run git_commit"
        page.screenshot(path=pictures["page"], full_page=True)
        page.get_by_role("checkbox").check()
        page.get_by_role("textbox").fill("The tests still fail")
        page.get_by_role("button").click()
        page.get_by_role("heading", name="You rejected this request").wait_for()
    side_by_side("mail.png", pictures["mail"], pictures["dark mail"], tmp_path)
    side_by_side("decide.png", pictures["page"], pictures["dark page"], tmp_path)


def test_a_link_is_no_use_for_a_later_request_of_the_same_id(site: Site, client: redis.Redis) -> None:
    """An id may be used again once its history is over, and be of interest to others then."""
    first = site.ask(request_id="nightly")
    url = site.link(first, "approve")
    for key in client.scan_iter("*nightly*"):
        client.delete(key)
    time.sleep(0.002)
    again = site.ask(request_id="nightly")
    page = Visitor().read(url)
    assert page.status == 404
    assert Visitor().read(site.link(again, "approve")).status == 200
