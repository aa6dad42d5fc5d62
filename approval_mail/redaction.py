"""Keeps what is secret in a request's arguments out of Redis, mails and pages. Pure."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping, Sequence
from typing import Any

#: What stands in place of a value.
REDACTED = "[redacted]"
#: Patterns of keys, as of fnmatch; a key is compared in lower case with ``_`` for ``-`` and spaces.
REDACT_KEYS = (
    "*password*",
    "*passwd*",
    "*passphrase*",
    "*secret*",
    "*token*",
    "*api_key*",
    "*apikey*",
    "*access_key*",
    "*accesskey*",
    "*private_key*",
    "*privatekey*",
    "*credential*",
    "authorization",
    "*cookie*",
)


def redact(value: Any, patterns: Sequence[str]) -> Any:
    """A copy of ``value`` in which the values of keys that match one of ``patterns`` are REDACTED.

    Looks into dicts, lists and tuples, and into text that is a JSON object or list.
    """
    if isinstance(value, Mapping):
        return {key: REDACTED if _matches(key, patterns) else redact(item, patterns) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(item, patterns) for item in value]
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        return _redact_json(value, patterns)
    return value


def _redact_json(text: str, patterns: Sequence[str]) -> str:
    try:
        value = json.loads(text)
        redacted = redact(value, patterns)
    except (ValueError, RecursionError):
        return text
    return text if redacted == value else json.dumps(redacted, ensure_ascii=False)


def _matches(key: object, patterns: Sequence[str]) -> bool:
    name = str(key).lower().replace("-", "_").replace(" ", "_")
    return any(fnmatch.fnmatchcase(name, pattern.lower()) for pattern in patterns)
