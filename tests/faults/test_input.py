"""Whatever a host passes: refused at the hook with the field's name, or one well-formed mail to each recipient.

Every example goes through the real hook, store, renderer and SMTP over a socket, and what arrives is parsed back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone, tzinfo
from email import policy
from email.message import EmailMessage, MIMEPart
from email.parser import BytesParser
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from approval_mail import hooks
from approval_mail.addresses import is_address
from approval_mail.addressing import Addressing
from approval_mail.delivery import Delivery
from approval_mail.errors import InvalidEvent
from approval_mail.events import EVENT_TYPES, ApprovalEvent
from approval_mail.gathering import gather
from approval_mail.mailer import Channel, Mailer
from approval_mail.rendering import Content, Renderer
from approval_mail.rendering.wording import word_arguments
from approval_mail.routing import Routes
from approval_mail.settings import Settings
from approval_mail.store import EventStore, worker_client
from tests.faults.accounting import SENDER_DOMAIN
from tests.faults.world import World
from tests.rig.browser import browser_page
from tests.rig.smtp_server import Mail, SMTPServer

#: Each of them tries a thousand examples in `make faults`.
pytestmark = pytest.mark.timeout(1500)

SENDER = f"approval@{SENDER_DOMAIN}"
EVERYBODY = (f"a@{SENDER_DOMAIN}", f"b.c+d@{SENDER_DOMAIN}")
#: Seconds of this process's own work, however busy the machine is. The promise: a hook returns within this.
BOUND = 0.5

PAYLOADS = (
    "\r\nBcc: evil@evil.example\r\n\r\nbody",
    "\nSubject: other",
    "\r",
    "\r\n.\r\nMAIL FROM:<evil@evil.example>\r\n",
    "\n.\n",
    ".",
    "..",
    "\x00\x07\x1b[31mred\x85\u2028\u2029",
    "\u202e\u2066evil\u2069\u200f",
    "\U000e0041\U000e0042",
    "\ud800",
    "\udfff\ud800",
    "=?utf-8?q?Bcc=3A_evil=40evil.example?=",
    "=?utf-8?b?DQo=?=",
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    "</title><svg onload=window.pwned=1>",
    '" onmouseover="window.pwned = 1',
    "</td></table><a href='https://evil.example'>x</a>",
    "<!--",
    "-->",
    "<style>*{display:none}</style>",
    "<![CDATA[x]]>",
    "&lt;b&gt;&#60;i&#62;&amp;nbsp;",
    "{{ 7*7 }}",
    "{% include 'style.css' %}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.environ }}",
    "{# comment #}",
    "{{ user_id }}",
    "%(user_id)s {user_id} ${user_id} %s %n",
    "🎉👩‍👩‍👧‍👦é",
    "한글 \u3000 \u00a0 \ufeff",
    "-- \r\n> quoted\r\nFrom me",
    "'; --",
    "$(reboot) `reboot`",
    "a" * 300,
    "가" * 5_000,
)
INJECTED = (
    "op@host.example\r\nBcc: evil@evil.example",
    "op@host.example>\r\nRCPT TO:<evil@evil.example",
    "Name <op@host.example>",
    "op@host.example (comment)",
    '"quoted local"@host.example',
    '"a@evil.example, b"@host.example',
    "evil%evil.example@host.example",
    "evil.example!evil@host.example",
    "@relay.example:op@host.example",
    "=?utf-8?q?evil=40evil.example=2C?=@host.example",
    "op@[127.0.0.1]",
    "op@호스트.example",
    "운영자@host.example",
    "op@host.example;evil@evil.example",
    "op@host.example evil@evil.example",
    "op@evil.example\x00@host.example",
    "op@host..example",
    "op@-host.example",
    "op",
    "@host.example",
    "op@",
    "op@host.example.",
    "<op@host.example>",
    "op@host.example\u2028x",
    "op@host.example" + "x" * 250,
)

# What hosts may pass

texts = st.lists(
    st.sampled_from(PAYLOADS) | st.text(st.characters(exclude_categories=()), max_size=30), min_size=1, max_size=4
).map("".join)
odd = st.sampled_from([None, True, 7, -(10**400), math.nan, math.inf, 1e308, b"bytes", {1: 2}, [], {""}])
odd |= st.builds(object) | st.just(10).map(lambda ten: ten**5000) | st.datetimes(timezones=st.timezones())
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
instants = st.datetimes(datetime(1000, 1, 1)) | st.datetimes(datetime(1000, 1, 1), timezones=st.timezones())  # noqa: DTZ001
addresses = st.from_regex(r"[a-z0-9#$&'*+/=?^_`{|}~-]{1,20}@[a-z]{1,10}\.example", fullmatch=True).filter(is_address)
#: What is taken on, mostly, and what is refused, mostly.
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "request_id": st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=200),
    "user_id": texts,
    "tool_name": texts,
    "requested_at": instants.map(datetime.isoformat) | instants.filter(lambda at: at.tzinfo),
    "expires_at": instants.map(datetime.isoformat) | instants.filter(lambda at: at.tzinfo),
    "responder_id": texts,
    "reason": texts,
    "email_to": st.lists(addresses, max_size=5),
    "fraction": st.floats(0.01, 0.99) | st.floats(0.01, 0.99).map(str),
    "arguments": json_values,
    "note": json_values,
}
BAD = dict.fromkeys(GOOD, texts | odd) | {
    "requested_at": texts | odd | st.datetimes() | st.from_regex(r"[0-9T:+Z.-]{1,30}", fullmatch=True),
    "email_to": texts | odd | st.lists(addresses | st.sampled_from(INJECTED) | texts | odd, max_size=3),
    "fraction": texts | odd | st.floats(),
    "arguments": odd | st.lists(odd, max_size=3) | st.dictionaries(texts, odd, max_size=2),
}


@st.composite
def tellings(draw: st.DrawFn, words: st.SearchStrategy[str] | None = None) -> tuple[str, dict[str, Any]]:
    """A type and a host's data for it, some of it hostile; ``words``: free texts alone, of these."""
    event_type = draw(st.sampled_from(sorted(EVENT_TYPES)))
    asked = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    data: dict[str, Any] = {"user_id": "kim", "tool_name": "git_commit", "requested_at": asked, "fraction": 0.5}
    if draw(st.booleans()):
        data["expires_at"] = datetime.now(timezone.utc) + timedelta(minutes=5)
    if words is not None:
        for name in ("user_id", "tool_name", "responder_id", "reason", "arguments", "note"):
            data[name] = draw(words)
        return event_type, data
    for name in draw(st.lists(st.sampled_from(sorted(GOOD)), unique=True, min_size=1, max_size=6)):
        data[name] = draw(GOOD[name])
    data |= draw(st.dictionaries(texts, json_values, max_size=2))
    if draw(st.sampled_from([True, False, False])):
        name = draw(st.sampled_from(sorted(BAD)))
        data[name] = draw(BAD[name])
    return event_type, data


