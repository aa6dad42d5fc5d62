"""The TOML of the routes to rules; every problem at once, each with its line. Pure."""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from approval_mail import parsers
from approval_mail.errors import InvalidRoutes
from approval_mail.events import EVENT_TYPES
from approval_mail.fields import MAX_RECIPIENTS, shown
from approval_mail.routing.lines import Lines
from approval_mail.routing.rules import NAMED_FIELDS, OTHER_FIELDS, Entry, Rule, Wanted, glob
from approval_mail.settings import LANGUAGES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Characters of a rule's name: it goes into reasons, log lines and counters.
MAX_NAME = 80
#: A rule of this name could not be told from an event that chose for itself.
RESERVED_NAME = "email_to"
#: Problems that are told of one file.
_MAX_PROBLEMS = 50

_RULE = "rule"
_CONDITIONS = ("type", "tool_name", "user_id", "extra")
_ACTIONS = ("to", "leave_out", "language", "timezone", "go_on")
_KEYS = ("name", *_CONDITIONS, *_ACTIONS, "off")
#: Where tomllib says that something is wrong.
_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")

_Read = TypeVar("_Read")


def read(text: str, source: str) -> list[Rule]:
    """The rules in their order; raises InvalidRoutes, whose problems begin with ``source`` and a line."""
    lines = Lines(text, _RULE)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidRoutes((_syntax(str(error), text, source),)) from error
    except (ValueError, RecursionError) as error:  # A number of thousands of digits; lists in lists in lists.
        raise InvalidRoutes((f"{source} has a number that is too long, or nests too deep; take it out",)) from error
    problems: list[str] = []
    for key in document:
        if key != _RULE and len(problems) <= _MAX_PROBLEMS:
            mend = "did you mean [[rule]]?" if _close(key.lower(), (_RULE, "routes")) else "a file has [[rule]] alone"
            problems.append(f"{source}, line {lines.of_file(key)}: {shown(key)} is not a key of this file; {mend}")
    tables = document.get(_RULE, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        line = lines.of_file(_RULE)
        problems.append(f"{source}, line {line}: 'rule' is {_kind(tables)}; begin each rule with [[rule]]")
        tables = []
    readers = [_RuleReader(table, number, len(tables), lines, source) for number, table in enumerate(tables)]
    rules = [reader.read() for reader in readers]
    first: dict[str, _RuleReader] = {}
    for reader, rule in zip(readers, rules, strict=True):
        if rule.name and first.setdefault(rule.name, reader) is not reader:
            line = first[rule.name].line("name")
            reader.refuse("name", f"the name is that of line {line} as well; choose another")
    problems += [problem for reader in readers for problem in reader.problems]
    if len(problems) > _MAX_PROBLEMS:
        problems[_MAX_PROBLEMS:] = [f"{source} has more problems than these; mend these first"]
    if problems:
        raise InvalidRoutes(tuple(problems))
    return rules


class _RuleReader:
    """Reads one table key by key; what is wrong goes into ``problems``, and nothing is raised."""

    def __init__(self, table: Mapping[str, Any], number: int, tables: int, lines: Lines, source: str) -> None:
        self._table = table
        self._number = number
        self._tables = tables
        self._lines = lines
        self._source = source
        self.problems: list[str] = []

    def line(self, key: str = "", part: str = "") -> int:
        return self._lines.of_table(self._number, key, part, tables=self._tables)

    def refuse(self, key: str, fault: str, part: str = "") -> None:
        if len(self.problems) > _MAX_PROBLEMS:
            return  # That there are more is told.
        name = self._table.get("name")
        who = f"rule '{name}'" if _is_name(name) else f"rule number {self._number + 1}"
        self.problems.append(f"{self._source}, line {self.line(key, part)}: {who}: {fault}")

    def read(self) -> Rule:
        for key in self._table:
            if key not in _KEYS:
                close = _close(key, _KEYS)
                mend = f"did you mean {close}?" if close else f"use {', '.join(_KEYS)}; other fields go into extra"
                self.refuse(key, f"{shown(key)} is not a key of a rule; {mend}")
        rule = Rule(
            name=self._name(),
            types=frozenset(self._texts("type", _event_type)),
            tool_name=self._texts("tool_name", glob),
            user_id=self._texts("user_id", glob),
            extra=self._extra(),
            to=self._texts("to", Entry.parse) if "to" in self._table else None,
            leave_out=self._texts("leave_out", Entry.parse),
            language=self._text("language", _language),
            timezone=self._text("timezone", _timezone),
            go_on=self._flag("go_on"),
            off=self._flag("off"),
        )
        self._check_together(rule)
        return rule

    def _check_together(self, rule: Rule) -> None:
        given = [key for key in _ACTIONS if key in self._table]
        if rule.off and given:
            self.refuse(
                "off",
                f"off = true sends no mail, so {', '.join(given)} would have no effect; keep the one or the other",
            )
        if not self._table.get("off") and not set(given) - {"go_on"}:
            self.refuse("", "it does nothing; give it to, leave_out, language, timezone or off = true")
        worded = [key for key in ("language", "timezone") if key in self._table]
        if rule.names_nobody and worded:
            self.refuse(worded[0], f"{worded[0]} is for nobody where a rule goes on without to; give it to")
        to = self._table.get("to")
        if isinstance(to, list) and len(to) > MAX_RECIPIENTS:
            self.refuse("to", f"to has {len(to)} entries; the most is {MAX_RECIPIENTS}: name a list's address")

    def _name(self) -> str:
        name = self._table.get("name")
        if name is None:
            self.refuse("", 'it has no name; add name = "..."')
        elif not _is_name(name):
            use = f"use 1 to {MAX_NAME} printable characters without blanks at the ends"
            self.refuse("name", f"name is {shown(name)}; {use}")
        elif name == RESERVED_NAME:
            self.refuse("name", f"name is '{name}', which stands for the event's own choice; choose another")
        else:
            return str(name)
        return ""

    def _text(self, key: str, parse: Callable[[str], str]) -> str:
        value = self._table.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.refuse(key, f"{key} is {_kind(value)}; use a text, in quotes")
            return ""
        return str(self._parsed(key, value, parse, ""))

    def _texts(self, key: str, parse: Callable[[str], _Read]) -> tuple[_Read, ...]:
        """A text or several, each parsed."""
        value = self._table.get(key)
        if value is None:
            return ()
        if not isinstance(value, (str, list)):
            self.refuse(key, f"{key} is {_kind(value)}; use a text, in quotes, or a list of texts")
            return ()
        found = [
            self._parsed(key, item, parse, None) for item in self._items(key, key, value) if self._is_text(key, item)
        ]
        return tuple(one for one in found if one is not None)

    def _items(self, key: str, what: str, value: Any) -> Sequence[Any]:
        if value == []:
            self.refuse(key, f"{what} is an empty list; fill it, or take it out", what)
        return value if isinstance(value, list) else [value]

    def _is_text(self, key: str, item: Any) -> bool:
        if not isinstance(item, str):
            self.refuse(key, f"{key} has {_kind(item)}; use texts alone, in quotes")
        return isinstance(item, str)

    def _parsed(self, key: str, text: str, parse: Callable[[str], Any], otherwise: Any) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            self.refuse(key, f"{key} {shown(text)} {error}", text)
            return otherwise

    def _flag(self, key: str) -> bool:
        value = self._table.get(key, False)
        if not isinstance(value, bool):
            self.refuse(key, f"{key} is {_kind(value)}; use true or false, without quotes")
        return value is True

    def _extra(self) -> dict[str, tuple[Wanted, ...]]:
        table = self._table.get("extra")
        if table is None:
            return {}
        if not isinstance(table, dict) or not table:
            self.refuse("extra", f'extra is {_kind(table)}; use fields of the event, as in {{ environment = "prod*" }}')
            return {}
        found = {}
        for field, value in table.items():
            if field in NAMED_FIELDS or field in OTHER_FIELDS:
                mend = f"write {field} = ... beside it" if field in _CONDITIONS else "no rule can ask for it"
                self.refuse("extra", f"extra has {field}, which is not a further field; {mend}", field)
                continue
            wanted = [self._wanted(field, item) for item in self._items("extra", f"extra {shown(field)}", value)]
            found[field] = tuple(one for one in wanted if one is not None)
        return found

    def _wanted(self, field: str, value: Any) -> Wanted | None:
        if isinstance(value, str):
            try:
                return glob(value)
            except ValueError as error:
                self.refuse("extra", f"extra {shown(field)} {error}", field)
                return None
        if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):  # A boolean is an int.
            return value
        kind = shown(value) if isinstance(value, float) else _kind(value)
        self.refuse("extra", f"extra {shown(field)} is {kind}; use texts, numbers, true or false", field)
        return None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value == value.strip() and 0 < len(value) <= MAX_NAME and value.isprintable()


