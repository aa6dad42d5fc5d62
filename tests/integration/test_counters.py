"""What the store counts, against what it did."""

from __future__ import annotations

import time

import redis

from approval_mail.metrics import ROWS
from approval_mail.metrics.families import Counter
from approval_mail.store import MAX_OPEN_TRIES, EventStore, Failure, Verdict, counters
from tests.integration.test_store import BUSY, REFUSED, SENT, UNKNOWN, claim, event, lapse, record, send
from tests.rig.claims import claims

COUNTERS = "approval_mail:{store}:counters"


def counted(store: EventStore, name: str) -> dict[tuple[str, ...], int]:
    return {
        labels: value for (found, *rest), value in store.counters().items() if found == name for labels in [(*rest,)]
    }


def test_events_are_counted_as_they_are_told_and_as_they_end(store: EventStore) -> None:
    record(store, event("r1"))
    record(store, event("r1"))
    record(store, event("r1"), nonce="mine")
    record(store, event("r2", "approval_approved"))
    assert counted(store, "recorded") == {("approval_requested",): 1, ("approval_approved",): 1}
    assert counted(store, "duplicate") == {("approval_requested",): 2}
    send(store, claim(store), SENT, REFUSED)
    assert counted(store, "finished") == {("approval_requested", "sent"): 1, ("approval_approved", "dead"): 1}


def test_a_hooks_own_repeated_write_is_counted_once(store: EventStore) -> None:
    for _ in range(3):
        record(store, event("r1"), nonce="same")
    assert counted(store, "recorded") == {("approval_requested",): 1}
    assert counted(store, "duplicate") == {}


def test_a_verdict_adds_what_it_says_and_a_repeated_call_nothing(store: EventStore) -> None:
    record(store, event("r1"))
    held = claim(store)
    store.begin(held.token, held.event_ids, attempt=0)
    mail = (held.event_ids[0], "op@example.com")
    store.settle(held.token, upcoming=mail)
    sent = Verdict("sent", 250, "dot", "250 ok", {counters.field("attempts", "sent", "dot"): 1, "delivery_ms": 70})
    for _ in range(2):  # The second settles what is settled already.
        store.settle(held.token, settled=(*mail, sent))
    assert store.counters()[("attempts", "sent", "dot")] == 1
    assert store.counters()[("delivery_ms",)] == 70


def test_the_dead_and_the_suppressed_are_counted_by_why(store: EventStore, client: redis.Redis) -> None:
    record(store, event("r1", "approval_approved"))
    record(store, event("r2"), waited=5)
    record(store, event("r2", "approval_rejected"))
    held = claim(store)
    send(store, held, REFUSED, REFUSED)
    assert counted(store, "dead") == {("rcpt",): 2}
    assert counted(store, "suppressed") == {("moot: already rejected",): 1}
    store.discard("r1:approval_approved", reason="discarded by an operator")
    assert counted(store, "suppressed")[("discarded by an operator",)] == 1
    record(store, event("r3", "approval_approved"))
    old = claim(store)
    store.bury(old.token, old.event_ids[0], phase="record", reason="damaged")
    assert counted(store, "dead") == {("rcpt",): 2, ("record",): 1}


def test_no_phase_and_no_usual_reason_is_counted_that_was_not_at_nothing_before(
    store: EventStore, client: redis.Redis
) -> None:
    """What first appears with 1 has not grown, to ``increase``."""
    known = {row.counter: row.known for row in ROWS if isinstance(row, Counter)}
    record(store, event("r1"))
    for _ in range(MAX_OPEN_TRIES):
        held = claim(store)
        store.begin(held.token, held.event_ids, attempt=0)
        store.mark_each(held.token, [(held.event_ids[0], "op@example.com")])
        lapse(client, store)
    held = claim(store)
    store.begin(held.token, held.event_ids, attempt=0)
    assert store.mark_each(held.token, [(held.event_ids[0], "op@example.com")]) == ["buried"]
    store.discard(held.event_ids[0], reason="discarded by an operator")
    for name in ("dead", "suppressed"):
        assert counted(store, name).keys() <= set(known[name])
    assert counted(store, "dead") == {("unknown",): 1}


