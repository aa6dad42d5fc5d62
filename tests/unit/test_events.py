from __future__ import annotations

import enum
import json
import time
import uuid
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval_mail.addresses import is_address, split_sender
from approval_mail.errors import InvalidEvent, InvalidRecord
from approval_mail.events import EVENT_TYPES, ApprovalEvent, split_event_id
from approval_mail.fields import (
    MAX_DEPTH,
    MAX_EVENT,
    MAX_INT_BITS,
    MAX_NAME,
    MAX_RECIPIENTS,
    MAX_REQUEST_ID,
    MAX_TEXT,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
SEOUL = timezone(timedelta(hours=9))


def make(event_type: str = "approval_requested", /, **data: Any) -> ApprovalEvent:
    fields = {"request_id": "abc12345-6789", "user_id": "kim", "tool_name": "git_commit", **data}
    return ApprovalEvent.from_dict(event_type, fields, now=NOW, localise=lambda naive: naive.replace(tzinfo=SEOUL))


def test_an_event_is_named_by_its_request_and_type() -> None:
    event = make()
    assert event.event_id == "abc12345-6789:approval_requested"
    assert str(event) == "ApprovalEvent(approval_requested, abc12345)"


@pytest.mark.parametrize("field", ["request_id", "user_id", "tool_name"])
@pytest.mark.parametrize("value", [None, "", "   "])
def test_a_missing_required_field_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidEvent, match=f"field '{field}' is missing") as caught:
        make(**{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("request_id", "has space", "printable ASCII"),
        ("request_id", "x" * 201, "1 to 200"),
        ("request_id", "한글", "printable ASCII"),
        ("request_id", "a\r\nb", "printable ASCII"),
        ("request_id", True, "pass text"),
        ("user_id", {"a": 1}, "is a dict; pass text"),
        pytest.param("user_id", 10**5000, "too long", id="huge user_id"),
        ("requested_at", "yesterday", "ISO 8601"),
        ("requested_at", datetime(2026, 1, 1), "aware datetime"),  # noqa: DTZ001
        ("expires_at", 1735689600, "aware datetime"),
        ("expires_at", "0001-01-01T00:00:00Z", "year"),
        ("email_to", "no-at-sign", "not an address"),
        ("email_to", ["a@example.com", "b@example.com>\r\nRCPT TO:<x@example.com"], "not an address"),
        ("email_to", ["a@example.com", 3], "pass addresses"),
        ("email_to", ",".join(f"a{n}@example.com" for n in range(51)), "the most is 50"),
        ("arguments", float("nan"), "no JSON form"),
        ("arguments", {"when": NOW}, "a datetime"),
        ("arguments", {1: "x"}, "not text"),
        ("arguments", b"bytes", "a bytes"),
        pytest.param("arguments", 10**5000, "too long", id="huge number"),
    ],
)
def test_a_malformed_field_is_named_with_the_mend(field: str, value: object, says: str) -> None:
    with pytest.raises(InvalidEvent, match=f"'{field}'") as caught:
        make(**{field: value})
    assert says in str(caught.value)


def test_an_unknown_type_is_answered_with_the_four_names() -> None:
    with pytest.raises(
        InvalidEvent, match="approval_requested, approval_timeout, approval_approved, approval_rejected"
    ):
        make("approval_asked")


@pytest.mark.parametrize("value", [object(), {"x": 10**5000}, [b""]])
def test_a_further_field_is_named_as_it_is_safe_to_read(value: object) -> None:
    with pytest.raises(InvalidEvent) as caught:
        make(**{"a\r\nBcc: \u202e\ud800" + "x" * 500: value})
    assert caught.value.field.startswith("a Bcc: \ufffd\ufffdxxx")
    assert f"field '{caught.value.field}' cannot be kept" in str(caught.value)
    assert len(caught.value.field) <= MAX_NAME


def test_a_zone_that_raises_is_named_as_a_fault_of_its_field() -> None:
    class Broken(tzinfo):
        def utcoffset(self, _: datetime | None) -> timedelta:
            raise LookupError

    with pytest.raises(InvalidEvent, match="'requested_at' is a datetime 2026-01-01 00:00:00; pass an aware"):
        make(requested_at=datetime(2026, 1, 1, tzinfo=Broken()))


@pytest.mark.parametrize("value", ["0", "1", -0.5, 10**400, "nan", "x", None, [], True])
def test_a_reminder_needs_a_fraction(value: object) -> None:
    with pytest.raises(InvalidEvent, match="'fraction'"):
        make("approval_reminder", fraction=value)


