"""What the metrics say of what was seen, and that scrapes share one look."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from approval_mail import __version__, metrics
from approval_mail.events import EVENT_TYPES
from approval_mail.metrics import ROWS, SHARED_FOR, Scrapes, Seen
from approval_mail.overview import Around, Overview
from approval_mail.store import Counts, StoreError
from approval_mail.store.counters import ABOVE, DELIVERY_BOUNDS, SMTP_BOUNDS, bucket

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
NOTHING = Counts(
    0, 0, 0, 0, 0, 0, 0,
    oldest_pending_seconds=None, beat_seconds_ago=None, held_since=None, held_reason=None, held_next_step=None,
)  # fmt: skip
FRESH = Overview(False, NOTHING, Around(NOW, 0, None, 0, Path("spool"), None), {})

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(overview: Overview = FRESH, counters: Mapping[tuple[str, ...], int] | None = None) -> Samples:
    """Every sample of the exposition, by name and labels."""
    text = metrics.text(Seen(overview, counters or {}, 5.0, NOW)).decode()
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    by_name = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in found}
    assert len(by_name) == len(found), "no sample comes twice"
    return by_name


def value(found: Samples, name: str, **labels: str) -> float:
    return found[f"approval_mail_{name}", frozenset(labels.items())]


def test_a_fresh_installation_has_every_metric() -> None:
    text = metrics.text(Seen(FRESH, {}, 5.0, NOW)).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families.keys() == {row.name.removesuffix("_total") for row in ROWS}
    assert all(family.samples and family.documentation for family in families.values())
    found = samples()
    for kind in EVENT_TYPES:
        assert value(found, "events_recorded_total", type=kind) == 0
        assert value(found, "mails_accepted_total", type=kind) == 0
        for outcome in ("sent", "dead", "suppressed"):
            assert value(found, "events_finished_total", type=kind, outcome=outcome) == 0
    assert value(found, "attempts_total", result="unknown", phase="dot") == 0
    assert value(found, "mails_dead_total", phase="deferral") == 0
    assert value(found, "mails_suppressed_total", reason="moot: already approved") == 0
    assert value(found, "build_info", version=__version__) == 1
    assert value(found, "beat_age_seconds") == float("inf")
    assert value(found, "oldest_pending_seconds") == 0
    assert value(found, "spool_usable") == 1
    assert value(found, "routes_faulty") == 0


def test_what_stands_is_told() -> None:
    counts = replace(
        NOTHING,
        pending=1,
        deferred=2,
        claimed=3,
        sent=4,
        dead=5,
        suppressed=6,
        untold=7,
        oldest_pending_seconds=8.5,
        beat_seconds_ago=1.25,
        held_since=NOW - timedelta(seconds=90),
    )
    found = samples(Overview(True, counts, Around(NOW, 9, None, 10, Path("spool"), "it is full"), {"web1:/x": "y"}))
    states = {"pending": 1, "deferred": 2, "claimed": 3, "sent": 4, "dead": 5, "suppressed": 6}
    assert {state: value(found, "events", state=state) for state in states} == states
    assert value(found, "notifications_enabled") == 1
    assert value(found, "requests_untold") == 7
    assert value(found, "oldest_pending_seconds") == 8.5
    assert value(found, "beat_age_seconds") == 1.25
    assert (value(found, "channel_held"), value(found, "channel_held_seconds")) == (1, 90)
    assert value(found, "workers") == 9
    assert value(found, "routes_faulty") == 1
    assert (value(found, "spooled_events"), value(found, "spool_usable")) == (10, 0)


def test_a_clock_that_is_behind_the_stores_makes_no_negative_time() -> None:
    found = samples(replace(FRESH, counts=replace(NOTHING, held_since=NOW + timedelta(seconds=1))))
    assert (value(found, "channel_held"), value(found, "channel_held_seconds")) == (1, 0)


def test_every_counter_of_the_store_is_told_with_its_labels() -> None:
    counters = {
        ("recorded", "approval_requested"): 11,
        ("duplicate", "approval_timeout"): 12,
        ("finished", "approval_approved", "dead"): 13,
        ("accepted", "approval_reminder"): 14,
        ("attempts", "unspent", "auth"): 15,
        ("attempts", "sent", "dot"): 16,
        ("dead", "rcpt"): 17,
        ("suppressed", "switched off by rule 'quiet \"hours\"'"): 18,
        ("rescued",): 19,
        ("held",): 20,
        ("digests",): 21,
    }
    found = samples(counters=counters)
    assert value(found, "events_recorded_total", type="approval_requested") == 11
    assert value(found, "events_duplicate_total", type="approval_timeout") == 12
    assert value(found, "events_finished_total", type="approval_approved", outcome="dead") == 13
    assert value(found, "mails_accepted_total", type="approval_reminder") == 14
    assert value(found, "attempts_total", result="unspent", phase="auth") == 15
    assert value(found, "attempts_total", result="sent", phase="dot") == 16
    assert value(found, "mails_dead_total", phase="rcpt") == 17
    assert value(found, "mails_suppressed_total", reason="switched off by rule 'quiet \"hours\"'") == 18
    assert value(found, "events_rescued_total") == 19
    assert value(found, "channel_holds_total") == 20
    assert value(found, "digests_accepted_total") == 21
    counted = {key: count for key, count in found.items() if key[0].endswith("_total") and count}
    assert sorted(counted.values()) == list(range(11, 22)), "and nothing else is counted"


@pytest.mark.parametrize(("name", "bounds"), [("delivery", DELIVERY_BOUNDS), ("smtp", SMTP_BOUNDS)])
def test_buckets_are_cumulative_and_all_there(name: str, bounds: tuple[float, ...]) -> None:
    counters = {(name, bucket(bounds[1], bounds)): 2, (name, bucket(bounds[3], bounds)): 3, (name, ABOVE): 4}
    found = samples(counters={**counters, (f"{name}_ms",): 12_345})
    buckets = [value(found, f"{name}_seconds_bucket", le=str(float(bound))) for bound in bounds]
    assert buckets[:4] == [0, 2, 2, 5]
    assert all(low <= high for low, high in pairwise(buckets))
    assert buckets[-1] == 5
    assert value(found, f"{name}_seconds_bucket", le="+Inf") == 9
    assert value(found, f"{name}_seconds_count") == 9
    assert value(found, f"{name}_seconds_sum") == 12.345
    empty = samples()
    assert [value(empty, f"{name}_seconds_bucket", le=str(float(bound))) for bound in bounds] == [0] * len(bounds)
    assert value(empty, f"{name}_seconds_count") == 0


def test_a_bucket_whose_bound_is_no_longer_in_use_counts_in_the_whole() -> None:
    found = samples(counters={("smtp", "0.333"): 1, ("smtp", "0.5"): 2})
    assert value(found, "smtp_seconds_bucket", le="30.0") == 2
    assert value(found, "smtp_seconds_count") == 3


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_scrapes_within_a_few_seconds_share_a_look_and_later_ones_do_not() -> None:
    clock, looks = Clock(), iter([b"one", b"two"])
    scrapes = Scrapes(lambda: next(looks), clock=clock)
    assert scrapes.text() == b"one"
    clock.now += SHARED_FOR - 0.01
    assert scrapes.text() == b"one"
    clock.now += 0.01
    assert scrapes.text() == b"two"


def test_scrapes_at_the_same_time_share_a_look() -> None:
    begun, go_on = threading.Event(), threading.Event()
    looks: list[int] = []
    found: list[bytes] = []

    def look() -> bytes:
        looks.append(1)
        begun.set()
        assert go_on.wait(10)
        return b"one"

    scrapes = Scrapes(look)
    threads = [threading.Thread(target=lambda: found.append(scrapes.text())) for _ in range(5)]
    threads[0].start()
    assert begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert (found, len(looks)) == ([b"one"] * 5, 1)


def test_a_failure_is_told_once_and_kept_for_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    answers: list[bytes | Exception] = [
        StoreError("refused"), StoreError("refused"), b"back", StoreError("gone"), OSError("a bug"), b"back"
    ]  # fmt: skip
    clock = Clock()

    def look() -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    scrapes = Scrapes(look, clock=clock)
    for _ in range(2):
        with pytest.raises(StoreError, match="refused"):
            scrapes.text()
    assert scrapes.text() == b"back"
    clock.now += SHARED_FOR
    with pytest.raises(StoreError, match="gone"):
        scrapes.text()
    with pytest.raises(OSError, match="a bug"):
        scrapes.text()
    assert scrapes.text() == b"back"
    told = [record.getMessage() for record in caplog.records]
    mend = "check REDIS_URL and that the server is running"
    assert told == [
        f"There are no metrics: Redis cannot be used (refused): {mend}",
        "There are metrics again",
        f"There are no metrics: Redis cannot be used (gone): {mend}",
        "There are metrics again",
    ]


def test_all_looks_are_taken_by_one_thread() -> None:
    """Each thread that asks workers would leave a file open."""
    seen: list[int] = []

    def look() -> bytes:
        seen.append(threading.get_ident())
        return b""

    scrapes = Scrapes(look, clock=iter(range(0, 1000, 10)).__next__)
    threads = [threading.Thread(target=scrapes.text) for _ in range(5)]
    for thread in threads:
        thread.start()
        thread.join(10)
    assert len(seen) == 5
    assert len(set(seen)) == 1
