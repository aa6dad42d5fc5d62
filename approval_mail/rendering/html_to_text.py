"""The text part of a mail whose author wrote only HTML. Pure."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_HIDDEN_TAGS = frozenset(("head", "title", "style", "script", "template", "noscript"))
_VOID_TAGS = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
)
#: Tags that begin and end a line.
_LINE_TAGS = frozenset(
    (
        *("address", "article", "blockquote", "body", "center", "dd", "div", "dl", "dt", "footer", "form", "header"),
        *("html", "li", "main", "nav", "pre", "section", "table", "tbody", "tfoot", "thead", "tr"),
    )
)
#: Tags that also stand apart by a blank line.
_APART_TAGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6", "hr", "ol", "p", "ul"))
_ITEM = "- "
_INVISIBLE = re.compile("[\u00ad\u034f\u200b\u200c\u2060\ufeff]")
#: What a page holds besides its words.
_MARKUP = re.compile(r"<(head|style|script|title)\b.*?</\1>|<!--.*?-->|<[^>]*>", re.DOTALL | re.IGNORECASE)
_HIDDEN_STYLE = re.compile(r"(display\s*:\s*none|visibility\s*:\s*hidden|mso-hide\s*:\s*all)", re.IGNORECASE)


def html_to_text(html: str) -> str:
    """Lay out what a reader of ``html`` sees as plain text; empty if that is nothing.

    Lines, list items and table rows keep their lines, links their targets, images their
    alternative text; what is hidden is left out.
    """
    layout = _Layout()
    layout.feed(html)
    layout.close()
    return layout.text()


def is_blank(html: str) -> bool:
    """Whether a reader of ``html`` sees nothing. The careful look costs a millisecond and is seldom needed."""
    return not _MARKUP.sub("", html).strip() and not html_to_text(html).strip()


class _Layout(HTMLParser):
    """Collects lines while the parser walks the page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._lines: list[str] = []
        self._line = ""
        self._preformatted = 0
        #: The tag that opened what is hidden, and how many of it are open.
        self._hidden_by = ""
        self._hidden_depth = 0
        #: Target of the open link, and where its text begins: line number, column.
        self._link: tuple[str, int, int] | None = None

    def text(self) -> str:
        self._break()
        return re.sub(r"\n{3,}", "\n\n", "\n".join(self._lines)).strip("\n")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._hidden_by:
            self._hidden_depth += tag == self._hidden_by
            return
        given = {name: value or "" for name, value in attrs}
        hidden = tag in _HIDDEN_TAGS or "hidden" in given or _HIDDEN_STYLE.search(given.get("style", ""))
        if hidden and tag not in _VOID_TAGS:
            self._hidden_by, self._hidden_depth = tag, 1
        elif not hidden:
            self._open(tag, given)

    def _open(self, tag: str, given: dict[str, str]) -> None:
        if tag == "br":
            self._lines.append(self._line.rstrip())
            self._line = ""
        elif tag in ("td", "th"):
            if self._line.strip():
                self._line = f"{self._line.rstrip()}  "
        elif tag == "img":
            self.handle_data(given.get("alt", ""))
        elif tag == "a":
            self._link = (given.get("href", ""), len(self._lines), len(self._line))
        elif self._line != _ITEM or tag in ("li", "ul", "ol"):  # A paragraph in an item begins beside its mark.
            self._edge(tag)
        if tag == "li":
            self._line = _ITEM
        elif tag == "pre":
            self._preformatted += 1

    def handle_endtag(self, tag: str) -> None:
        if self._hidden_by:
            self._hidden_depth -= tag == self._hidden_by
            if not self._hidden_depth:
                self._hidden_by = ""
        elif tag == "a":
            self._close_link()
        elif tag not in _VOID_TAGS:
            self._edge(tag)
            if tag == "pre":
                self._preformatted = max(0, self._preformatted - 1)

    def _close_link(self) -> None:
        if self._link is None:
            return
        target, line, column = self._link
        self._link = None
        shown = "\n".join([*self._lines, self._line][line:])[column:].strip()
        if target.startswith(("http:", "https:", "mailto:")) and shown not in (target, target.partition(":")[2]):
            self._line = f"{self._line.rstrip()} <{target}>".lstrip()

    def handle_data(self, data: str) -> None:
        if self._hidden_by:
            return
        data = _INVISIBLE.sub("", data)
        if self._preformatted:
            *whole, rest = data.split("\n")
            for line in whole:
                self._lines.append((self._line + line).rstrip())
                self._line = ""
            self._line += rest
            return
        # A no-break space is kept until here, so that indents made of it survive.
        collapsed = re.sub(r"[ \t\r\n\f]+", " ", data).replace("\u00a0", " ")
        if not self._line or self._line.endswith(" "):
            collapsed = collapsed.removeprefix(" ") if data[:1] != "\u00a0" else collapsed
        self._line += collapsed

    def _edge(self, tag: str) -> None:
        if tag in _LINE_TAGS:
            self._break()
        elif tag in _APART_TAGS:
            self._break()
            self._lines.append("")

    def _break(self) -> None:
        if self._line.strip():
            self._lines.append(self._line.rstrip())
        self._line = ""