def test_what_could_not_fit_is_not_walked_through() -> None:
    wide: Any = "x" * MAX_TEXT
    for _ in range(MAX_DEPTH):
        wide = [wide] * 10_000
    started = time.process_time()
    with pytest.raises(InvalidEvent, match=f"'arguments' cannot be kept: it is larger.*{MAX_EVENT:,} bytes"):
        make(arguments=wide)
    with pytest.raises(InvalidEvent, match="'email_to' has 500,000 addresses; the most is 50"):
        make(email_to=[f"a{n}@example.com" for n in range(500_000)])
    assert time.process_time() - started < 2


def test_endless_nesting_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    with pytest.raises(InvalidEvent, match="nested deeper"):
        make(arguments=loop)


def test_numbers_and_uuids_become_text() -> None:
    request_id = uuid.uuid4()
    event = make(request_id=request_id, user_id=42)
    assert (event.request_id, event.user_id) == (str(request_id), "42")


@pytest.mark.parametrize(
    "text", ["2025-10-25T15.5Z", "2025-10-25T15:30.5Z", "2025-10-25T15:30:00+09:00:30", "20251025T"]
)
def test_times_that_some_pythons_read_otherwise_are_refused_by_all(text: str) -> None:
    with pytest.raises(InvalidEvent, match="ISO 8601"):
        make(requested_at=text)


@pytest.mark.parametrize(
    "text",
    [
        "2025-10-25T15:30:00+09:00",
        "2025-10-25 15:30+09:00",
        "20251025T1530+09",
        "2025-10-25T06:30:00.000000Z",
        "2025-10-25T06:30:00,0Z",
        "2025-10-25T15:30:00.000+0900",
        "2025-W43-6T15:30:00+09:00",
    ],
)
def test_times_in_every_form_of_iso_8601_are_the_same_moment(text: str) -> None:
    assert make(requested_at=text).requested_at == datetime(2025, 10, 25, 6, 30, tzinfo=timezone.utc)


def test_times_without_an_offset_are_in_the_configured_zone() -> None:
    event = make(requested_at="2025-10-25T15:30:00", expires_at="2025-10-25T06:35:00Z")
    assert event.requested_at == datetime(2025, 10, 25, 15, 30, tzinfo=SEOUL)
    assert event.expires_at == datetime(2025, 10, 25, 15, 35, tzinfo=SEOUL)


def test_names_become_one_clean_line() -> None:
    event = make(tool_name="git\r\nBcc: x@example.com\x00\u202ecommit", user_id="u" * 500)
    assert event.tool_name == "git Bcc: x@example.com\ufffd\ufffdcommit"
    assert len(event.user_id) <= MAX_NAME


def test_an_enum_that_is_text_gives_its_text() -> None:
    class Tool(str, enum.Enum):
        COMMIT = "git_commit"

    assert make(tool_name=Tool.COMMIT).tool_name == "git_commit"


def test_a_name_hides_nothing_and_keeps_what_scripts_and_emoji_need() -> None:
    assert make(tool_name="pay\u200bout\u00ad_eu\u2060\u3164").tool_name == "pay\ufffdout\ufffd_eu\ufffd\ufffd"
    assert make(user_id="نمی‌خواهم 👩‍🔧").user_id == "نمی‌خواهم 👩‍🔧"


def test_long_texts_are_cut_and_say_how_much_is_missing() -> None:
    event = make(reason="y" * 10_000, arguments={"content": "x" * 1_000_000})
    assert len(event.reason) <= MAX_TEXT
    assert event.extra is not None
    assert event.extra["arguments"]["content"].endswith("more)")


def test_an_event_that_stays_too_large_is_refused_with_its_largest_field() -> None:
    with pytest.raises(InvalidEvent, match=f"the most is {MAX_EVENT:,}") as caught:
        make(note=["x" * 4000] * 6, arguments=["x" * 4000] * 12)
    assert caught.value.field == "arguments"