# The way of an event, within this process


class Keeping(Renderer):
    """Keeps what it rendered and composed last, by recipient."""

    def __init__(self, **more: Any) -> None:
        super().__init__(timezone=timezone.utc, sender=SENDER, **more)
        self.kept: dict[str, tuple[Content, datetime, bytes]] = {}

    def compose(
        self, event: ApprovalEvent, content: Content, recipient: str, now: datetime, timezone: tzinfo | None = None
    ) -> bytes:
        composed = super().compose(event, content, recipient, now, timezone)
        self.kept[recipient] = (content, now, composed)
        return composed


@dataclasses.dataclass(frozen=True)
class Arrived:
    """One event that was taken on, with what arrived of it."""

    event: ApprovalEvent
    mails: list[Mail]
    renderer: Keeping


class Pipeline:
    """Hook, store, gather, renderer and mailer of one world, without processes."""

    def __init__(self, world: World, store: EventStore, mailer: Mailer, renderers: dict[str, Keeping]) -> None:
        self._world = world
        self._store = store
        self._mailer = mailer
        self._renderers = renderers
        self._told = 0

    def tell(self, event_type: str, data: dict[str, Any], *, templates: str = "ko") -> Arrived | None:
        """Tell an event and deliver it; None: it was told before. Raises InvalidEvent."""
        self._told += 1
        data = {"request_id": f"r{self._told}", **data}
        started = time.process_time()
        try:
            receipt = hooks.emit(event_type, data)
        finally:
            took = time.process_time() - started
            assert took < BOUND, f"{took:.3f} s"
        event = ApprovalEvent.from_dict(event_type, data, now=datetime.now(timezone.utc), localise=datetime.astimezone)
        with self._world.receipts_file.open("a") as file:
            file.write(f"{event.event_id} {receipt} {took * 1000:.1f}\n")
        if receipt == "duplicate":
            return None
        assert receipt == "accepted"
        before, renderer = len(self._world.smtp.mails), self._renderers[templates]
        renderer.kept.clear()
        delivery = Delivery(self._store, lambda _: renderer, self._mailer)
        for claim in gather(self._store, Addressing(EVERYBODY, Routes()), batch_size=10):
            delivery.send(claim, attempt=0)
        record = self._world.redis.client.hget(f"approval_mail:{{store}}:event:{event.event_id}", "record")
        return Arrived(ApprovalEvent.from_json(str(record)), self._world.smtp.mails[before:], renderer)


