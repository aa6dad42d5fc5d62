"""What the store remembers of a request, by every way that a mail can take."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import pairwise

import pytest
import redis

from approval_mail.errors import InvalidRecord
from approval_mail.store import EventStore
from tests.integration.test_store import BUSY, REFUSED, SENT, UNKNOWN, claim, event, lapse, record, send

#: Recorded in some tests only so that the request is decided.
OUTCOME = "r1:approval_approved"
Row = tuple[str, str, str, "int | None", "int | None"]


def rows(store: EventStore, request_id: str = "r1") -> list[Row]:
    """State, recipient, reason, code and attempt of each change."""
    return [
        (change.state, change.recipient, change.reason, change.code, change.attempt)
        for change in store.history.trace(request_id)
        if change.event_id != OUTCOME
    ]


def test_a_mail_that_is_accepted_was_pending_claimed_and_sent(store: EventStore) -> None:
    record(store, event())
    send(store, claim(store), SENT)
    assert rows(store) == [
        ("pending", "", "", None, None),
        ("claimed", "", "", None, None),
        ("sent", "op@example.com", "250 ok", 250, 1),
    ]


def test_times_are_the_stores_and_in_order(store: EventStore) -> None:
    record(store, event())
    send(store, claim(store), SENT)
    times = [change.at for change in store.history.trace("r1")]
    assert all(before <= after for before, after in pairwise(times))
    assert abs((datetime.now(timezone.utc) - times[0]).total_seconds()) < 60


def test_each_try_of_each_mail_is_told_with_its_code(store: EventStore) -> None:
    record(store, event())
    held = claim(store, ("a@example.com", "b@example.com", "c@example.com"))
    send(store, held, SENT, BUSY, REFUSED)
    store.defer(held.token, {"r1:approval_requested": 30}, reason="rcpt: 451 later")
    assert rows(store)[2:] == [
        ("sent", "a@example.com", "250 ok", 250, 1),
        ("claimed", "b@example.com", "451 later", 451, 1),
        ("dead", "c@example.com", "550 no such user", 550, 1),
        ("deferred", "", "rcpt: 451 later", None, None),
    ]


def test_a_lost_lease_an_unspent_mail_and_a_moot_one_are_told(store: EventStore, client: redis.Redis) -> None:
    record(store, event())
    claim(store)
    lapse(client, store)
    held = claim(store)
    store.release(held.token, held.event_ids)
    record(store, event("r1", "approval_approved"))
    late = claim(store)
    store.begin(late.token, late.event_ids, attempt=0)
    assert [row[:3] for row in rows(store) if row[0] != "claimed"] == [
        ("pending", "", ""),
        ("pending", "", "its lease ran out"),
        ("pending", "", "given back untried"),
        ("suppressed", "op@example.com", "moot: already approved"),
    ]


def test_an_unknown_outcome_and_a_replay_from_the_spool_are_told(store: EventStore) -> None:
    record(store, event("r1", "approval_rejected"), waited=0)
    send(store, claim(store), UNKNOWN)
    first, _, last = rows(store)
    assert first[2] == "replayed from the spool"
    assert last == ("claimed", "op@example.com", "outcome unknown: no reply", None, 1)


def test_what_an_operator_did_to_a_dead_mail_is_told(store: EventStore) -> None:
    record(store, event())
    send(store, claim(store), REFUSED)
    store.reopen("r1:approval_requested")
    send(store, claim(store), REFUSED)
    store.discard("r1:approval_requested", reason="discarded by an operator")
    assert [row[:3] for row in rows(store)[2:]] == [
        ("dead", "op@example.com", "550 no such user"),
        ("pending", "op@example.com", "reopened by an operator"),
        ("claimed", "", ""),
        ("dead", "op@example.com", "550 no such user"),
        ("suppressed", "op@example.com", "discarded by an operator"),
    ]
    assert rows(store)[-1][3:] == (None, None), "nothing was tried"


def test_a_held_channel_is_told_once_however_long_it_lasts(store: EventStore, client: redis.Redis) -> None:
    record(store, event())
    for minute in range(5):
        store.hold(reason=f"smtp:25: auth was refused: 535 (session {minute})", next_step="mend it")
        store.postpone()
        client.zadd("approval_mail:{store}:pending", {"r1:approval_requested": 1})
    store.unhold()
    assert rows(store)[1:] == [
        ("deferred", "", "smtp:25: auth was refused: 535 (session 0)", None, None),
        ("pending", "", "the channel works again", None, None),
    ]


def test_a_trace_is_bounded_in_length_and_goes_with_its_event(store: EventStore, client: redis.Redis) -> None:
    record(store, event())
    key = "approval_mail:{store}:trace:r1:approval_requested"
    client.rpush(key, *['1 ["deferred","","x","",""]'] * 999)
    send(store, claim(store), SENT)
    assert client.llen(key) == 1000
    assert rows(store)[-1][0] == "sent"
    event_key = "approval_mail:{store}:event:r1:approval_requested"
    assert abs(int(str(client.pttl(key))) - int(str(client.pttl(event_key)))) < 50
    assert 0 < int(str(client.pttl(key))) <= 7 * 86400_000


def test_a_reopened_event_keeps_its_trace(store: EventStore, client: redis.Redis) -> None:
    record(store, event())
    send(store, claim(store), REFUSED)
    store.reopen("r1:approval_requested")
    assert client.pttl("approval_mail:{store}:trace:r1:approval_requested") == -1


def test_the_events_of_one_request_are_told_together_in_order(store: EventStore) -> None:
    record(store, event())
    send(store, claim(store), SENT)
    record(store, event("r1", "approval_approved"))
    record(store, event("r2", "approval_approved"))
    types = [change.event_id for change in store.history.trace("r1")]
    assert types == ["r1:approval_requested"] * 3 + ["r1:approval_approved"]


def test_a_request_is_found_by_the_beginning_of_its_id(store: EventStore) -> None:
    for request in ("abc12345-1", "abc12345-2", "abc", "x*z:1", "xyz:1"):
        record(store, event(request))
    assert store.history.requests("abc12345-1") == ["abc12345-1"]
    assert store.history.requests("abc12345") == ["abc12345-1", "abc12345-2"]
    assert store.history.requests("abc") == ["abc"], "a whole id goes before those that begin with it"
    assert store.history.requests("x*") == ["x*z:1"], "nothing in it is a pattern"
    assert store.history.requests("nobody") == []


def test_a_damaged_line_is_named(store: EventStore, client: redis.Redis) -> None:
    record(store, event())
    client.rpush("approval_mail:{store}:trace:r1:approval_requested", "no line")
    with pytest.raises(InvalidRecord, match="a line of the trace of r1:approval_requested is damaged"):
        store.history.trace("r1")