#: What the guides say of each limit, in each of their languages: the fields, the most, and what happens above it.
LIMITS: dict[str, list[tuple[str, str, str]]] = {
    "en": [
        ("field", "the most", "above it"),
        ("---", "---", "---"),
        ("`request_id`", f"{MAX_REQUEST_ID:,} characters", "refused"),
        ("`user_id`, `tool_name`, `responder_id`", f"{MAX_NAME:,} characters", "cut"),
        ("`reason`", f"{MAX_TEXT:,} characters", "cut"),
        ("`email_to`", f"{MAX_RECIPIENTS:,} addresses of 254 characters, 64 of them before the `@`", "refused"),
        ("each text in `arguments` and in further fields", f"{MAX_TEXT:,} characters", "cut"),
        ("each name in them, and of a further field", f"{MAX_NAME:,} characters", "cut"),
        ("each integer in them", f"{MAX_INT_BITS:,} bits", "refused"),
        ("lists and objects within each other", f"{MAX_DEPTH:,} levels", "refused"),
        ("`requested_at`, `expires_at`", "from year 2 to year 9998", "refused"),
        ("all fields together, after cutting", f"{MAX_EVENT:,} bytes of JSON", "refused"),
    ],
    "ko": [
        ("필드", "상한", "넘으면"),
        ("---", "---", "---"),
        ("`request_id`", f"{MAX_REQUEST_ID:,}자", "거부"),
        ("`user_id`, `tool_name`, `responder_id`", f"{MAX_NAME:,}자", "잘림"),
        ("`reason`", f"{MAX_TEXT:,}자", "잘림"),
        ("`email_to`", f"주소 {MAX_RECIPIENTS:,}개, 주소마다 254자, `@` 앞은 64자", "거부"),
        ("`arguments`와 그 밖의 필드에 든 문자열 하나", f"{MAX_TEXT:,}자", "잘림"),
        ("그 안의 이름과 그 밖의 필드 이름", f"{MAX_NAME:,}자", "잘림"),
        ("그 안의 정수 하나", f"{MAX_INT_BITS:,}비트", "거부"),
        ("목록과 객체의 중첩", f"{MAX_DEPTH:,}단계", "거부"),
        ("`requested_at`, `expires_at`", "2년부터 9998년까지", "거부"),
        ("자른 뒤의 모든 필드", f"JSON {MAX_EVENT:,}바이트", "거부"),
    ],
}


@pytest.mark.parametrize("language", LIMITS)
def test_the_guides_list_every_limit(language: str) -> None:
    table = "\n".join(f"| {' | '.join(row)} |" for row in LIMITS[language])
    guides = Path(__file__).parents[2].joinpath("docs").glob(f"*.{language}.md")
    assert any(table in path.read_text("utf-8") for path in guides), table


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("field", "most", "above"),
    [
        ("user_id", "가" * MAX_NAME, "가" * (MAX_NAME + 1)),
        ("tool_name", "가" * MAX_NAME, "가" * (MAX_NAME + 1)),
        ("responder_id", "가" * MAX_NAME, "가" * (MAX_NAME + 1)),
        ("reason", "가" * MAX_TEXT, "가" * (MAX_TEXT + 1)),
    ],
)
def test_what_is_longer_than_the_most_is_cut(field: str, most: str, above: str) -> None:
    assert getattr(make(**{field: most}), field) == most
    cut = getattr(make(**{field: above}), field)
    assert len(cut) <= len(most)
    assert cut.endswith("… (31 more)")


def test_texts_and_names_in_further_fields_are_cut_likewise() -> None:
    name, text = "n" * MAX_NAME, "가" * MAX_TEXT
    assert make(**{name: {name: text}}).extra == {name: {name: text}}
    cut_name, cut_text = f"{'n' * (MAX_NAME - 30)}… (31 more)", f"{'가' * (MAX_TEXT - 30)}… (31 more)"
    assert make(**{f"{name}n": {f"{name}n": f"{text}가"}}).extra == {cut_name: {cut_name: cut_text}}


@pytest.mark.parametrize(
    ("field", "most", "above"),
    [
        ("request_id", "x" * MAX_REQUEST_ID, "x" * (MAX_REQUEST_ID + 1)),
        ("email_to", [f"a{n}@b.example" for n in range(MAX_RECIPIENTS)], [f"a{n}@b.example" for n in range(51)]),
        ("email_to", "a" * 64 + "@b.example", "a" * 65 + "@b.example"),
        ("email_to", "a@" + "b" * 244 + ".example", "a@" + "b" * 245 + ".example"),
        ("arguments", [2**MAX_INT_BITS - 1], [2**MAX_INT_BITS]),
        ("arguments", nested(MAX_DEPTH), nested(MAX_DEPTH + 1)),
        ("requested_at", "0002-01-01T00:00:00Z", "0001-12-31T23:59:59Z"),
        ("expires_at", "9998-12-31T23:59:59Z", "9999-01-01T00:00:00Z"),
    ],
)
def test_what_is_more_than_the_most_is_refused(field: str, most: object, above: object) -> None:
    make(**{field: most})
    with pytest.raises(InvalidEvent, match=f"'{field}'"):
        make(**{field: above})


