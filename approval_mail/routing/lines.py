"""Where in a TOML file's text a key stands: the parser tells it of syntax alone. Pure."""

from __future__ import annotations

import re
from functools import cached_property

#: What must not be taken for keys and headers: comments, and texts over several lines (TOML 1.0, String). Texts in one
#: line are found as well, lest a ``#`` in one begin a comment.
_OPAQUE = re.compile(
    r'"""(?:\\.|[^\\])*?"""|' + r"'''.*?'''|" + r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'|" + r"#[^\n]*", re.DOTALL
)

#: Characters of a line that are looked at.
_LOOKED_AT = 1_000


class Lines:
    """The lines of one file, of which most stand in an array of tables, ``[[array]]``. Counted from 1.

    A look, not a second parser: what it cannot find (an array of inline tables, a key in escapes) is where its table
    begins, or the file.
    """

    def __init__(self, text: str, array: str) -> None:
        """Looks at ``text`` once something is asked: most files are faultless."""
        self._text = text
        self._array = array

    @cached_property
    def _lines(self) -> list[str]:
        return [line[:_LOOKED_AT] for line in _OPAQUE.sub(_blank, self._text).split("\n")]

    @cached_property
    def _tables(self) -> list[int]:
        header = re.compile(rf"""\s*\[\[\s*{_name(self._array)}\s*\]\]""")
        return [index for index, line in enumerate(self._lines) if header.match(line)]

    def of_file(self, key: str) -> int:
        """The line of a key, or of a table, of the file itself."""
        return self._find(rf"\s*\[*\s*{_name(key)}\s*[\].=]", 0, len(self._lines), default=0) + 1

    def of_table(self, number: int, key: str = "", part: str = "", *, tables: int) -> int:
        """The line where table ``number`` (from 0) of ``tables`` begins, or a key of it, or a part of that key's value.

        A part is a text, or the key of an inline table.
        """
        if tables != len(self._tables):
            return self.of_file(self._array)
        line = self._tables[number]
        end = self._tables[number + 1] if number + 1 < tables else len(self._lines)
        if key:
            pattern = rf"\s*(?:{_name(key)}\s*[=.]|\[\s*{_name(self._array)}\s*\.\s*{_name(key)}\s*\])"
            line = self._find(pattern, line, end, default=line)
        if part:
            quoted = re.escape(part)
            pattern = rf""".*?(?:"{quoted}"|'{quoted}'|(?<![\w-]){quoted}\s*=)"""
            line = self._find(pattern, line, end, default=line)
        return line + 1

    def _find(self, pattern: str, start: int, end: int, *, default: int) -> int:
        """Index of the first line from ``start`` to before ``end`` that begins as ``pattern`` says."""
        begins = re.compile(pattern)
        return next((index for index in range(start, end) if begins.match(self._lines[index])), default)


def _name(key: str) -> str:
    """A pattern of a key, bare or quoted."""
    return rf"""["']?{re.escape(key)}["']?"""


def _blank(found: re.Match[str]) -> str:
    text = found[0]
    if text.startswith(('"""', "'''")):
        return "\n" * text.count("\n")
    return "" if text.startswith("#") else text
