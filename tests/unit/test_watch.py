"""The live page: looks in, a view out; and the view on terminals of every size."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from approval_mail.cli.live.headline import Headline, Level, spoken
from approval_mail.cli.live.looks import Look, Lost
from approval_mail.cli.live.page import Page
from approval_mail.cli.live.trend import BAR, SPAN, Throughput, Trend, View
from approval_mail.overview import Around
from approval_mail.store import Counts, Failure

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
QUIET = Counts(
    pending=0,
    deferred=0,
    claimed=0,
    sent=0,
    dead=0,
    suppressed=0,
    untold=0,
    oldest_pending_seconds=None,
    beat_seconds_ago=0.5,
    held_since=None,
    held_reason=None,
    held_next_step=None,
)
GOOD = Around(NOON, workers=2, fault=None, spooled=0, spool_folder=Path("/spool"), spool_fault=None)
NOBODY = replace(GOOD, workers=0)
HELD: dict[str, Any] = {
    "held_since": NOON,
    "held_reason": "connect failed: Connection refused",
    "held_next_step": "check SMTP_HOST",
}
FAILURE = Failure(
    at=NOON,
    event_id="abc12345-6789:approval_requested",
    recipient="kim@example.com",
    result="failed",
    code=451,
    phase="rcpt",
    reason="451 4.3.0 try later",
)


def trend(*, enabled: bool = True, batch_timeout: float = 5) -> Trend:
    return Trend(enabled=enabled, batch_timeout=batch_timeout, interval=2, moment=lambda at: f"{at:%H:%M:%S}")


def look(clock: float, counts: Counts = QUIET, counters: Any = None, **more: Any) -> Look:
    """A look at so many seconds of the clock, which began at noon."""
    return Look(
        NOON + timedelta(seconds=clock),
        clock,
        counts,
        counters or {},
        more.get("by_age", (0, 0, 0, 0, 0)),
        tuple(more.get("failures", ())),
        more.get("routes_faults", {}),
    )


def grown(recorded: int, accepted: int = 0, **buckets: int) -> dict[tuple[str, ...], int]:
    """Counters, as two types of events have them; ``buckets`` by their seconds, ``_0_25`` for 0.25."""
    return {
        ("recorded", "approval_requested"): recorded - recorded // 3,
        ("recorded", "approval_approved"): recorded // 3,
        ("accepted", "approval_requested"): accepted,
        **{("delivery", name.strip("_").replace("_", ".")): count for name, count in buckets.items()},
    }


def throughput(*looks: Look) -> Throughput:
    seen = trend()
    for each in looks:
        seen.add(each)
    return seen.view(looks[-1].clock).throughput


def test_one_look_tells_no_rate() -> None:
    assert throughput(look(0, counters=grown(900))) == Throughput()


def test_now_is_of_the_last_five_seconds_and_the_minute_of_the_last_sixty() -> None:
    seen = throughput(
        look(0, counters=grown(1000, 500)),
        look(100, counters=grown(1600, 700)),
        look(155, counters=grown(1655, 755)),
        look(160, counters=grown(1705, 760)),
    )
    assert (seen.recorded_now, seen.accepted_now) == (10, 1)
    assert (seen.recorded_minute, seen.accepted_minute) == (105 / 60, 60 / 60)


def test_rates_are_over_what_was_seen_if_that_is_less() -> None:
    seen = throughput(look(10, counters=grown(0)), look(12, counters=grown(6)))
    assert (seen.recorded_now, seen.recorded_minute) == (3, 3)


def test_what_grew_between_two_rare_looks_grew_evenly() -> None:
    seen = throughput(look(0, counters=grown(0)), look(60, counters=grown(120)))
    assert seen.recorded_now == pytest.approx(2)


def test_counters_that_fell_begin_anew() -> None:
    seen = trend()
    for each in (look(0, counters=grown(50, 50)), look(2, counters=grown(60, 60)), look(4, counters=grown(0, 0))):
        seen.add(each)
    assert seen.view(4).throughput == Throughput()
    seen.add(look(6, counters=grown(8, 2)))
    assert seen.view(6).throughput.recorded_now == 4


def test_the_course_has_a_bar_for_every_ten_seconds_and_none_where_nobody_looked() -> None:
    seen = throughput(look(24, counters=grown(0)), look(30, counters=grown(6)), look(44, counters=grown(34)))
    assert len(seen.recorded_course) == SPAN / BAR
    assert seen.recorded_course[:-3] == (None,) * 27
    assert seen.recorded_course[-3:] == pytest.approx((1, 2, 2))
    assert seen.accepted_course[-3:] == (0, 0, 0)


def test_bars_stand_still_while_time_passes() -> None:
    looks = [look(second, counters=grown(second**2)) for second in range(0, 45, 2)]
    before, after = throughput(*looks[:-1]), throughput(*looks)
    assert before.recorded_course[-4:-1] == after.recorded_course[-4:-1]


def test_half_and_95_percent_are_within_bounds_of_the_histogram() -> None:
    before, after = grown(0, 0, _0_1=1000), grown(0, 100, _0_1=1050, _0_25=44, _2_5=6)
    seen = throughput(look(0, counters=before), look(2, counters=after))
    assert (seen.delivered, seen.p50, seen.p95) == (100, 0.1, 2.5)


def test_what_took_longer_than_the_last_bound_is_beyond_all() -> None:
    after = {("delivery", "1"): 1, ("delivery", "+Inf"): 1}
    seen = throughput(look(0), look(2, counters=after))
    assert (seen.p50, seen.p95) == (1, math.inf)


def test_times_to_acceptance_are_of_the_last_minutes() -> None:
    looks = [look(0), look(100, counters=grown(0, 0, _600=90)), look(SPAN + 101, counters=grown(0, 0, _600=90, _0_1=2))]
    seen = throughput(*looks)
    assert (seen.delivered, seen.p95) == (2, 0.1)


def told(*news: Any, at: float = 2.0, **more: Any) -> Headline:
    seen = trend(**more)
    for each in news:
        seen.add(each)
    return seen.view(at).headline


LATE = replace(QUIET, pending=7, oldest_pending_seconds=100)


@pytest.mark.parametrize(
    ("news", "level", "sentence"),
    [
        ([], Level.LOOKING, "Redis is being asked"),
        ([look(0)], Level.LOOKING, "Workers are being asked"),
        ([look(0), GOOD], Level.OK, "Mail is going out: nothing waits"),
        (
            [look(0), look(2, counters=grown(9, 5)), GOOD],
            Level.OK,
            "Mail is going out: 5 mails accepted in the last 2 s",
        ),
        (
            [look(0, replace(QUIET, deferred=2)), GOOD],
            Level.OK,
            "Mail is going out: nothing is due, 2 events deferred",
        ),
        (
            [look(0, replace(QUIET, pending=2, oldest_pending_seconds=3)), GOOD],
            Level.OK,
            "Mail is going out: 2 events due, for up to 3.0 s",
        ),
        (
            [look(0, replace(QUIET, **HELD)), GOOD],
            Level.STOPPED,
            "Mail is NOT going out: the channel has been held since 12:00:00: connect failed: Connection refused",
        ),
        (
            [look(0), NOBODY],
            Level.STOPPED,
            "Mail is NOT going out: no worker consumes the queue approval_mail",
        ),
        pytest.param(
            [look(0, replace(QUIET, **HELD)), NOBODY],
            Level.STOPPED,
            "Mail is NOT going out: no worker consumes the queue approval_mail",
            id="without a worker nobody probes the channel",
        ),
        (
            [look(0), replace(NOBODY, fault="OperationalError: refused")],
            Level.STOPPED,
            "Mail is NOT going out: the broker cannot be used (OperationalError: refused)",
        ),
        pytest.param(
            [look(0), look(2, counters=grown(9, 5)), NOBODY],
            Level.CHECK,
            "Mail is going out, but no worker answers",
            id="what is seen to go out is not said to be stopped",
        ),
        (
            [look(0, LATE), look(12, LATE), GOOD],
            Level.STOPPED,
            "Mail is NOT going out: 7 events due, for up to 100 s, and no mail was accepted in the last 12 s",
        ),
        (
            [look(0, LATE), look(2, LATE, grown(9, 5)), GOOD],
            Level.CHECK,
            "Mail is going out, but late: an event has been due for 100 s",
        ),
        (
            [look(0), look(2, counters={("attempts", "failed", "rcpt"): 3}, failures=[FAILURE]), GOOD],
            Level.CHECK,
            "No mail was accepted in the last 2 s, and 3 tries failed: 451 4.3.0 try later",
        ),
        pytest.param(
            [look(0), look(2, counters={("attempts", "failed", "rcpt"): 3, **grown(9, 5)}, failures=[FAILURE]), GOOD],
            Level.OK,
            "Mail is going out: 5 mails accepted in the last 2 s",
            id="some fail while others are accepted",
        ),
        (
            [look(0, counters={("rescued",): 1}), look(2, replace(QUIET, claimed=3), {("rescued",): 4}), GOOD],
            Level.CHECK,
            "No mail was accepted in the last 2 s, and 3 events came back from workers that did not finish",
        ),
        pytest.param(
            [look(0), look(2, replace(QUIET, claimed=3), {("rescued",): 3, **grown(9, 5)}), GOOD],
            Level.OK,
            "Mail is going out: 5 mails accepted in the last 2 s",
            id="a worker died and another took over",
        ),
        (
            [look(0, replace(QUIET, beat_seconds_ago=16)), GOOD],
            Level.CHECK,
            "Mail is going out, but beat has not been seen for 16 s",
        ),
        (
            [look(0, replace(QUIET, beat_seconds_ago=None)), GOOD],
            Level.CHECK,
            "Mail is going out, but beat has never been seen",
        ),
        (
            [look(0, replace(QUIET, untold=1)), GOOD],
            Level.CHECK,
            "Mail is going out, but nobody was told of 1 request by half of the time",
        ),
        (
            [look(0), look(2, counters={("dead", "rcpt"): 2, **grown(9, 5)}), GOOD],
            Level.CHECK,
            "Mail is going out, but 2 mails died in the last minutes",
        ),
        (
            [look(0, routes_faults={"web1:/r.toml": "/r.toml, line 3: it\ndoes nothing"}), GOOD],
            Level.CHECK,
            "Mail is going out by the routes as they were, the last version is not taken: "
            "web1: /r.toml, line 3: it does nothing",
        ),
        (
            [look(0), replace(GOOD, spool_fault="the spool is full; mend Redis")],
            Level.CHECK,
            "Mail is going out, but the spool is full; mend Redis",
        ),
        (
            [look(0), replace(GOOD, spooled=3)],
            Level.CHECK,
            "Mail is going out, but this host's spool holds 3 events",
        ),
        (
            [look(0), GOOD, Lost(NOON + timedelta(seconds=2), 2, "refused"), Lost(NOON, 4, "refused")],
            Level.STOPPED,
            "Redis has been unusable since 12:00:02 (refused)",
        ),
        ([look(0), GOOD, Lost(NOON, 2, "refused"), look(4)], Level.OK, "Mail is going out: nothing waits"),
    ],
)
def test_the_headline_says_whether_mail_is_going_out(news: list[Any], level: Level, sentence: str) -> None:
    headline = told(*news)
    assert (headline.level, headline.sentence) == (level, sentence)


def test_the_headline_of_a_held_channel_says_what_to_do() -> None:
    assert told(look(0, replace(QUIET, **HELD)), GOOD).next_step == "check SMTP_HOST"


def test_notifications_that_are_disabled_are_off_once_nothing_is_left() -> None:
    assert told(look(0), GOOD, enabled=False) == Headline(
        Level.OFF, "notifications are disabled: hooks record nothing", "set NOTIFICATION_ENABLED=true"
    )
    left = replace(QUIET, deferred=1)
    assert told(look(0, left), GOOD, enabled=False).level is Level.CHECK
    assert told(look(0, left), NOBODY, enabled=False).level is Level.STOPPED


def test_a_long_batch_timeout_is_no_delay_and_no_dead_beat() -> None:
    waiting = replace(QUIET, pending=1, oldest_pending_seconds=100, beat_seconds_ago=100)
    assert told(look(0, waiting), look(12, waiting), GOOD, batch_timeout=60).level is Level.OK


def test_a_redis_that_does_not_answer_at_all_is_told_before_its_timeout() -> None:
    assert told(look(0), GOOD, at=4.9).level is Level.OK
    assert told(look(0), GOOD, at=5.1).sentence == "Redis has not answered for 5.1 s"


def test_what_was_seen_last_stays_while_redis_is_lost() -> None:
    seen = trend()
    for each in (look(0), look(2, counters=grown(4)), Lost(NOON, 4, "refused")):
        seen.add(each)
    view = seen.view(4)
    assert view.stale
    assert view.look == look(2, counters=grown(4))
    assert view.throughput.recorded_now == 2


def test_what_took_a_minute_or_more_is_said_in_minutes() -> None:
    assert [spoken(seconds) for seconds in (0.04, 9.4, 45, 119, 130, 7300)] == [
        "0.0 s", "9.4 s", "45 s", "119 s", "2 min", "2 h",
    ]  # fmt: skip


def a_view(**more: Any) -> View:
    seen = trend()
    hostile = replace(
        FAILURE,
        recipient="김철수@example.com",
        result="dead",
        code=550,
        reason="550 5.1.1 no\x1b[2J such\nuser \u202e" + "나" * 100,
    )
    counts = replace(
        QUIET, pending=1234, deferred=5, claimed=66, sent=7777, dead=8, suppressed=9, oldest_pending_seconds=1, **HELD
    )
    counters = {**grown(6000, 5000, _0_1=90), ("suppressed", "moot: already approved"): 9, ("dead", "rcpt"): 8}
    seen.add(look(0, counts, {}, by_age=(1000, 200, 30, 4, 0)))
    seen.add(look(60, counts, counters, by_age=(1000, 200, 30, 4, 0), failures=[FAILURE, hostile] * 20))
    seen.add(more.get("around", GOOD))
    return seen.view(60)


def drawn(view: View, columns: int, lines: int, *, encoding: str = "utf-8", colour: bool = False) -> list[str]:
    """What is drawn on a terminal of this size, line by line."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    console = Console(
        file=file,
        width=columns,
        height=lines,
        force_terminal=colour,
        color_system="truecolor" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    console.print(Page(console, timezone.utc, 2).draw(view))
    file.seek(0)
    return file.read().splitlines()