def _event_type(text: str) -> str:
    if text not in EVENT_TYPES:
        close = _close(text, EVENT_TYPES)
        raise ValueError(f"is unknown; {f'did you mean {close}?' if close else 'use ' + ', '.join(EVENT_TYPES)}")
    return text


def _language(text: str) -> str:
    if text not in LANGUAGES:
        raise ValueError(f"is unknown; use {' or '.join(LANGUAGES)}")
    return text


def _timezone(text: str) -> str:
    try:
        parsers.zone(text)
    except ValueError as error:
        raise ValueError(f"is unknown; {error}") from error
    return text


def _close(word: str, known: Iterable[str]) -> str:
    """The known word that is meant, or nothing: the one that it begins, else the one that is most like it."""
    words = list(known)
    begun = [name for name in words if len(word) > 2 and name.startswith(word)]
    return next(iter(begun or difflib.get_close_matches(word, words, n=1)), "")


def _kind(value: Any) -> str:
    """What a value of TOML is, in its words."""
    names: tuple[tuple[type, str], ...] = (
        (bool, "true or false"),
        (str, "a text"),
        (int, "a whole number"),
        (float, "a number"),
        (list, "a list"),
        (dict, "a table"),
    )
    empty = "an empty table" if value == {} else ""
    return empty or next((name for kind, name in names if isinstance(value, kind)), "a date or a time")


def _syntax(said: str, text: str, source: str) -> str:
    at = _AT.search(said)
    line, column = (int(at[1]), f" in column {at[2]}") if at and at[1] else (max(1, text.rstrip().count("\n") + 1), "")
    return f"{source}, line {line}: {_AT.sub('', said)}{column}; write it as TOML: texts in quotes, lists in brackets"