OWN_PAGE = """<html><head><title>{% block subject %}{{ tool_name }} {{ note | default("") }}{% endblock %}
</title></head>
<body class="own"><p>{{ user_id }}</p><p>{{ tool_name }}</p><p>{{ responder_id }}</p><p>{{ request_id }}</p>
<p>{{ reason }}</p><div>{{ arguments_text }}</div><p>{{ note | default("") }}</p></body></html>
"""


@pytest.fixture
def pipeline(world: World, tmp_path: Path) -> Iterator[Pipeline]:
    folder = tmp_path / "own"
    folder.mkdir()
    for name in EVENT_TYPES:
        # Saved on Windows.
        (folder / f"{name}.html").write_bytes(OWN_PAGE.replace("\n", "\r\n").encode())
    renderers = {name: Keeping(folder=None, language=name) for name in ("ko", "en")}
    renderers["own"] = Keeping(folder=folder, language="ko")
    hooks.configure(
        Settings(enabled=True, redis_url=world.redis.url, spool_dir=world.spool.folder, timezone=timezone.utc)
    )
    mailer = Mailer(_channel(world.smtp))
    with worker_client(world.redis.url) as client:
        world.settings["EMAIL_TO"] = ",".join(EVERYBODY)
        yield Pipeline(world, EventStore(client), mailer, renderers)
    mailer.close()
    hooks.configure(Settings())


def _channel(server: SMTPServer) -> Channel:
    return Channel(
        host="127.0.0.1",
        port=server.port,
        use_tls=False,
        ca_file=None,
        user="",
        password="",
        timeout=5.0,
        sender=SENDER,
    )