@pytest.mark.parametrize("columns", [1, 10, 20, 40, 60, 80, 99, 100, 120, 250])
@pytest.mark.parametrize("lines", [1, 5, 12, 24, 29, 30, 33, 60])
def test_a_page_is_no_larger_than_its_terminal(columns: int, lines: int) -> None:
    from rich.cells import cell_len

    for view in (a_view(), trend().view(0)):
        shown = drawn(view, columns, lines)
        assert len(shown) <= lines
        assert max(map(cell_len, shown)) <= columns


@pytest.mark.parametrize(("columns", "lines"), [(60, 24), (80, 24), (60, 40), (120, 36)])
def test_everything_has_its_place(columns: int, lines: int) -> None:
    shown = "\n".join(drawn(a_view(), columns, lines))
    for text in (
        "STOPPED",
        "Mail is NOT going out: the channel has been held",
        "next step: check SMTP_HOST",
        "recorded       100/s        100/s",
        "accepted      83.3/s       83.3/s",
        "half within 0.1 s, 95 % within 0.1 s",
        "HELD since",
        "workers    2",
        "beat       0.5 s ago",
        "spool      empty",
        "untold     0",
        "8 in rcpt",
        "9 moot: already approved",
        "12:00:00 failed  abc12345",
        "rcpt 451 4.3.0",
        "rcpt 550 5.1.1",
    ):
        assert text in shown
    ages = {"<5 s": "1,000", "<30 s": "200", "<2 min": "30", "<10 min": "4", "older": "0"}
    waiting = {"pending": "1,234", "deferred": "5", "claimed": "66"}
    ended = {"sent": "7,777", "dead": "8", "suppressed": "9"}
    for name, count in {**ages, **waiting, **ended}.items():
        assert re.search(rf"{name} +{count}\b", shown), name