def test_rescues_and_holds_are_counted(store: EventStore, client: redis.Redis) -> None:
    record(store, event("r1"))
    record(store, event("r2"))
    claim(store)
    lapse(client, store)
    assert counted(store, "rescued") == {(): 2}
    for reason in ("no login", "no login", "no route"):
        store.hold(reason=reason, next_step="mend it")
    assert counted(store, "held") == {(): 1}
    store.unhold()
    store.hold(reason="no login", next_step="mend it")
    assert counted(store, "held") == {(): 2}


def test_a_reopened_event_finishes_once_more(store: EventStore) -> None:
    record(store, event("r1"))
    send(store, claim(store), REFUSED)
    store.reopen("r1:approval_requested")
    send(store, claim(store), SENT)
    assert counted(store, "finished") == {("approval_requested", "dead"): 1, ("approval_requested", "sent"): 1}


def test_the_last_failures_are_kept_with_their_reasons_newest_first(store: EventStore) -> None:
    for n, verdict in enumerate((BUSY, UNKNOWN, REFUSED, SENT)):
        record(store, event(f"r{n}"))
        send(store, claim(store), verdict)
    found = store.history.failures()
    assert [(failure.event_id, failure.result, failure.code) for failure in found] == [
        ("r2:approval_requested", "dead", 550),
        ("r1:approval_requested", "unknown", None),
        ("r0:approval_requested", "failed", 451),
    ]
    assert isinstance(found[0], Failure)
    assert (found[2].recipient, found[2].phase, found[2].reason) == ("op@example.com", "rcpt", "451 later")
    assert abs(found[0].at.timestamp() - time.time()) < 60
    assert len(store.history.failures(2)) == 2


def test_no_more_than_fifty_failures_are_kept(store: EventStore, client: redis.Redis) -> None:
    for n in range(60):
        record(store, event(f"r{n}", "approval_approved"))
    [held] = claims(store, groups=1, size=100, recipients=["op@example.com"])
    send(store, held, *[REFUSED] * 60)
    assert client.llen("approval_mail:{store}:failures") == 50
    newest = {failure.event_id for failure in store.history.failures(100)}
    assert f"{held.event_ids[0]}" not in newest
    assert f"{held.event_ids[-1]}" in newest


def test_damaged_counters_and_failures_stop_nothing(store: EventStore, client: redis.Redis) -> None:
    client.hset(COUNTERS, mapping={"recorded\tapproval_requested": "many", "rescued": 3})
    client.lpush("approval_mail:{store}:failures", "no time", '12 {"a": 1}')
    record(store, event("r1"))
    send(store, claim(store), REFUSED)
    assert store.counters()[("rescued",)] == 3
    assert ("recorded", "approval_requested") not in store.counters()
    assert [failure.event_id for failure in store.history.failures()] == ["r1:approval_requested"]
    client.delete(COUNTERS)
    client.set(COUNTERS, "of another type")
    record(store, event("r2"))
    assert send(store, claim(store), SENT) == ["sent"]


def test_pending_events_are_counted_by_age(store: EventStore, client: redis.Redis) -> None:
    for n in range(6):
        record(store, event(f"r{n}"))
    now = client.time()[0] * 1000
    ages = {"r0": 3_000, "r1": 20_000, "r2": 25_000, "r3": 4_000_000, "r4": -60_000}
    for request, age in ages.items():
        client.zadd("approval_mail:{store}:pending", {f"{request}:approval_requested": now - age})
    assert store.pending_by_age((10, 60, 600)) == [2, 2, 0, 1], "r5 is new, r4 is not due yet"
    assert store.pending_by_age(()) == [5]


def test_what_waited_in_the_spool_is_as_old_as_it_is(store: EventStore) -> None:
    record(store, event("r1"))
    record(store, event("r2"), waited=90)
    held = claim(store)
    ages = {
        work.event_id[:2]: (work.begun_at - work.happened_at).total_seconds()
        for work in store.begin(held.token, held.event_ids, attempt=0)[0]
    }
    assert 0 <= ages["r1"] < 60
    assert 90 <= ages["r2"] < 150
