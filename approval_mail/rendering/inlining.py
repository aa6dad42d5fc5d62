"""Styles from a page's style sheet onto its elements, where mail clients look for them."""

from __future__ import annotations

import html
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import css_inline
from markupsafe import escape

#: Characters for private use, which frame what is filled in.
_OPEN, _CLOSE = "\ue000", "\ue001"
#: A page that holds one of these, or what browsers read as another character, is inlined as a whole.
_ODD = (_OPEN, _CLOSE, "\0", "\r")
_HOLE = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")
#: Words between two tags, or what is mistaken for them: then no form will fit.
_WORDS = re.compile(r">([^<]*[^<\s][^<]*)(?=<)")
#: Structures that are remembered: a few for each event type, more where arguments differ in shape.
_MAX_FORMS = 128


@dataclass(frozen=True, slots=True)
class _Form:
    """An inlined page with holes for its words: literal, hole, literal, hole ... literal."""

    literals: tuple[str, ...]
    #: Which of the page's words each hole takes.
    holes: tuple[int, ...]

    def fill(self, words: Sequence[str]) -> str:
        parts = [""] * (len(self.literals) + len(self.holes))
        parts[::2] = self.literals
        parts[1::2] = [_as_written(words[hole]) for hole in self.holes]
        return "".join(parts)


#: Words whose every character is written differently in different places of a page.
_TELLING = str(escape("a \"b\" 'c' <d> & e"))
#: In place of a form: a structure seen once, and one whose words and styles depend on one another.
_ONCE, _NEVER = _Form((), ()), _Form((), ())


class Inliner:
    """Inlines styles, mostly by filling a page's words into a form that an earlier page of its structure left.

    Styles depend on tags; pages with the same tags differ in their words alone. A form is made at the second page of
    a structure, and kept if it makes just what inlining makes, of that page and of one with words that must be escaped.
    """

    def __init__(self) -> None:
        self._whole = css_inline.CSSInliner(keep_at_rules=True, load_remote_stylesheets=False)
        #: By structure, the one not used for longest first.
        self._forms: OrderedDict[tuple[str, ...], _Form] = OrderedDict()

    def inline(self, page: str, *, links: Sequence[str] = ()) -> str:
        """The page with its styles inlined; ``links`` are those that no other page has."""
        if any(character in page for character in _ODD):
            return self._whole.inline(page)
        marks = {f"{_OPEN}link{number}{_CLOSE}": str(escape(link)) for number, link in enumerate(links) if link}
        common = page
        for mark, link in marks.items():
            common = common.replace(link, mark)
        pieces = _pieces(common)
        form = self._form_of(pieces, marks) if pieces else None
        return _put_back(form.fill(pieces[1::2]), marks) if form else self._whole.inline(page)

    def inline_alone(self, page: str) -> str:
        """The same of a page whose structure seldom comes again: no form is looked for, made or kept."""
        return self._whole.inline(page)

    def _form_of(self, pieces: Sequence[str], marks: Mapping[str, str]) -> _Form | None:
        """The form for a page of these pieces, None if there is none."""
        structure = tuple(pieces[::2])
        form = self._forms.pop(structure, None)
        if form is _ONCE:
            form = self._make(pieces, marks)
        self._forms[structure] = form or _ONCE
        if len(self._forms) > _MAX_FORMS:
            self._forms.popitem(last=False)
        return None if form is _NEVER else form

    def _make(self, pieces: Sequence[str], marks: Mapping[str, str]) -> _Form:
        tags, words = pieces[::2], pieces[1::2]
        holes = [f"{_OPEN}{number}{_CLOSE}" for number in range(len(words))]
        try:
            parts = _HOLE.split(self._whole.inline(_page(tags, holes)))
            form = _Form(tuple(parts[::2]), tuple(map(int, parts[1::2])))
            # Words within an attribute, say, are not written as others are: those that have to be escaped tell.
            for tried in (words, [_TELLING] * len(words)):
                whole = self._whole.inline(_put_back(_page(tags, tried), marks))
                if _put_back(form.fill(tried), marks) != whole:
                    return _NEVER
        except css_inline.InlineError:  # The page itself may be sound all the same.
            return _NEVER
        return form


def _put_back(page: str, marks: Mapping[str, str]) -> str:
    for mark, link in marks.items():
        page = page.replace(mark, link)
    return page


def _page(tags: Sequence[str], words: Sequence[str]) -> str:
    """Of `_pieces`, with these words."""
    return "".join(part for pair in zip(tags, (*(f">{each}" for each in words), ""), strict=True) for part in pair)


def _pieces(page: str) -> list[str]:
    """Cut a page into tags, words, tags, words ... tags, less the ``>`` before words; empty if it cannot be told."""
    if page.count("<style") != 1 or "<script" in page:
        return []  # What stands in them is no words, and more than one of them is rare.
    head, style, rest = page.partition("<style")
    sheet, end, body = rest.partition("</style")
    before, after = _WORDS.split(head), _WORDS.split(body)
    return [*before[:-1], "".join((before[-1], style, sheet, end, after[0])), *after[1:]]


@lru_cache(maxsize=512)
def _as_written(words: str) -> str:
    """Words out of a page, with each character as css-inline writes it (HTML standard, section 13.3)."""
    if "&" not in words and ">" not in words and "\u00a0" not in words:
        return words
    plain = html.unescape(words)
    return plain.replace("&", "&amp;").replace("\u00a0", "&nbsp;").replace("<", "&lt;").replace(">", "&gt;")
