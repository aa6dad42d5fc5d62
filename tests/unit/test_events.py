from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval_mail.addresses import is_address, split_sender
from approval_mail.errors import InvalidEvent, InvalidRecord
from approval_mail.events import MAX_EVENT, ApprovalEvent
from approval_mail.fields import MAX_NAME, MAX_TEXT

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
SEOUL = timezone(timedelta(hours=9))


def make(type_name: str = "approval_requested", **data: Any) -> ApprovalEvent:
    fields = {"request_id": "abc12345-6789", "user_id": "kim", "tool_name": "git_commit", **data}
    return ApprovalEvent.from_dict(type_name, fields, now=NOW, localise=lambda naive: naive.replace(tzinfo=SEOUL))


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


def test_endless_nesting_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    with pytest.raises(InvalidEvent, match="nested deeper"):
        make(arguments=loop)


def test_numbers_and_uuids_become_text() -> None:
    request_id = uuid.uuid4()
    event = make(request_id=request_id, user_id=42)
    assert (event.request_id, event.user_id) == (str(request_id), "42")


def test_times_without_an_offset_are_in_the_configured_zone() -> None:
    event = make(requested_at="2025-10-25T15:30:00", expires_at="2025-10-25T06:35:00Z")
    assert event.requested_at == datetime(2025, 10, 25, 15, 30, tzinfo=SEOUL)
    assert event.expires_at == datetime(2025, 10, 25, 15, 35, tzinfo=SEOUL)


def test_names_become_one_clean_line() -> None:
    event = make(tool_name="git\r\nBcc: x@example.com\x00\u202ecommit", user_id="u" * 500)
    assert event.tool_name == "git Bcc: x@example.com\ufffd\ufffdcommit"
    assert len(event.user_id) <= MAX_NAME


def test_long_texts_are_cut_and_say_how_much_is_missing() -> None:
    event = make(reason="y" * 10_000, arguments={"content": "x" * 1_000_000})
    assert len(event.reason) <= MAX_TEXT
    assert event.extra is not None
    assert event.extra["arguments"]["content"].endswith("more)")


def test_an_event_that_stays_too_large_is_refused_with_its_size() -> None:
    with pytest.raises(InvalidEvent, match=f"the most is {MAX_EVENT:,}"):
        make(arguments=["x" * 4000] * 20)


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
