"""Draws a view onto a terminal of any size, the most important first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from approval_mail.cli.live.headline import Level, spoken
from approval_mail.cli.live.looks import AGES, Look
from approval_mail.cli.live.trend import BAR, SPAN, View
from approval_mail.cli.output import plural
from approval_mail.events import split_event_id
from approval_mail.fields import plain
from approval_mail.overview import Around
from approval_mail.store import Failure

#: Columns and lines from which on everything has a frame of its own, two beside each other.
_ROOMY = (108, 30)
#: Lines that a headline may take.
_HEADLINE = 4
#: Columns of the labels on the left.
_LABEL = 11
#: Columns of a frame with the space within.
_FRAME = 4
_STYLES = {
    Level.OK: "green",
    Level.CHECK: "yellow",
    Level.STOPPED: "red",
    Level.OFF: "magenta",
    Level.LOOKING: "cyan",
}
_RESULTS = {"dead": "red", "unknown": "magenta", "failed": "yellow"}
#: Names of the groups of `Look.by_age`, and how they are shown: the longer, the worse.
_AGES = (*(f"<{bound:g} s" if bound < 60 else f"<{bound / 60:g} min" for bound in AGES), "older")
_AGE_STYLES = ("green", "green", "yellow", "red", "red")
#: Events that a bar is drawn in full for, at the least: a few are none to worry about.
_FULL_BAR = 20
_HEIGHTS = "▁▂▃▄▅▆▇█"
#: Where a terminal's encoding has nothing better.
_ASCII_HEIGHTS = "_.:-=+*#"


@dataclass(frozen=True, slots=True)
class _Block:
    """Some lines about one thing."""

    title: str
    lines: list[Text]
    #: The lower, the sooner it is given room.
    rank: int


@dataclass(slots=True)
class Page:
    """What is drawn for one console; ``every`` is the seconds between two looks."""

    console: Console
    #: None: the system's.
    timezone: tzinfo | None
    every: float
    _ascii: bool = field(init=False)

    def __post_init__(self) -> None:
        self._ascii = not self.console.encoding.lower().startswith("utf")

    def draw(self, view: View) -> RenderableType:
        """As many lines as the console has, none of them wider than it is."""
        width, height = self.console.size
        if width >= _ROOMY[0] and height >= _ROOMY[1]:
            return self._roomy(view, width, height)
        return self._close(view, width, height)

    def _roomy(self, view: View, width: int, height: int) -> RenderableType:
        left = width * 3 // 5
        inner_left, inner_right = left - _FRAME, width - left - _FRAME
        said = self._headline(view, width - _FRAME)
        top: list[RenderableType] = [
            self._title(view, width),
            Panel(Group(*said), border_style=f"bold {_STYLES[view.headline.level]}"),
        ]
        used = 1 + len(said) + 2
        if view.look:
            rows = [
                (self._throughput(view, inner_left), self._ages(view.look, inner_right)),
                (self._pipeline(view, view.look), self._events(view.look, roomy=True)),
            ]
            for one, other in rows:
                lines = max(len(one.lines), len(other.lines))
                grid = Table.grid()
                grid.add_column(width=left)
                grid.add_column(width=width - left)
                grid.add_row(_framed(one, lines, stale=view.stale), _framed(other, lines, stale=view.stale))
                top.append(grid)
                used += lines + 2
            top.append(_framed(self._failures(view.look, width - _FRAME), height - used - 2, stale=view.stale))
        return Group(*top)

    def _close(self, view: View, width: int, height: int) -> RenderableType:
        blocks = [
            _Block("", [self._title(view, width)], 1),
            _Block("", self._headline(view, width), 0),
        ]
        if view.look:
            blocks += [
                self._throughput(view, width),
                self._ages(view.look, width) if height > 32 else self._ages_in_line(view.look, width),
                self._pipeline(view, view.look),
                self._events(view.look),
            ]
        left = height
        given: dict[int, list[Text]] = {}
        for place, block in sorted(enumerate(blocks), key=lambda item: item[1].rank):
            given[place] = block.lines[:left]
            left -= len(given[place])
        lines = [line for place in sorted(given) for line in given[place]]
        if view.look and left > 1:
            lines.append(Text("last failures", style="dim"))
            lines += self._failures(view.look, width).lines[: left - 1]
        return Group(*map(_cropped, lines))

    def _title(self, view: View, width: int) -> Text:
        every = f"every {self.every:g} s, q ends"
        asof = ""
        if view.look:
            asof = f"{'last seen' if view.stale else 'as of'} {self._moment(view.look.at)} {self._zone(view.look.at)}"
        left = "approval-mail status"
        room = width - len(asof) - 2
        left = f"{left}  {every}" if len(left) + len(every) + 2 <= room else left[:room]
        line = Text(left, style="bold")
        line.append(" " * max(width - cell_len(left) - len(asof), 1))
        line.append(asof, style="reverse" if view.stale else "")
        return _cropped(line)

    def _headline(self, view: View, width: int) -> list[Text]:
        said = view.headline
        bar = Text(f" {said.level.value}  {plain(said.sentence)}", style=f"bold reverse {_STYLES[said.level]}")
        next_step = Text(f"next step: {plain(said.next_step)}" if said.next_step else "", style="bold")
        # What to do now is seen however much there is to say.
        after = list(next_step.wrap(self.console, width))[: _HEADLINE - 1] if said.next_step else []
        lines = _shortened(list(bar.wrap(self.console, width)), _HEADLINE - len(after))
        for line in lines:  # A bar from edge to edge is seen from across the room.
            line.rstrip()
            line.pad_right(max(width - line.cell_len, 0))
        return [_cropped(line) for line in (*lines, *after)]

    def _throughput(self, view: View, width: int) -> _Block:
        seen = view.throughput
        heads = f"{'':<{_LABEL}}{'now':>9}{'last minute':>13}"
        room = min(max(width - len(heads) - 2, 0), round(SPAN / BAR))
        lines = [Text(f"{heads}  last {spoken(room * BAR)}" if room else heads, style="dim")]
        for name, now, minute, course, style in (
            ("recorded", seen.recorded_now, seen.recorded_minute, seen.recorded_course, "cyan"),
            ("accepted", seen.accepted_now, seen.accepted_minute, seen.accepted_course, "green"),
        ):
            line = Text(f"{name:<{_LABEL}}{_rate(now):>9}{_rate(minute):>13}  ")
            top = max((rate or 0 for rate in (*seen.recorded_course, *seen.accepted_course)), default=0)
            lines.append(line.append(self._spark(course[-room:] if room else (), top), style=style))
        said = "no mail accepted yet" if seen.accepted_now is not None else "two looks are needed"
        if seen.p50 is not None and seen.p95 is not None:
            said = f"half {_within(seen.p50)}, 95 % {_within(seen.p95)}, of {plural(seen.delivered, 'mail')}"
        lines.append(Text(f"{'delivery':<{_LABEL}}{said}"))
        return _Block("Throughput", lines, 4)

    def _spark(self, course: Sequence[float | None], top: float) -> str:
        heights = _ASCII_HEIGHTS if self._ascii else _HEIGHTS
        last = len(heights) - 1
        return "".join(
            " " if rate is None else heights[math.ceil(rate / top * last) if top else 0] for rate in course
        ).strip()

    def _ages(self, look: Look, width: int) -> _Block:
        top = max(*look.by_age, _FULL_BAR)
        room = max(width - _LABEL - 9, 1)
        lines = []
        for name, count, style in zip(_AGES, look.by_age, _AGE_STYLES, strict=True):
            bar = math.ceil(count / top * room)
            line = Text(f"{name:<{_LABEL}}{count:>7,}  ")
            lines.append(line.append(("#" if self._ascii else "█") * bar, style=style))
        return _Block("Due events by age", lines, 3)

    @staticmethod
    def _ages_in_line(look: Look, width: int) -> _Block:
        lines = [Text(f"{'due':<{_LABEL}}")]
        for name, count, style in zip(_AGES, look.by_age, _AGE_STYLES, strict=True):
            group = Text(f"{name} ", style="dim").append(f"{count:,}  ", style=f"not dim bold {style}" if count else "")
            if cell_len(lines[-1].plain + group.plain.rstrip()) > width:
                lines.append(Text(" " * _LABEL))
            lines[-1].append_text(group)
        return _Block("Due events by age", lines, 3)

    def _pipeline(self, view: View, look: Look) -> _Block:
        counts, around = look.counts, view.around
        held, beat = counts.held_since, counts.beat_seconds_ago
        rows = [
            (
                "channel",
                f"HELD since {self._moment(held)}: {plain(counts.held_reason or '')}" if held else "open",
                "bold red" if held else "",
            ),
            ("workers", *_workers(around)),
            (
                "beat",
                f"{'' if view.beat_lives else 'OVERDUE: '}{spoken(beat)} ago" if beat is not None else "NEVER SEEN",
                "" if view.beat_lives else "yellow",
            ),
            ("spool", *_spool(around)),
            (
                "untold",
                f"{plural(counts.untold, 'request')} (approval-admin list)" if counts.untold else "0",
                "yellow" if counts.untold else "",
            ),
        ]
        return _Block("Pipeline", [_row(*row) for row in rows], 2)

    @staticmethod
    def _events(look: Look, *, roomy: bool = False) -> _Block:
        counts = look.counts
        waiting = {"pending": counts.pending, "deferred": counts.deferred, "claimed": counts.claimed}
        ended = {"sent": counts.sent, "dead": counts.dead, "suppressed": counts.suppressed}
        if roomy:
            rows = [
                (name, f"{count:>6,}  {end:<11}{ends:>7,}", "bold")
                for (name, count), (end, ends) in zip(waiting.items(), ended.items(), strict=True)
            ]
        else:
            rows = [
                (name, "  ".join(f"{word} {count:,}" for word, count in found.items()), "bold")
                for name, found in (("events", waiting), ("", ended))
            ]
        for name, between in (("dead", " in "), ("suppressed", " ")):
            if why := _reasons(look, name, between):
                rows.append((name, f"ever: {why}", "yellow" if name == "dead" else ""))
        return _Block("Events", [_row(*row) for row in rows], 5)

    def _failures(self, look: Look, width: int) -> _Block:
        lines = [self._failure(failure, look.at, width) for failure in look.failures]
        return _Block("Last failures", lines or [Text("none", style="dim")], 6)

    def _failure(self, failure: Failure, now: datetime, width: int) -> Text:
        at = failure.at.astimezone(self.timezone)
        today = at.date() == now.astimezone(self.timezone).date()
        request, kind = split_event_id(plain(failure.event_id))
        reason = plain(failure.reason)
        code = "" if failure.code is None or reason.startswith(str(failure.code)) else f"{failure.code} "
        line = Text(f"{at:%H:%M:%S} " if today else f"{at:%m-%d}    ")
        line.append(f"{failure.result:<8}", style=_RESULTS.get(failure.result, ""))
        roomy = width >= _ROOMY[0]
        event = f"{request[:8]} {kind.removeprefix('approval_')}" if roomy else request[:8]
        line.append(f"{set_cell_size(event, 19 if roomy else 8)} ")
        line.append(f"{_cut(plain(failure.recipient), min(max(width // 5, 12), 28))} ")
        line.append(f"{plain(failure.phase)} {code}{reason}")
        return line

    def _moment(self, at: datetime) -> str:
        return f"{at.astimezone(self.timezone):%Y-%m-%d %H:%M:%S}"

    def _zone(self, at: datetime) -> str:
        return at.astimezone(self.timezone).tzname() or ""


def _framed(block: _Block, lines: int, *, stale: bool) -> Panel:
    """A block in a frame for so many lines."""
    return Panel(
        Group(*map(_cropped, block.lines)),
        title=f"{block.title} (before)" if stale else block.title,
        title_align="left",
        height=lines + 2,
        border_style="dim",
    )


def _row(name: str, said: str, style: str) -> Text:
    return Text(f"{name:<{_LABEL}}").append(said, style=style)


def _workers(around: Around | None) -> tuple[str, str]:
    if around is None:
        return "being asked", "dim"
    if around.fault:
        return f"CANNOT BE ASKED: {plain(around.fault)}", "bold red"
    return (f"{around.workers:,}", "") if around.workers else ("NONE", "bold red")


def _spool(around: Around | None) -> tuple[str, str]:
    if around is None:
        return "being looked at", "dim"
    waiting = f"{plural(around.spooled, 'event')} of this host (approval-mail spool replay)" if around.spooled else ""
    said = plain("; ".join(filter(None, (waiting, around.spool_fault))))
    return (said, "yellow") if said else ("empty", "")


def _reasons(look: Look, name: str, between: str) -> str:
    """Why mails came to this, most frequent first, counted for good."""
    found = [(count, key[1]) for key, count in look.counters.items() if key[0] == name and len(key) > 1]
    return ", ".join(
        f"{count:,}{between}{plain(why)}" for count, why in sorted(found, key=lambda item: (-item[0], item[1]))
    )


def _rate(rate: float | None) -> str:
    if rate is None:
        return "-"
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.1f}/s"


def _within(seconds: float) -> str:
    return "later than an hour" if math.isinf(seconds) else f"within {seconds:g} s"


def _cut(text: str, width: int) -> str:
    """Text in a column of so many cells."""
    return set_cell_size(text, width) if cell_len(text) <= width else f"{set_cell_size(text, width - 1)}…"


def _shortened(lines: list[Text], most: int) -> list[Text]:
    if len(lines) > most:
        lines = lines[:most]
        lines[-1].append(" …")
    return lines


def _cropped(line: Text) -> Text:
    """A line that is drawn on one, cut where it does not fit."""
    line.no_wrap, line.overflow = True, "ellipsis"
    return line
