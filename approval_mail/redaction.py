"""Keeps what is secret in a request's arguments out of Redis, mails and pages. Pure."""

from __future__ import annotations

import fnmatch
import functools
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: What stands in place of a value.
REDACTED = "[redacted]"
#: Patterns of keys, as of fnmatch. A key is compared in lower case, as words with ``_`` between them and also without
#: any ``_``: ``*apikey*`` is ``X-API-Key``, ``api.key`` and ``apiKey`` as well.
REDACT_KEYS = (
    "*password*",
    "*passw*",
    "*passphrase*",
    "pass",
    "*_pass",
    "pwd",
    "*_pwd",
    "*secret*",
    "*token*",
    "jwt",
    "*apikey*",
    "*accesskey*",
    "*privatekey*",
    # Harmless keys such as primary_key are hidden with the others: that is the safe side.
    "*_key",
    "*credential*",
    "*authorization*",
    "*cookie*",
)

#: Levels of dicts, lists and texts that are looked into; what lies deeper is redacted as a whole.
_MAX_DEPTH = 30
#: Digits. A longer number in a text stays text: Python refuses to read some thousands.
_MAX_DIGITS = 400
#: What JSON that is looked into begins with: an object, a list, or a text that may hold either.
_OPENINGS = ("{", "[", '"')
#: Keys of an object that names a value beside it, as lists of headers or variables do.
_NAMES, _VALUE = ("name", "key"), "value"
#: What looks like a key of JSON, or of its relatives, in text that cannot be read: quoted, or bare within braces.
_LIKE_A_KEY = re.compile(r"""["']([^"'\n]*)["']\s*:|[{,]\s*([\w$.-]+)\s*:""")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_BETWEEN_WORDS = re.compile(r"[\W_]+")
_BETWEEN_WORDS_OF_A_PATTERN = re.compile(r"[^\w*?]+")


def redact(value: Any, patterns: Sequence[str]) -> Any:
    """A copy of ``value`` in which the values of keys that match one of ``patterns`` are REDACTED.

    Looks into dicts, lists and tuples, and into text that is JSON, or has lines of it. Text that begins as JSON does,
    cannot be read, and has something like such a key is REDACTED as a whole.
    """
    return _Redaction(tuple(patterns)).value(value, 0)


class _Redaction:
    """One walk through a value."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._secret = _compiled(patterns)

    def value(self, value: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            return REDACTED
        if isinstance(value, Mapping):
            return self._mapping(value, depth + 1)
        if isinstance(value, (list, tuple)):
            return [self._item(item, depth + 1) for item in value]
        if isinstance(value, str):
            return self._text(value, depth + 1)
        return value

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
        named = any(
            _words(name) in _NAMES and isinstance(text, str) and self._is_secret(text) for name, text in value.items()
        )
        return {
            key: REDACTED if self._is_secret(key) or (named and _words(key) == _VALUE) else self.value(item, depth)
            for key, item in value.items()
        }

    def _item(self, item: Any, depth: int) -> Any:
        """One of a list; a pair in it, as of headers, is a key and its value."""
        if isinstance(item, (list, tuple)) and len(item) == 2 and isinstance(item[0], str) and self._is_secret(item[0]):
            return [item[0], REDACTED]
        return self.value(item, depth)

    def _text(self, text: str, depth: int) -> str:
        bare = _bare(text)
        begins = bare.startswith(_OPENINGS)
        try:
            if begins:
                return self._json(text, bare, depth)
        except RecursionError:
            return REDACTED
        except ValueError:
            pass
        # Not one JSON value: perhaps one a line.
        lines, unread = text.splitlines(keepends=True), []
        for number, line in enumerate(lines):
            bare = _bare(line)
            try:
                if bare.startswith(_OPENINGS):
                    begins = begins or bare[0] != '"'
                    lines[number] = self._json(line, bare, depth)
                    continue
            except RecursionError:
                return REDACTED
            except ValueError:
                pass
            unread.append(line)
        if begins and self._mentions("".join(unread)):
            return REDACTED
        return "".join(lines)

    def _json(self, text: str, bare: str, depth: int) -> str:
        """``text`` as it is where nothing in it is secret; raises ValueError if ``bare``, what it holds, is no JSON."""
        repeats = False

        def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
            nonlocal repeats
            made = dict(found)
            repeats = repeats or len(made) < len(found)
            return made

        value = json.loads(bare, strict=False, object_pairs_hook=pairs, parse_int=_number)
        redacted = self.value(value, depth)
        # Of keys that come twice only the last was looked at, so the others must not stay.
        if redacted == value and not repeats:
            return text
        end = "\n" if text.endswith("\n") else ""
        return json.dumps(redacted, ensure_ascii=False) + end

    def _mentions(self, text: str) -> bool:
        plain = _ESCAPED.sub(lambda escaped: chr(int(escaped[1], 16)), text)
        return any(self._is_secret(quoted or bare) for quoted, bare in _LIKE_A_KEY.findall(plain))

    def _is_secret(self, key: object) -> bool:
        words = _words(key)
        return bool(self._secret.match(words) or self._secret.match(words.replace("_", "")))


@functools.lru_cache(maxsize=16)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(_comparable(pattern)) for pattern in patterns) or r"(?!)")


def _comparable(pattern: str) -> str:
    """A pattern as keys are compared; one with a class of characters says itself what it means."""
    folded = pattern.casefold()
    return folded if "[" in folded else _BETWEEN_WORDS_OF_A_PATTERN.sub("_", folded)


def _words(key: object) -> str:
    """A key in lower case, its words with ``_`` between them, without what cannot be seen."""
    text = str(key)
    if not text.isascii():
        text = _visible(unicodedata.normalize("NFKC", text))
    return _BETWEEN_WORDS.sub("_", _CAMEL.sub("_", text).casefold()).strip("_")


def _visible(characters: Iterable[str]) -> str:
    return "".join(character for character in characters if unicodedata.category(character) != "Cf")


def _bare(text: str) -> str:
    """Text without blanks, controls and byte order marks at its ends."""
    start, end = 0, len(text)
    while start < end and unicodedata.category(text[start])[0] in "CZ":
        start += 1
    while start < end and unicodedata.category(text[end - 1])[0] in "CZ":
        end -= 1
    return text[start:end]


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits
