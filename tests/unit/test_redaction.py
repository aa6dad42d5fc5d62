"""What is secret in arguments does not leave the application."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
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
        "Proxy-Authorization",
        "authorization_header",
        "authorization ",
        "api.key",
        "api\u00a0key",
        "api\tkey",
        "api__key",
        "pass-word",
        "pass\u200bword",
        "\uff50assword",
        "pwd",
        "pass",
        "DB_PASS",
        "dbPwd",
        "jwt",
        "ssh_key",
        "signingKey",
        "encryption_key",
    ],
)
def test_keys_that_are_usually_secret_are_redacted(key: str) -> None:
    assert redact({"a": [{key: {"deep": "hunter2"}}], "b": 1}, REDACT_KEYS) == {"a": [{key: REDACTED}], "b": 1}


@pytest.mark.parametrize(
    "key", ["message", "path", "author", "monkey", "keyboard", "key", "files", "compass", "passage"]
)
def test_keys_that_are_not_stay(key: str) -> None:
    assert redact({key: "x"}, REDACT_KEYS) == {key: "x"}


def test_patterns_are_settable() -> None:
    assert redact({"IBAN": "DE00", "password": "x"}, ("iban",)) == {"IBAN": REDACTED, "password": "x"}
    assert redact({"pin-code": 1, "pin": 2}, ("Pin-Code",)) == {"pin-code": REDACTED, "pin": 2}
    assert redact({"pin1": 1, "pin2": 2}, ("pin[1]",)) == {"pin1": REDACTED, "pin2": 2}
    assert redact({"password": 1}, ()) == {"password": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"token": "t", "n": 1}', '{"token": "[redacted]", "n": 1}'),
        ('  [{"token": "t"}]', '[{"token": "[redacted]"}]'),
        ('{"n":   1}', '{"n":   1}'),
        ('{"token": "t"', REDACTED),
        ('{"n": 1', '{"n": 1'),
        ("{'token': 't'}", REDACTED),
        ("{token: 't'}", REDACTED),
        ('{"to\\u006ben": "t"', REDACTED),
        ('{"token": "s", "token": "[redacted]"}', '{"token": "[redacted]"}'),
        ('{"a": {"token": "s"}, "a": 1}', '{"a": 1}'),
        ('{"a": "{\\"token\\": 1}", "a": 1}', '{"a": 1}'),
        (f'{{"token": "t", "n": {"1" * 5000}}}', f'{{"token": "[redacted]", "n": "{"1" * 5000}"}}'),
        ('\ufeff{"token": "t"}', '{"token": "[redacted]"}'),
        ('\x00 {"token": "t"}\x00', '{"token": "[redacted]"}'),
        ('{"token": "a\nb"}', '{"token": "[redacted]"}'),
        (json.dumps('{"token": 1}'), json.dumps('{"token": "[redacted]"}')),
        ('"{\\"token\\": 1', REDACTED),
        ('{"n":  1}\n{"token": "t"}\n', '{"n":  1}\n{"token": "[redacted]"}\n'),
        ('{"n": 1}\n{"token": "t"\n', REDACTED),
        ('POST\n{\n  "token": "t"\n}', REDACTED),
        ('the "token": t', 'the "token": t'),
        ("[" * 100_000, REDACTED),
        ("[" * 100 + "]" * 100, "[" * 29 + f'"{REDACTED}"' + "]" * 29),
        ("token=t", "token=t"),
    ],
)
def test_json_in_text_is_looked_into(text: str, expected: str) -> None:
    assert redact({"body": text}, REDACT_KEYS) == {"body": expected}


@pytest.mark.parametrize("make", [dict, lambda given: json.dumps(dict(given))])
def test_a_value_beside_the_name_of_a_secret_is_redacted(make: Callable[[dict[str, str]], Any]) -> None:
    found = redact(
        [make({"Name": "DB_PASSWORD", "Value": "s", "n": "1"}), make({"key": "A", "value": "b"})], REDACT_KEYS
    )
    assert found == [make({"Name": "DB_PASSWORD", "Value": REDACTED, "n": "1"}), make({"key": "A", "value": "b"})]


def test_of_a_pair_in_a_list_the_value_is_redacted() -> None:
    headers = [["Authorization", "Bearer s"], ("Accept", "*/*")]
    assert redact({"headers": headers}, REDACT_KEYS) == {"headers": [["Authorization", REDACTED], ["Accept", "*/*"]]}
    assert redact({"fields": ["token", "name"]}, REDACT_KEYS) == {"fields": ["token", "name"]}


@pytest.mark.parametrize(
    "text", ["\\" * 200_000, "{" + ", " * 100_000, '["a\n' * 50_000, "[1,\n[2],\n" * 900 + "[3]\n" * 9000]
)
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    redact(text, REDACT_KEYS)
    assert time.process_time() - began < 5


@given(value=_JSON, secret=st.text(alphabet="0123456789abcdef", min_size=24, max_size=24))
def test_no_secret_is_left_wherever_it_stands(value: Any, secret: str) -> None:
    hidden = redact(
        {"outer": [value, {"password": {"x": [secret, value]}}], "body": json.dumps({"token": secret})}, REDACT_KEYS
    )
    assert secret not in json.dumps(hidden)


@given(value=_JSON)
def test_nothing_is_lost_without_patterns(value: Any) -> None:
    assert redact(value, ("no such key",)) == value
