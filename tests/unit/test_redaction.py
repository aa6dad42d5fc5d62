"""What is secret in arguments does not leave the application."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval_mail.redaction import REDACT_KEYS, REDACTED, redact

#: Shapes that a tool's arguments have.
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "DB_PASSWORD",
        "user-password",
        "X-API-Key",
        "apiKey",
        "access token",
        "clientSecret",
        "Authorization",
        "Set-Cookie",
        "privateKey",
        "aws_credentials",
    ],
)
def test_keys_that_are_usually_secret_are_redacted(key: str) -> None:
    assert redact({"a": [{key: {"deep": "hunter2"}}], "b": 1}, REDACT_KEYS) == {"a": [{key: REDACTED}], "b": 1}


@pytest.mark.parametrize("key", ["message", "path", "author", "monkey", "keyboard", "files", "authorizations_count"])
def test_keys_that_are_not_stay(key: str) -> None:
    assert redact({key: "x"}, REDACT_KEYS) == {key: "x"}


def test_patterns_are_settable() -> None:
    assert redact({"IBAN": "DE00", "password": "x"}, ("iban",)) == {"IBAN": REDACTED, "password": "x"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"token": "t", "n": 1}', '{"token": "[redacted]", "n": 1}'),
        ('  [{"token": "t"}]', '[{"token": "[redacted]"}]'),
        ('{"n":   1}', '{"n":   1}'),
        ('{"token": "t"', '{"token": "t"'),
        ("[" * 100_000, REDACTED),
        ("[" * 100 + "]" * 100, "[" * 29 + f'"{REDACTED}"' + "]" * 29),
        ("token=t", "token=t"),
    ],
)
def test_json_in_text_is_looked_into(text: str, expected: str) -> None:
    assert redact({"body": text}, REDACT_KEYS) == {"body": expected}


@given(value=_JSON, secret=st.text(alphabet="0123456789abcdef", min_size=24, max_size=24))
def test_no_secret_is_left_wherever_it_stands(value: Any, secret: str) -> None:
    hidden = redact(
        {"outer": [value, {"password": {"x": [secret, value]}}], "body": json.dumps({"token": secret})}, REDACT_KEYS
    )
    assert secret not in json.dumps(hidden)


@given(value=_JSON)
def test_nothing_is_lost_without_patterns(value: Any) -> None:
    assert redact(value, ("no such key",)) == value