def try_many(world: World, strategy: st.SearchStrategy[Any], examine: Callable[[Any], None], *, few: int = 40) -> None:
    """Examine examples: the same few each time, or in `make faults` many from the world's seed."""

    @hypothesis.given(strategy)
    @hypothesis.settings(
        max_examples=10 * few if world.thorough else few,
        derandomize=not world.thorough,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def each(example: Any) -> None:
        examine(example)

    if world.thorough:
        each = hypothesis.seed(world.random.getrandbits(32))(each)
    each()


# What may arrive

_HEADER = re.compile(r"([!-9;-~]+): \S.*")
_ONCE = [
    *("Content-Type", "MIME-Version", "From", "To", "Subject", "Date", "Message-ID", "References", "List-Id"),
    *("Auto-Submitted", "X-Auto-Response-Suppress"),
]


def examine_mails(arrived: Arrived) -> None:
    """One message to each recipient, as it was rendered, and nothing that the data made but text."""
    event = arrived.event
    recipients = event.email_to or EVERYBODY
    assert sorted(mail.recipient for mail in arrived.mails) == sorted(recipients), "exactly once each"
    for mail in arrived.mails:
        content, now, composed = arrived.renderer.kept[mail.recipient]
        assert mail.content == composed
        assert mail.sender == SENDER
        examine_form(mail.content, answers=event.kind.outcome is not None or event.kind.recurs)
        message = BytesParser(policy=policy.default).parsebytes(mail.content)
        assert isinstance(message, EmailMessage)
        assert [defect for part in message.walk() for defect in part.defects] == []
        assert {name: header.defects for name, header in message.items() if header.defects} == {}
        assert [address.addr_spec for address in message["To"].addresses] == [mail.recipient]
        assert [address.addr_spec for address in message["From"].addresses] == [SENDER]
        assert message["Subject"] == content.subject
        plain, page = message.iter_parts()
        assert (plain.get_content_type(), page.get_content_type()) == ("text/plain", "text/html")
        assert _text(plain) == content.text
        assert _text(page) == content.html
        examine_words(arrived, content)
        assert shape(content.html) == shape(_harmless(arrived, now).html), "no element or attribute is the data's"


def examine_form(content: bytes, *, answers: bool) -> None:
    """The rules of RFC 5322 for lines and headers, to the letter."""
    assert content.isascii()
    assert content.endswith(b"\r\n")
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", content)
    lines = content.decode().split("\r\n")
    assert max(map(len, lines)) <= 998
    head = lines[: lines.index("")]
    names = [found[1] for line in head if (found := _HEADER.fullmatch(line))]
    assert all(_HEADER.fullmatch(line) or (line[0] in " \t" and line.strip()) for line in head)
    assert sorted(names) == sorted([*_ONCE, *(["In-Reply-To"] if answers else [])])


def examine_words(arrived: Arrived, content: Content) -> None:
    """Subject, text and page show the same data, letter by letter."""
    event, is_own = arrived.event, content.template.endswith(f"own/{arrived.event.type}.html")
    arguments, _ = word_arguments((event.extra or {}).get("arguments"))
    shown = [event.user_id, event.tool_name, event.request_id]
    if is_own or event.type in ("approval_approved", "approval_rejected"):
        shown += [event.responder_id, event.reason]
    if is_own or event.type in ("approval_requested", "approval_reminder"):
        shown.append(arguments)
    seen = Page(content.html)
    for text in shown:
        for where in (content.text, seen.text):
            assert _squeezed(text) in _squeezed(where)
    assert _squeezed(event.tool_name)[:150] in _squeezed(content.subject)
    assert _squeezed(seen.title) == _squeezed(content.subject) or len(content.subject) == 200


def _squeezed(text: str) -> str:
    """Without white space, which pages lay out anew, and without what html_to_text leaves out as invisible."""
    return re.sub("[\u00ad\u034f\u200b\u200c\u2060]", "", "".join(text.split()))


def _text(part: MIMEPart | EmailMessage) -> str:
    body = part.get_payload(decode=True)
    assert isinstance(body, bytes)
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", body)
    return body.decode().replace("\r\n", "\n")


class Page(HTMLParser):
    """What a browser would make of a page: its elements with their attributes, its title and its text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.comments: list[str] = []
        self.title = self.text = ""
        self._within = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within = tag
        self.text += " "
        if tag != "br":
            self.elements.append((tag, tuple(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def handle_data(self, data: str) -> None:
        if self._within == "title":
            self.title += data
        elif self._within != "style":
            self.text += data


def shape(html: str) -> tuple[Any, ...]:
    """All of a page but its text."""
    page = Page(html)
    return (*page.elements, *page.comments)


def _harmless(arrived: Arrived, now: datetime) -> Content:
    """The same event, with harmless words where it has any."""
    event = arrived.event
    extra = {name: "x" for name, value in (event.extra or {}).items() if value is not None}
    shown, more = word_arguments((event.extra or {}).get("arguments"))
    extra["arguments"] = "x" * (len(shown) + more)
    words = {name: "x" if getattr(event, name) else "" for name in ("user_id", "tool_name", "responder_id", "reason")}
    replaced = dataclasses.replace(event, request_id="x", extra=extra, **words)
    return arrived.renderer.render(replaced, now)


def examine_refusal(error: InvalidEvent, data: dict[str, Any]) -> None:
    """It names one of the fields that were passed, in one line that any log can take."""
    assert f"'{error.field}'" in str(error)
    assert any(error.field == _squeezed_name(name) for name in (*data, "request_id", "user_id", "tool_name"))
    assert len(str(error)) < 1_000
    assert "\n" not in str(error)
    str(error).encode()
    str(error.masked()).encode()


def _squeezed_name(name: str) -> str:
    from approval_mail.fields import _key

    return " ".join(_key(name).split())


# The rows of the table


@pytest.mark.fault("hostile fields")
def test_whatever_is_passed_is_refused_by_name_or_arrives_as_text_in_one_mail_each(
    world: World, pipeline: Pipeline
) -> None:
    counts = {"refused": 0, "arrived": 0}

    def examine(example: tuple[tuple[str, dict[str, Any]], str]) -> None:
        (event_type, data), templates = example
        try:
            arrived = pipeline.tell(event_type, data, templates=templates)
        except InvalidEvent as error:
            examine_refusal(error, data)
            counts["refused"] += 1
            return
        if arrived:
            examine_mails(arrived)
            counts["arrived"] += 1

    try_many(world, st.tuples(tellings(), st.sampled_from(["ko", "en", "own"])), examine, few=100)
    print(counts)
    assert min(counts.values()) >= 10
    assert set(world.counts()) == {"sent"}
    world.judge()


@pytest.mark.fault("hostile fields")
def test_ten_megabytes_in_any_field_cost_the_host_nothing(world: World, pipeline: Pipeline) -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    wide = [[["x" * 4_000] * 10_000] * 10_000] * 10_000
    large = [unit * (10_000_000 // len(unit)) for unit in ("x", "\u202e", "<b>", "\n.", "🎉", "\ud800", "{{", " ", "0")]
    values = [*large, ["a@b.example,"] * 800_000, deep, wide, dict.fromkeys(range(10**6)), 10**5000]
    for name in GOOD:
        for value in values if world.thorough else world.random.sample(values, 5):
            event_type = "approval_reminder" if name == "fraction" else "approval_rejected"
            data = {"user_id": "kim", "tool_name": "git_commit", "fraction": 0.5, name: value}
            try:
                arrived = pipeline.tell(event_type, data)
            except InvalidEvent as error:
                assert error.field == name  # noqa: PT017 - most are refused
                examine_refusal(error, data)
            else:
                assert arrived
                examine_mails(arrived)
    for name in ("x" * 10_000_000, "\ud800" * 10_000_000):
        arrived = pipeline.tell("approval_timeout", {"user_id": "kim", "tool_name": "git_commit", name: 1})
        assert arrived
        examine_mails(arrived)
        with pytest.raises(InvalidEvent, match="is unknown") as told:
            hooks.emit(name, {})
        assert len(str(told.value)) < 1_000
    world.judge()


@pytest.mark.fault("hostile fields")
def test_no_address_is_injected(world: World, pipeline: Pipeline) -> None:
    for address in INJECTED:
        for value in (address, [address], [EVERYBODY[0], address]):
            with pytest.raises(InvalidEvent) as told:
                pipeline.tell("approval_timeout", {"user_id": "u", "tool_name": "t", "email_to": value})
            assert told.value.field == "email_to"
    assert world.smtp.mails == []

    def examine(chosen: list[str]) -> None:
        arrived = pipeline.tell("approval_timeout", {"user_id": "u", "tool_name": "t", "email_to": chosen})
        assert arrived
        assert arrived.event.email_to == tuple(dict.fromkeys(chosen))
        examine_mails(arrived)

    try_many(world, st.lists(addresses, min_size=1, max_size=8), examine, few=10)
    world.judge()


@pytest.mark.fault("hostile fields")
def test_a_browser_shows_the_data_and_runs_none_of_it(world: World, pipeline: Pipeline) -> None:
    everything = " ".join(PAYLOADS[:-2])
    data = {"user_id": everything[:150], "tool_name": everything[150:300], "reason": everything}
    data |= {"responder_id": everything[300:450], "arguments": everything, "note": everything}
    with browser_page() as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for event_type in ("approval_requested", "approval_rejected"):
            for templates in ("ko", "own"):
                arrived = pipeline.tell(event_type, data, templates=templates)
                assert arrived
                examine_mails(arrived)
                content, now, _ = arrived.renderer.kept[EVERYBODY[0]]
                pages = {}
                for name, html in (("hostile", content.html), ("harmless", _harmless(arrived, now).html)):
                    page.set_content(html)
                    page.wait_for_load_state()
                    assert page.evaluate("window.pwned") is None
                    pages[name] = page.evaluate(
                        "[...document.querySelectorAll('*:not(br)')].map(e => e.cloneNode(false).outerHTML)"
                    )
                    if name == "hostile":
                        shown, _ = word_arguments((arrived.event.extra or {})["arguments"])
                        words = arrived.event.reason if "reject" in event_type else shown
                        assert "{{7*7}}{%include'style.css'%}" in _squeezed(words)
                        assert _squeezed(words) in _squeezed(page.evaluate("document.body.textContent"))
                assert pages["hostile"] == pages["harmless"]
    assert asked == []
    world.judge()


@pytest.mark.fault("bare CR or LF, leading dots")
def test_lines_of_any_kind_arrive_as_they_were_rendered(world: World, pipeline: Pipeline) -> None:
    lines = st.lists(
        st.sampled_from(["\r", "\n", "\r\n", ".", "..", "\n.\n", "\r\n.\r\n", "\r.\r", "x", " ", "QUIT\r\n", "From "]),
        min_size=1,
        max_size=30,
    ).map("".join)
    whole: list[str] = []

    def examine(example: tuple[tuple[str, dict[str, Any]], str]) -> None:
        (event_type, data), templates = example
        with contextlib.suppress(InvalidEvent):  # Nothing but white space in a name.
            arrived = pipeline.tell(event_type, data, templates=templates)
            assert arrived
            examine_mails(arrived)
            whole.append(arrived.event.event_id)

    try_many(world, st.tuples(tellings(lines), st.sampled_from(["ko", "own"])), examine, few=25)
    assert len(whole) >= 10
    assert verbs(world.smtp) <= _SPOKEN
    world.judge()


#: All that the mailer has to say.
_SPOKEN = {"EHLO", "MAIL", "RCPT", "DATA", "NOOP", "RSET", "QUIT"}


def verbs(server: SMTPServer) -> set[str]:
    return {command.split(" ")[0].upper() for command in server.commands}


@pytest.mark.fault("bare CR or LF, leading dots")
def test_bytes_of_any_kind_are_one_message_on_the_wire(world: World, pipeline: Pipeline) -> None:
    """Whatever a composer may make: each line end arrives as CRLF, and all else as it was."""
    pieces = st.sampled_from(
        [b"\r", b"\n", b"\r\n", b".", b"..", b"\r\n.\r\n", b"\n.\r\n", b"\r.\n", b"x", b"QUIT", b"\0"]
    )
    with SMTPServer() as server:
        mailer = Mailer(_channel(server))

        def examine(parts: list[bytes]) -> None:
            content = b"".join(parts)
            with mailer.session() as session:
                assert session.send(EVERYBODY[0], content).state == "sent"
            expected = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
            assert server.mails[-1].content == expected + b"\r\n" * (not expected.endswith(b"\r\n"))

        try_many(world, st.lists(pieces, max_size=40), examine, few=50)
        mailer.close()
        assert verbs(server) <= _SPOKEN
        assert len(server.mails) == len([command for command in server.commands if command.upper() == "DATA"])
    arrived = pipeline.tell("approval_timeout", {"user_id": ".", "tool_name": "..\r\n."})
    assert arrived
    examine_mails(arrived)
    world.judge()