def test_an_event_may_be_as_large_as_the_most() -> None:
    room = MAX_EVENT - len(make(arguments=[]).to_json())
    texts = ["x" * 4000] * (room // 4003)
    last = "x" * (room - len(json.dumps(texts, separators=(",", ":"))) + 2 - 3)
    assert len(make(arguments=[*texts, last]).to_json()) == MAX_EVENT
    with pytest.raises(InvalidEvent, match=f"{MAX_EVENT + 1:,} bytes"):
        make(arguments=[*texts, f"{last}x"])


def test_recipients_are_split_and_told_once() -> None:
    assert make(email_to="a@example.com, b@example.com,a@example.com").email_to == ("a@example.com", "b@example.com")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(user_id=st.text(min_size=1), reason=st.text(), arguments=json_values)
def test_what_is_recorded_reads_back_equal_and_encodes(user_id: str, reason: str, arguments: Any) -> None:
    try:
        event = make(user_id=user_id, reason=reason, arguments=arguments)
    except InvalidEvent as error:
        assert error.field == "user_id"  # noqa: PT017 - only white space
        return
    text = event.to_json()
    text.encode()
    assert ApprovalEvent.from_json(text) == event


@given(st.text(alphabet=st.characters(exclude_categories=()), min_size=1, max_size=50))
def test_no_control_or_bidirectional_character_survives_in_a_name(text: str) -> None:
    try:
        name = make(tool_name=text).tool_name
    except InvalidEvent:
        return
    assert not any(
        ord(c) < 32 or c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f" for c in name
    )
    name.encode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "not json",
        '{"type":"approval_requested"}',
        json.dumps({"type": "x", "occurred_at": "x"}),
        make(reason="?").to_json().replace("?", "\\udcff"),
        make(expires_at="2026-01-02T03:04:05+00:00").to_json().replace("05+00:00", "05", 2),
    ],
)
def test_a_corrupt_record_is_an_invalid_record(text: str) -> None:
    with pytest.raises(InvalidRecord):
        ApprovalEvent.from_json(text)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("operator@localhost", True),
        ("first.last+tag@mail.example.com", True),
        ("a@b@c", False),
        ("a b@example.com", False),
        (".a@example.com", False),
        ("a@-example.com", False),
        ("a@example.com\n", False),
        ("user%elsewhere.example@example.com", False),
        ("elsewhere.example!user@example.com", False),
        ("=?utf-8?q?a?=@example.com", False),
        ("bounce+a=b.example@example.com", True),
        ("o'hara#1@example.com", True),
        ("운영자@example.com", False),
        ("x" * 65 + "@example.com", False),
    ],
)
def test_addresses(text: str, good: bool) -> None:
    assert is_address(text) is good


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ai@example.com", ("", "ai@example.com")),
        ("AI 승인 <ai@example.com>", ("AI 승인", "ai@example.com")),
        ("ai@example.com, b@example.com", None),
        ("nobody", None),
    ],
)
def test_senders(text: str, parts: tuple[str, str] | None) -> None:
    assert split_sender(text) == parts


@pytest.mark.parametrize("data", ["secret", ["secret"], None, 7])
def test_data_and_types_of_any_kind_are_refused_and_masked(data: object) -> None:
    with pytest.raises(InvalidEvent) as caught:
        ApprovalEvent.from_dict("approval_requested", data, now=NOW, localise=lambda naive: naive)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value.masked())
    with pytest.raises(InvalidEvent, match="is unknown"):
        ApprovalEvent.from_dict(data, {}, now=NOW, localise=lambda naive: naive)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email_to", "no address"),
        ("request_id", "with space"),
        ("expires_at", "to-morrow"),
        ("requested_at", datetime(2026, 1, 1)),  # noqa: DTZ001
    ],
)
def test_a_masked_error_names_the_field_and_not_the_value(field: str, value: object) -> None:
    with pytest.raises(InvalidEvent) as caught:
        make(**{field: value})
    masked = caught.value.masked()
    assert masked.field == field
    assert str(masked).replace("****", "") != str(masked)
    assert str(value) not in str(masked)
    assert str(value) in str(caught.value)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
@pytest.mark.parametrize("request_id", ["abc12345-6789", "a:b:approval_approved", "x"])
def test_an_events_id_is_taken_apart_again(event_type: str, request_id: str) -> None:
    event = make(event_type, request_id=request_id, **({"fraction": 0.5} if EVENT_TYPES[event_type].recurs else {}))
    request, kind = split_event_id(event.event_id)
    assert (request, kind.partition(":")[0]) == (request_id, event_type)
    assert split_event_id("no event's id") == ("no event's id", "")
