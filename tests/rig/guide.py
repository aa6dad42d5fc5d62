"""A guide in Markdown, read for what can be tried: its code blocks, and the errors that it explains."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path

#: Before a block: what it starts keeps running while the guide goes on.
TERMINAL = "in a terminal of its own"
#: Begins what stands before a block that cannot be tried here, such as "needs Docker".
_NEEDS = "needs "

_BLOCK = re.compile(r"^ *```(?P<language>\w*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (?P<mark>[^>]*) -->\s*\Z")
_HEADING = re.compile(r"^(?P<level>#+) (?P<text>.*)$", re.MULTILINE)
_CODE_SPAN = re.compile(r"`([^`]+)`")
_TROUBLESHOOTING = re.compile("Troubleshooting|문제 해결")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    #: Of the opening fence, counted from 1: the text begins on the next one.
    line: int
    language: str
    text: str
    #: TERMINAL, or what it needs, or nothing.
    mark: str
    #: The ``text`` block after a ``bash`` one: what a person sees of it.
    shown: str = ""

    @property
    def is_tried(self) -> bool:
        return self.language == "bash" and not self.mark.startswith(_NEEDS)


@dataclass(frozen=True, slots=True)
class Guide:
    """What `read` found."""

    path: Path
    blocks: tuple[Block, ...]
    #: All but the blocks.
    prose: str

    def errors(self) -> list[str]:
        """Each error's text as its heading of level 3 or 4 has it; ``...`` stands for anything."""
        found, explained = [], False
        for heading in _HEADING.finditer(self.prose):
            level, spans = len(heading["level"]), _CODE_SPAN.findall(heading["text"])
            if level <= 2:
                explained = bool(_TROUBLESHOOTING.search(heading["text"]))
            elif explained and level <= 4 and len(spans) == 1:
                found.append(spans[0])
        return found


def read(path: Path) -> Guide:
    """Read a guide; raises ValueError for a mark before a block that is unknown, and for a block without end.

    A ``text`` block belongs to the ``bash`` block before it if there is at most a sentence in between.
    """
    content = path.read_text("utf-8")
    blocks: list[Block] = []
    end = 0
    for found in _BLOCK.finditer(content):
        before, end = content[end : found.start()], found.end()
        line = content.count("\n", 0, found.start()) + 1
        mark = _MARK.search(before)
        if mark and mark["mark"] != TERMINAL and not mark["mark"].startswith(_NEEDS):
            raise ValueError(f"{path.name}:{line}: <!-- {mark['mark']} --> is unknown")
        text = textwrap.dedent(found["text"])
        if found["language"] == "text" and blocks and blocks[-1].language == "bash" and _is_a_sentence(before):
            blocks[-1] = replace(blocks[-1], shown=text)
        blocks.append(Block(line, found["language"], text, mark["mark"] if mark else ""))
    prose = _BLOCK.sub("", content)
    if "```" in prose:
        raise ValueError(f"{path.name}: a block has no end, or stands within a line")
    return Guide(path, tuple(blocks), prose)


def _is_a_sentence(text: str) -> bool:
    return "\n\n" not in text.strip() and not text.strip().startswith(("#", "|"))


def pattern(shown: str) -> re.Pattern[str]:
    """A line that a guide shows, in which ``...`` stands for anything."""
    return re.compile(".*".join(re.escape(part) for part in shown.rstrip().split("...")))


def first_missing(shown: str, printed: str) -> str | None:
    """The first line of ``shown`` that is not among those printed, in this order; None if all are.

    Further lines may be printed between them; trailing blanks do not count.
    """
    lines = [line.rstrip() for line in printed.splitlines()]
    rest = iter(lines)
    for line in shown.splitlines():
        if line.strip() not in ("", "...") and not any(pattern(line).fullmatch(seen) for seen in rest):
            return line
    return None