def test_the_smallest_terminals_show_the_headline_then_the_pipeline() -> None:
    assert drawn(a_view(), 60, 1) == [" STOPPED  Mail is NOT going out: the channel has been held  "]
    assert [line.split()[0] for line in drawn(a_view(), 60, 9)][-5:] == [
        "channel", "workers", "beat", "spool", "untold",
    ]  # fmt: skip


def test_what_to_do_now_is_shown_however_much_there_is_to_say() -> None:
    view = a_view()
    view = replace(view, headline=replace(view.headline, sentence="no " * 160, next_step="check SMTP_HOST"))
    lines = drawn(view, 60, 20)
    assert lines[1].startswith(" STOPPED  no no")
    assert lines[3].rstrip().endswith("…")
    assert lines[4].rstrip() == "next step: check SMTP_HOST"


def test_nothing_that_a_server_says_commands_the_terminal() -> None:
    for size in ((60, 24), (120, 36)):
        shown = "\n".join(drawn(a_view(), *size))
        assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", shown)


@pytest.mark.parametrize(
    ("around", "says"),
    [
        (NOBODY, "workers    NONE"),
        (replace(NOBODY, fault="refused"), "workers    CANNOT BE ASKED: refused"),
        (replace(GOOD, spooled=3), "spool      3 events of this host (approval-mail spool replay)"),
        (replace(GOOD, spool_fault="the disk is full"), "spool      the disk is full"),
    ],
)
def test_no_colour_is_needed_to_see_what_is_wrong(around: Around, says: str) -> None:
    assert says in "\n".join(drawn(a_view(around=around), 80, 24))


def test_bars_are_as_long_as_their_numbers_and_courses_as_high() -> None:
    shown = drawn(a_view(), 120, 36)
    lengths = [line[72:].count("█") for line in shown if re.search(r"│ (<\d+ (s|min)|older) ", line)]
    longest = lengths[0]
    assert longest > 20
    assert lengths[1:] == [math.ceil(longest * share) for share in (0.2, 0.03, 0.004, 0)]
    recorded, accepted = (
        "".join(re.findall("[▁-█]", line[:72])) for line in shown if re.search("recorded|accepted", line)
    )
    assert (set(recorded), set(accepted)) == ({"█"}, {"▇"})


def test_a_terminal_without_unicode_gets_what_it_can_show() -> None:
    shown = "\n".join(drawn(a_view(), 120, 36, encoding="ascii"))
    assert re.search(r"accepted +83.3/s +83.3/s +\*+", shown)
    assert "####" in shown
