"""Spans and arguments as people read them, in mails and on pages."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import lru_cache
from typing import Any

from jinja2 import Template

#: Characters of a request's arguments that are shown. Gmail clips a mail at 102 KB of HTML.
MAX_ARGUMENTS = 4_000


def word_span(span: timedelta, words: Template) -> str:
    """A span in the language of ``words``, its duration.txt, such as ``4분 52초``; empty for a negative one."""
    if span < timedelta(0):
        return ""
    return _word_span(span.days, span.seconds, words)


@lru_cache(maxsize=1024)
def _word_span(days: int, seconds: int, words: Template) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return words.render(days=days, hours=hours, minutes=minutes, seconds=seconds).strip()


def word_arguments(arguments: Any) -> tuple[str, int]:
    """Arguments as text or laid out JSON, cut, and how many characters are left out; empty for None."""
    if arguments is None:
        return "", 0
    shown = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, indent=2)
    shown = shown.expandtabs(4).rstrip().lstrip("\n")
    return shown[:MAX_ARGUMENTS], max(0, len(shown) - MAX_ARGUMENTS)
