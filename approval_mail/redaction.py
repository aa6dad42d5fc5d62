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


#: Levels of dicts and lists that are looked into; what lies deeper is redacted as a whole.
_MAX_DEPTH = 30


def redact(value: Any, patterns: Sequence[str], *, depth: int = 0) -> Any:
    """A copy of ``value`` in which the values of keys that match one of ``patterns`` are REDACTED.

    Looks into dicts, lists and tuples, and into text that is a JSON object or list.
    """
    if depth > _MAX_DEPTH:
        return REDACTED
    if isinstance(value, Mapping):
        return {
            key: REDACTED if _matches(key, patterns) else redact(item, patterns, depth=depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redact(item, patterns, depth=depth + 1) for item in value]
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        return _redact_json(value, patterns, depth=depth + 1)
    return value


def _redact_json(text: str, patterns: Sequence[str], *, depth: int) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    except RecursionError:
        return REDACTED
    redacted = redact(value, patterns, depth=depth)
    return text if redacted == value else json.dumps(redacted, ensure_ascii=False)


def _matches(key: object, patterns: Sequence[str]) -> bool:
    name = str(key).lower().replace("-", "_").replace(" ", "_")
    return any(fnmatch.fnmatchcase(name, pattern.lower()) for pattern in patterns)
