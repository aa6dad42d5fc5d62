from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import redis

from approval_mail import timing
from approval_mail.addresses import Recipient
from approval_mail.events import ApprovalEvent
from approval_mail.store import (
    MAX_OPEN_TRIES,
    Addressed,
    Claim,
    EventStore,
    StoreError,
    Verdict,
    WakeUp,
    hook_client,
    operator_client,
    worker_client,
)
from tests.rig.claims import claims
from tests.rig.proxy import Proxy
from tests.rig.redis_server import RedisServer
from tests.rig.resp_peer import HELLO, REPLICA, SCRIPT_ON_A_REPLICA, RespPeer
from tests.rig.waiting import wait_for

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
SENT = Verdict("sent", 250, "dot", "250 ok")
REFUSED = Verdict("dead", 550, "rcpt", "550 no such user")
BUSY = Verdict("failed", 451, "rcpt", "451 later")
FULL = Verdict("failed", 452, "rcpt", "452 full")
UNKNOWN = Verdict("unknown", None, "dot", "no reply")

nonces = (f"nonce{n}" for n in itertools.count())


def event(request: str = "r1", event_type: str = "approval_requested", **data: Any) -> ApprovalEvent:
    fields = {"request_id": request, "user_id": "kim", "tool_name": "git_commit", **data}
    return ApprovalEvent.from_dict(event_type, fields, now=NOW, localise=lambda naive: naive.astimezone())


def record(store: EventStore, what: ApprovalEvent, *, waited: float | None = None, nonce: str = "") -> Any:
    return store.record(
        what, nonce=nonce or next(nonces), batch_size=10, batch_timeout=5, urgent_timeout=1, waited=waited
    )


def seconds(wake_up: WakeUp | None) -> float | None:
    return wake_up.seconds if wake_up else None


def claim(store: EventStore, recipients: tuple[str, ...] = ("op@example.com",)) -> Claim:
    [only] = claims(store, groups=1, size=100, recipients=recipients)
    return only


def lapse(client: redis.Redis, store: EventStore) -> int:
    """Let every lease run out, by the store's own clock."""
    for event_id in client.zrange("approval_mail:{store}:claimed", 0, -1):
        client.zadd("approval_mail:{store}:claimed", {event_id: 1})
    return store.rescue().rescued


def states(store: EventStore) -> dict[str, int]:
    found = store.count()
    names = ("pending", "deferred", "claimed", "sent", "dead", "suppressed")
    return {name: getattr(found, name) for name in names if getattr(found, name)}


def send(store: EventStore, held: Claim, *verdicts: Verdict) -> list[str]:
    """Try every open mail of a claim; answers the states that settling gave."""
    work, _ = store.begin(held.token, held.event_ids, attempt=0)
    answers = []
    pairs = [
        (item.event_id, recipient) for item in work for recipient in sorted(one.address for one in item.recipients)
    ]
    for (event_id, recipient), verdict in zip(pairs, verdicts, strict=True):
        assert store.settle(held.token, upcoming=(event_id, recipient))[1] == "go"
        answers.append(store.settle(held.token, settled=(event_id, recipient, verdict))[0])
    return answers


def test_an_event_told_twice_is_one_event(store: EventStore) -> None:
    assert record(store, event()).new
    assert not record(store, event()).new
    assert states(store) == {"pending": 1}


def test_a_hooks_own_repeated_write_is_no_duplicate(store: EventStore) -> None:
    assert record(store, event(), nonce="same").new
    again = record(store, event(), nonce="same")
    assert again.new
    assert seconds(again.wake_up) == 0, "the first reply was lost, and with it perhaps the wake-up"
    assert states(store) == {"pending": 1}


def test_a_wake_up_is_asked_for_once(store: EventStore) -> None:
    assert seconds(record(store, event("r1", "approval_approved")).wake_up) == 5
    assert seconds(record(store, event("r2", "approval_approved")).wake_up) is None


def test_a_full_batch_and_an_urgent_event_overtake_a_later_wake_up(store: EventStore) -> None:
    assert seconds(record(store, event("r0", "approval_approved")).wake_up) == 5
    assert seconds(record(store, event("r1")).wake_up) == 0
    store.rescue()
    waits = [seconds(record(store, event(f"s{n}", "approval_approved")).wake_up) for n in range(8)]
    assert waits == [5, *[None] * 6, 0]


def test_urgent_events_of_one_window_ride_together(store: EventStore) -> None:
    assert seconds(record(store, event("r1")).wake_up) == 0
    store.rescue()
    second = seconds(record(store, event("r2")).wake_up)
    assert second is not None
    assert 0 < second <= 1
    assert seconds(record(store, event("r3")).wake_up) is None


def test_a_wake_up_is_asked_for_what_remains(store: EventStore) -> None:
    def wake() -> float | None:
        return seconds(store.wake(batch_size=2, batch_timeout=5))

    assert wake() is None
    hooks_own = record(store, event("r1", "approval_approved")).wake_up
    assert hooks_own
    store.rescue(due=hooks_own.due)
    assert wake() == 5, "a part of a batch waits for its time"
    assert wake() is None, "one is outstanding"
    record(store, event("r2", "approval_approved"))
    store.rescue()
    assert wake() == 0, "a full batch does not wait"
    store.rescue()
    held = claim(store)
    found = wake()
    assert found is not None
    assert 40 < found <= 45, "what is claimed may come back when its lease runs out"
    store.rescue()
    store.defer(held.token, dict.fromkeys(held.event_ids, 30), reason="451")
    found = wake()
    assert found is not None
    assert 25 < found <= 30


def test_urgent_events_that_stay_behind_wait_no_longer_than_patience_lasts(
    store: EventStore, client: redis.Redis
) -> None:
    """As when the channel works again, or a burst came in before its first gather."""
    record(store, event("r1"))
    store.rescue()
    found = seconds(store.wake(batch_size=10, batch_timeout=3600))
    assert found is not None
    assert 0 < found <= timing.URGENT_PATIENCE
    store.rescue(due=int(client.get("approval_mail:{store}:wake") or 0))
    client.zadd("approval_mail:{store}:urgent", {"r1:approval_requested": 1})
    assert seconds(store.wake(batch_size=10, batch_timeout=3600)) == 0


def test_a_part_of_a_batch_hides_nothing_that_comes_sooner(store: EventStore, client: redis.Redis) -> None:
    def wake() -> float:
        client.delete("approval_mail:{store}:wake")
        found = seconds(store.wake(batch_size=10, batch_timeout=3600, longest=3600))
        assert found is not None
        return found

    record(store, event("r1"))
    held = claim(store)
    record(store, event("o1", "approval_approved"))
    assert 40 < wake() <= timing.LEASE, "a lease that may run out"
    store.defer(held.token, dict.fromkeys(held.event_ids, 30), reason="451")
    assert 25 < wake() <= 30, "what is due later"
    client.delete("approval_mail:{store}:pending")
    record(store, event("o2", "approval_approved"))
    assert wake() == 3600


def test_where_there_is_no_room_a_wake_up_waits_for_some(store: EventStore, client: redis.Redis) -> None:
    def wake() -> float | None:
        client.delete("approval_mail:{store}:wake")
        return seconds(store.wake(batch_size=2, batch_timeout=60))

    for n in range(4):
        record(store, event(f"o{n}", "approval_approved"))
    held = claims(store, groups=2, size=1, recipients=["op@example.com"])
    store.note_room(2, urgent_from=2)
    assert wake() == 0
    store.note_room(1, urgent_from=2)
    found = wake()
    assert found is not None
    assert 0.5 < found <= timing.ROOM_EVERY, "a gather looks for room so often"
    record(store, event("r1"))
    found = wake()
    assert found is not None
    assert found > 0
    client.zadd("approval_mail:{store}:urgent", {"r1:approval_requested": 1})
    assert wake() == 0
    store.note_room(1, urgent_from=1)
    found = wake()
    assert found is not None
    assert found > 0
    client.zrem("approval_mail:{store}:urgent", "r1:approval_requested")
    assert send(store, held[0], SENT) == ["sent"]
    assert wake() == 0, "there is room"
    store.note_room(0, urgent_from=0)
    store.note_room(None)
    assert wake() == 0


def test_urgent_events_without_room_ask_for_a_gather_no_more_than_once_a_second(store: EventStore) -> None:
    for n in range(3):
        record(store, event(f"o{n}", "approval_approved"))
    claim(store)
    store.rescue()
    store.note_room(1, urgent_from=2)
    asked = [
        seconds(
            store.record(event(f"r{n}"), nonce=next(nonces), batch_size=2, batch_timeout=60, urgent_timeout=0).wake_up
        )
        for n in range(5)
    ]
    assert asked[0] is not None
    assert 0.5 < asked[0] <= timing.ROOM_EVERY
    assert asked[1:] == [None] * 4


@pytest.mark.parametrize("damaged", ["", "1", "x y", "-1 -1", None])
def test_a_damaged_note_of_room_holds_up_nothing(store: EventStore, client: redis.Redis, damaged: str | None) -> None:
    for n in range(12):
        record(store, event(f"o{n}", "approval_approved"))
    claim(store)
    key = "approval_mail:{store}:room"
    client.hset(key, "a", "b") if damaged is None else client.set(key, damaged)  # type: ignore[func-returns-value]
    for n in range(12, 24):
        client.delete("approval_mail:{store}:wake")
        found = record(store, event(f"o{n}", "approval_approved"))
    assert seconds(found.wake_up) == 0
    client.delete("approval_mail:{store}:wake")
    assert seconds(store.wake(batch_size=10, batch_timeout=60)) == 0


def test_what_is_given_back_keeps_its_place(store: EventStore, client: redis.Redis) -> None:
    for n in range(6):
        record(store, event(f"o{n}", "approval_approved"))
        client.zadd("approval_mail:{store}:pending", {f"o{n}:approval_approved": n + 1})
    first, _ = claims(store, groups=2, size=2, recipients=["op@example.com"])
    store.begin(first.token, first.event_ids, attempt=0)
    store.release(first.token, first.event_ids)
    again = claim(store)
    assert again.event_ids == tuple(f"o{n}:approval_approved" for n in (0, 1, 4, 5))
    store.defer(again.token, {"o0:approval_approved": 0.001}, reason="451")
    assert client.hget("approval_mail:{store}:event:o0:approval_approved", "due") is None


def test_a_repeated_mark_is_not_told_to_yield(store: EventStore, client: redis.Redis) -> None:
    """The try was begun by the first copy, whose answer was lost."""
    record(store, event("o1", "approval_approved"))
    held = claim(store)
    store.begin(held.token, held.event_ids, attempt=0)
    call = store._settling(held.token, None, (held.event_ids[0], "op@example.com"))
    assert store._run("settle", *call)[1] == "go"
    record(store, event("r1"))
    client.zadd("approval_mail:{store}:urgent", {"r1:approval_requested": 1})
    assert store._run("settle", *call)[1] == "go"


def test_claimed_events_are_grouped_in_order_and_nobody_elses(store: EventStore) -> None:
    for n in range(25):
        record(store, event(f"r{n:02}"))
    groups = claims(store, groups=3, size=10, recipients=["op@example.com"])
    assert [len(group.event_ids) for group in groups] == [10, 10, 5]
    assert len({group.token for group in groups}) == 3
    assert claims(store, groups=3, size=10, recipients=["op@example.com"]) == []
    assert states(store) == {"claimed": 25}


def test_recipients_are_frozen_at_the_first_claim(store: EventStore, client: redis.Redis) -> None:
    record(store, event("r1"))
    record(store, event("r2", email_to="own@example.com"))
    claim(store, ("a@example.com", "b@example.com"))
    lapse(client, store)
    held = claim(store, ("other@example.com",))
    work, _ = store.begin(held.token, held.event_ids, attempt=0)
    assert {item.event_id[:2]: sorted(one.address for one in item.recipients) for item in work} == {
        "r1": ["a@example.com", "b@example.com"],
        "r2": ["own@example.com"],
    }


def test_an_event_is_sent_when_its_last_mail_is(store: EventStore) -> None:
    record(store, event())
    held = claim(store, ("a@example.com", "b@example.com"))
    assert send(store, held, SENT, SENT) == ["", "sent"]
    assert states(store) == {"sent": 1}
    assert store.tally(held.token) == {"sent": 2, "deferred": 0, "dead": 0, "suppressed": 0}


def test_a_refused_mail_is_dead_and_its_neighbours_are_sent(store: EventStore) -> None:
    record(store, event())
    held = claim(store, ("a@example.com", "b@example.com", "c@example.com"))
    assert send(store, held, SENT, REFUSED, SENT) == ["", "", "dead"]
    [mail] = store.history.dead()
    assert (mail.recipient, mail.code, mail.phase, mail.attempts) == ("b@example.com", 550, "rcpt", 1)
    assert mail.reason == "550 no such user"
    assert states(store) == {"dead": 1}


def test_claimed_events_come_back_when_the_worker_dies(store: EventStore, client: redis.Redis) -> None:
    record(store, event())
    lost = claim(store)
    assert lapse(client, store) == 1
    assert states(store) == {"pending": 1}
    found = claim(store)
    assert found.token != lost.token
    assert store.begin(lost.token, lost.event_ids, attempt=0) == ([], {})
    assert len(store.begin(found.token, found.event_ids, attempt=0)[0]) == 1


def test_a_redelivered_copy_of_a_try_gets_nothing_but_the_next_try_does(store: EventStore) -> None:
    record(store, event())
    held = claim(store)
    assert store.begin(held.token, held.event_ids, attempt=0)[0]
    assert store.begin(held.token, held.event_ids, attempt=0)[0] == []
    assert store.begin(held.token, held.event_ids, attempt=1)[0]


def test_a_worker_that_lost_its_lease_can_settle_nothing_but_an_acceptance(
    store: EventStore, client: redis.Redis
) -> None:
    record(store, event("r1"))
    record(store, event("r2"))
    old = claim(store)
    store.begin(old.token, old.event_ids, attempt=0)
    first, second = old.event_ids
    store.settle(old.token, upcoming=(first, "op@example.com"))
    lapse(client, store)
    new = claim(store)

    assert store.renew(old.token, old.event_ids) == 0
    assert store.settle(old.token, settled=(second, "op@example.com", REFUSED))[0] == ""
    assert store.bury(old.token, second, phase="x", reason="x") == 0
    assert store.defer(old.token, {second: 30}, reason="x") == (0, 0)
    assert store.release(old.token, [second]) == 0
    assert store.settle(old.token, upcoming=(second, "op@example.com"))[1] == "lost"
    assert states(store) == {"claimed": 2}

    assert store.settle(old.token, settled=(first, "op@example.com", SENT))[0] == "sent"
    assert states(store) == {"claimed": 1, "sent": 1}
    store.begin(new.token, new.event_ids, attempt=0)
    assert store.settle(new.token, upcoming=(first, "op@example.com"))[1] == "lost", "sent already: not sent again"


def test_a_lease_is_renewed_by_the_stores_clock(store: EventStore, client: redis.Redis) -> None:
    record(store, event())
    held = claim(store)
    before = client.zscore("approval_mail:{store}:claimed", held.event_ids[0])
    assert store.renew(held.token, held.event_ids, seconds=100) == 1
    after = client.zscore("approval_mail:{store}:claimed", held.event_ids[0])
    assert 50_000 < after - before < 60_000


def test_tries_of_unknown_outcome_are_bounded(store: EventStore, client: redis.Redis) -> None:
    record(store, event())
    for _ in range(MAX_OPEN_TRIES):
        held = claim(store)
        assert send(store, held, UNKNOWN) == [""]
        lapse(client, store)
    held = claim(store)
    [work] = store.begin(held.token, held.event_ids, attempt=0)[0]
    assert store.settle(held.token, upcoming=(work.event_id, "op@example.com"))[1] == "buried"
    [mail] = store.history.dead()
    assert mail.reason.startswith("outcome unknown 3 times")
    assert mail.attempts == MAX_OPEN_TRIES


class Unheard:
    """Loses so many replies to scripts, which have been run."""

    def __init__(self, left: int = 0) -> None:
        self.left = left

    def __call__(self, request: bytes, reply: bytes) -> bool:
        if not self.left or b"EVALSHA" not in request or b"NOSCRIPT" in reply:
            return True
        self.left -= 1
        return False


def test_a_try_counts_once_however_often_its_client_has_to_ask(redis_server: RedisServer, store: EventStore) -> None:
    """A worker waits out a frozen store by sending the same call again and again; each may have been done."""
    record(store, event())
    held = claim(store)
    replies = Unheard()

    with Proxy(redis_server.port, replies) as proxy, worker_client(proxy.redis_url) as client:
        far = EventStore(client)
        replies.left = 1
        [work], _ = far.begin(held.token, held.event_ids, attempt=0)
        mail = (work.event_id, "op@example.com")
        replies.left = MAX_OPEN_TRIES
        assert far.settle(held.token, upcoming=mail) == ("", "go")
        replies.left = 1
        assert far.settle(held.token, settled=(*mail, REFUSED)) == ("dead", "")
        assert not replies.left
    assert [dead.attempts for dead in store.history.dead()] == [1]
    assert [change.state for change in store.history.trace("r1")] == ["pending", "claimed", "dead"]


def test_what_one_call_took_is_answered_again_to_a_client_that_did_not_hear(
    redis_server: RedisServer, store: EventStore, client: redis.Redis
) -> None:
    for n in range(5):
        record(store, event(f"r{n}"))
    replies = Unheard(2)

    with Proxy(redis_server.port, replies) as proxy, worker_client(proxy.redis_url) as far:
        taken = EventStore(far).take(3, token="t")
    assert not replies.left
    assert [one.event_id for one in taken] == [f"r{n}:approval_requested" for n in range(3)]
    assert all(one.record for one in taken)
    assert states(store) == {"claimed": 3, "pending": 2}
    assert all(0 < client.pttl(key) <= timing.LEASE * 1000 for key in client.scan_iter("*take:*"))
    assert [one.event_id[:2] for one in store.take(3, token="t")] == ["r3", "r4"], "another call takes others"


def test_verdicts_are_recorded_once_though_the_server_forgets_its_scripts_on_the_way(
    redis_server: RedisServer, store: EventStore, client: redis.Redis
) -> None:
    """As one does that is started anew under a digest: the client looks for the script only before it sends the lot."""
    for n in range(3):
        record(store, event(f"r{n}"))
    held = claim(store)
    store.begin(held.token, held.event_ids, attempt=0)
    for event_id in held.event_ids:
        store.settle(held.token, upcoming=(event_id, "op@example.com"))
    lost: list[bytes] = []

    def forget(request: bytes, reply: bytes) -> bool:
        if lost or request.count(b"EVALSHA") < 3:
            return True
        lost.append(request)
        client.script_flush()
        return False

    with Proxy(redis_server.port, forget) as proxy, worker_client(proxy.redis_url) as far:
        verdict = Verdict("sent", code=250, phase="dot", counts={"accepted\tapproval_requested": 1})
        EventStore(far).settle_each(held.token, [(event_id, "op@example.com", verdict) for event_id in held.event_ids])
    assert lost
    assert states(store) == {"sent": 3}
    assert store.counters()["accepted", "approval_requested"] == 3


def test_known_failures_do_not_count_as_unknown(store: EventStore, client: redis.Redis) -> None:
    record(store, event())
    for _ in range(2 * MAX_OPEN_TRIES):
        assert send(store, claim(store), BUSY) == [""]
        lapse(client, store)
    assert states(store) == {"pending": 1}


def test_an_unspent_try_costs_no_attempt(store: EventStore) -> None:
    record(store, event())
    held = claim(store)
    assert send(store, held, Verdict("unspent")) == [""]
    store.settle(held.token, upcoming=(held.event_ids[0], "op@example.com"))
    store.settle(held.token, settled=(held.event_ids[0], "op@example.com", REFUSED))
    assert next(store.history.dead()).attempts == 1


def test_a_deferred_event_is_due_later(store: EventStore) -> None:
    record(store, event())
    held = claim(store)
    assert store.defer(held.token, dict.fromkeys(held.event_ids, 30), reason="451") == (1, 0)
    assert states(store) == {"deferred": 1}
    assert claims(store, groups=1, size=1, recipients=["x@example.com"]) == []


def test_an_event_with_a_deadline_ahead_waits_half_a_minute_at_the_most(store: EventStore, client: redis.Redis) -> None:
    record(store, event("r1", expires_at=datetime.now(timezone.utc) + timedelta(hours=1)))
    record(store, event("r2"))
    held = claim(store)
    store.defer(held.token, dict.fromkeys(held.event_ids, 600), reason="451")
    now = client.time()[0] * 1000
    waits = {k[:2]: s - now for k, s in client.zrange("approval_mail:{store}:pending", 0, -1, withscores=True)}
    assert waits["r1"] <= 31_000
    assert waits["r2"] >= 599_000


def test_an_event_older_than_the_maximum_is_dead_with_each_mails_last_reason(
    store: EventStore, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    record(store, event())
    client.hset("approval_mail:{store}:event:r1:approval_requested", "since", 1)
    held = claim(store, ("busy@example.com", "full@example.com"))
    send(store, held, BUSY, FULL)
    with caplog.at_level(logging.ERROR):
        assert store.defer(held.token, dict.fromkeys(held.event_ids, 30), reason="452 full") == (0, 1)
    found = {mail.recipient: (mail.code, mail.phase, mail.reason) for mail in store.history.dead()}
    given = "not delivered within 86400 s; last: rcpt: "
    assert found == {
        "busy@example.com": (451, "deferral", f"{given}451 later"),
        "full@example.com": (452, "deferral", f"{given}452 full"),
    }
    assert caplog.messages == ["Dead r1:approval_requested: not delivered within 86400 s"]
    codes = {change.recipient: change.code for change in store.history.trace("r1") if change.state == "dead"}
    assert codes == {"busy@example.com": 451, "full@example.com": 452}


@pytest.mark.parametrize("held", [True, False])
def test_what_dies_of_age_without_a_try_says_why_it_waited(
    store: EventStore, client: redis.Redis, caplog: pytest.LogCaptureFixture, held: bool
) -> None:
    record(store, event())
    claim(store)
    lapse(client, store)
    client.hset("approval_mail:{store}:event:r1:approval_requested", "since", 1)
    if held:
        store.hold(reason="535 no", next_step="mend it")
        assert store.postpone() == 1
    else:
        claim(store)
        lapse(client, store)
    [mail] = store.history.dead()
    why = "535 no" if held else "its lease ran out"
    assert (mail.code, mail.reason) == (None, f"not delivered within 86400 s; last: {why}")
    assert caplog.messages == ["Dead r1:approval_requested: not delivered within 86400 s"]


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ("approval_approved", "moot: already approved"),
        ("approval_rejected", "moot: already rejected"),
        ("approval_timeout", "moot: already timed out"),
    ],
)
def test_a_late_request_is_suppressed_once_it_is_decided(store: EventStore, outcome: str, reason: str) -> None:
    record(store, event("r1"), waited=0)
    record(store, event("r1", outcome))
    held = claim(store)
    work, suppressed = store.begin(held.token, held.event_ids, attempt=0)
    assert suppressed == {"r1:approval_requested": reason}
    assert [item.event_id for item in work] == [f"r1:{outcome}"]
    assert states(store) == {"claimed": 1, "suppressed": 1}


def test_a_request_gets_its_first_attempt_whatever_happened_since(store: EventStore) -> None:
    record(store, event("r1", expires_at="2020-01-01T00:00:00Z"))
    record(store, event("r1", "approval_approved"))
    held = claim(store)
    assert len(store.begin(held.token, held.event_ids, attempt=0)[0]) == 2
    work, suppressed = store.begin(held.token, held.event_ids, attempt=1)
    assert suppressed == {"r1:approval_requested": "moot: already approved"}
    assert len(work) == 1


def test_a_late_request_is_suppressed_once_it_has_expired(store: EventStore, client: redis.Redis) -> None:
    record(store, event("r1", expires_at="2020-01-01T00:00:00Z"))
    claim(store)
    lapse(client, store)
    held = claim(store)
    assert store.begin(held.token, held.event_ids, attempt=0)[1] == {"r1:approval_requested": "moot: expired"}


def test_released_events_are_due_at_once_and_not_late(store: EventStore) -> None:
    record(store, event("r1", expires_at="2020-01-01T00:00:00Z"))
    held = claim(store)
    assert store.release(held.token, held.event_ids) == 1
    held = claim(store)
    assert len(store.begin(held.token, held.event_ids, attempt=0)[0]) == 1


def test_of_claims_whose_messages_did_not_leave_those_that_have_begun_are_kept(store: EventStore) -> None:
    for n in range(2):
        record(store, event(f"r{n}"))
    begun, unbegun = claims(store, groups=2, size=1, recipients=["op@example.com"])
    store.begin(begun.token, begun.event_ids, attempt=0)
    assert store.release(begun.token, begun.event_ids, unbegun=True) == 0
    assert store.release(unbegun.token, unbegun.event_ids, unbegun=True) == 1
    assert store.begin(unbegun.token, unbegun.event_ids, attempt=0) == ([], {}), "a message that did leave does nothing"
    assert states(store) == {"pending": 1, "claimed": 1}


@pytest.fixture
def fill(redis_server: RedisServer) -> Iterator[Callable[[], object]]:
    """Leave the server without memory until the test ends."""
    with redis_server.client as client:
        yield lambda: client.config_set("maxmemory", 1)
        client.config_set("maxmemory", 0)


def test_a_full_store_takes_nothing_on_and_leads_all_that_it_has_to_an_end(
    store: EventStore, redis_server: RedisServer, fill: Callable[[], object]
) -> None:
    """Else an accepted mail could not be put on record, and would be sent again."""
    for n in range(6):
        record(store, event(f"r{n}"))
    fill()
    with hook_client(redis_server.url) as impatient, pytest.raises(StoreError, match="maxmemory"):
        record(EventStore(impatient), event("another"))
    store.wake(batch_size=10, batch_timeout=5)
    assert store.rescue(by_beat=True).due == 6
    sent, refused, later, given, buried, begun = claims(store, groups=6, size=1, recipients=["op@example.com"])
    assert store.wake_for_leases()
    store.note_room(0, urgent_from=0)
    store.note_room(None)
    assert send(store, sent, SENT) == ["sent"]
    assert send(store, refused, REFUSED) == ["dead"]
    assert send(store, later, BUSY) == [""]
    assert store.renew(later.token, later.event_ids) == 1
    assert store.defer(later.token, dict.fromkeys(later.event_ids, 30), reason="451") == (1, 0)
    assert store.release(given.token, given.event_ids) == 1
    assert store.bury(buried.token, buried.event_ids[0], phase="record", reason="damaged") == 1
    assert store.settle(begun.token, upcoming=(begun.event_ids[0], "op@example.com"))[1] == "go"
    assert store.hold(reason="no login", next_step="mend it")[1]
    assert store.postpone() == 1
    assert store.unhold() is not None
    assert states(store) == {"pending": 1, "deferred": 1, "claimed": 1, "sent": 1, "dead": 2}


@pytest.mark.parametrize("answer", [REPLICA, SCRIPT_ON_A_REPLICA], ids=["7", "6.2"])
@pytest.mark.parametrize("make", [hook_client, operator_client])
def test_a_server_that_is_no_longer_the_master_is_left(make: Callable[[str], redis.Redis], answer: bytes) -> None:
    """By its name another may be found, while it keeps its connections."""
    with RespPeer(b"+OK\r\n", {"HELLO": HELLO, "EVALSHA": answer}) as peer, make(peer.redis_url) as client:
        for _ in range(2):
            with pytest.raises(StoreError, match="read only replica"):
                client.evalsha("0" * 40, 0)
        assert peer.connections > 1


def test_a_replica_refuses_a_script_with_its_own_word(own_redis: RedisServer) -> None:
    """Redis 6.2 wraps what a script raises; workers try again for READONLY alone."""
    with own_redis.client as client, hook_client(own_redis.url) as impatient:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(redis.ReadOnlyError):
            EventStore(impatient).rescue()


def test_a_reopened_event_resolves_its_recipients_again_and_skips_those_already_sent(store: EventStore) -> None:
    record(store, event())
    send(store, claim(store, ("a@example.com", "typo@example.com")), SENT, REFUSED)
    assert store.reopen("r1:approval_requested") == 1
    assert states(store) == {"pending": 1}
    held = claim(store, ("a@example.com", "mended@example.com"))
    [work] = store.begin(held.token, held.event_ids, attempt=0)[0]
    assert work.recipients == (Recipient("mended@example.com"),)


def test_reopening_what_everybody_has_been_sent_by_now_ends_it_as_sent(store: EventStore) -> None:
    record(store, event())
    send(store, claim(store, ("a@example.com", "typo@example.com")), SENT, REFUSED)
    store.reopen("r1:approval_requested")
    assert claims(store, groups=1, size=10, recipients=["a@example.com"]) == []
    assert states(store) == {"sent": 1}


def test_a_dead_mail_is_reopened_while_another_of_its_event_is_under_way(store: EventStore) -> None:
    record(store, event())
    held = claim(store, ("bad@example.com", "good@example.com"))
    store.begin(held.token, held.event_ids, attempt=0)
    store.settle(held.token, upcoming=("r1:approval_requested", "bad@example.com"))
    store.settle(held.token, settled=("r1:approval_requested", "bad@example.com", REFUSED))
    assert [mail.recipient for mail in store.history.dead()] == ["bad@example.com"]
    assert store.reopen("r1:approval_requested") == 1
    assert states(store) == {"claimed": 1}
    store.settle(held.token, upcoming=("r1:approval_requested", "good@example.com"))
    store.settle(held.token, settled=("r1:approval_requested", "good@example.com", SENT))
    assert states(store) == {"pending": 1}
    held = claim(store, ("bad@example.com", "good@example.com"))
    assert store.begin(held.token, held.event_ids, attempt=0)[0][0].recipients == (Recipient("bad@example.com"),)


def test_an_event_that_history_has_passed_over_is_reopened_all_the_same(store: EventStore, client: redis.Redis) -> None:
    """NOTIFICATION_HISTORY_DAYS was shortened: the lists of what is dead forget it sooner than it goes itself."""
    record(store, event())
    send(store, claim(store), REFUSED)
    client.delete("approval_mail:{store}:dead", "approval_mail:{store}:buried")
    assert store.reopen("r1:approval_requested") == 1
    assert states(store) == {"pending": 1}
    assert client.pttl("approval_mail:{store}:event:r1:approval_requested") == -1


def test_a_discarded_mail_is_suppressed_with_the_reason(store: EventStore) -> None:
    record(store, event())
    send(store, claim(store), REFUSED)
    assert store.discard("r1:approval_requested", reason="discarded by an operator") == 1
    assert states(store) == {"suppressed": 1}
    assert list(store.history.dead()) == []
    assert store.discard("r1:approval_requested", reason="again") == 0


def test_nothing_is_claimed_while_the_channel_is_held_but_one_probe(store: EventStore, client: redis.Redis) -> None:
    record(store, event("r1"))
    held = claim(store)
    wait, news = store.hold(reason="535 no", next_step="mend it")
    assert (wait, news) == (5, True)
    store.defer(held.token, dict.fromkeys(held.event_ids, wait), reason="535 no", spend_round=False)
    record(store, event("r2"))
    assert store.rescue().channel == "held"
    assert store.postpone() == 1
    assert states(store) == {"deferred": 2}
    wait, news = store.hold(reason="535 no", next_step="mend it")
    assert (wait <= 5, news) == (True, False), "another batch of the same moment does not lengthen the wait"

    waits = []
    for n in range(5):
        record(store, event(f"more{n}"))
        client.hset("approval_mail:{store}:channel", "probe", 1)
        assert [store.rescue().channel for _ in range(2)] == ["probe", "held"]
        waits.append(store.hold(reason="535 no", next_step="mend it")[0])
    assert waits == [10, 20, 40, 60, 60]


def test_a_gather_leaves_what_another_is_about_to_probe_the_channel_with(
    store: EventStore, client: redis.Redis
) -> None:
    store.hold(reason="535 no", next_step="mend it")
    client.hset("approval_mail:{store}:channel", "probe", 1)
    record(store, event("r1"))
    assert [store.rescue().channel for _ in range(2)] == ["probe", "held"]
    assert store.postpone() == 0
    probe = claim(store)
    assert probe.event_ids == ("r1:approval_requested",)
    record(store, event("r2"))
    assert store.postpone() == 1, "the rest waits"
    assert store.channel_wait(probe.token) is None


def test_only_the_probe_may_try_a_held_channel(store: EventStore, client: redis.Redis) -> None:
    record(store, event("r1"))
    early = claim(store)
    assert store.channel_wait(early.token) is None
    store.hold(reason="535 no", next_step="mend it")
    wait, reason = store.channel_wait(early.token) or (0, "")
    assert 4 < wait <= 5
    assert reason == "535 no"
    record(store, event("r2"))
    client.hset("approval_mail:{store}:channel", "probe", 1)
    store.rescue()
    probe = claim(store)
    assert store.channel_wait(probe.token) is None
    assert store.channel_wait(early.token)
    store.unhold()
    assert store.channel_wait(early.token) is None


def test_trouble_in_other_words_of_the_servers_is_no_news(store: EventStore) -> None:
    assert store.hold(reason="535 no (session 1)", next_step="mend it", kind="auth 535")[1]
    assert not store.hold(reason="535 no (session 2)", next_step="mend it", kind="auth 535")[1]
    assert store.hold(reason="550 tokens only", next_step="use a token", kind="auth 550")[1]
    assert store.count().held_reason == "550 tokens only"


def test_what_waited_for_the_channel_alone_is_due_when_it_works_again(store: EventStore) -> None:
    record(store, event("r1"))
    record(store, event("r2"))
    record(store, event("r3"))
    first, second = claims(store, groups=2, size=1, recipients=["x@example.com"])
    store.hold(reason="refused", next_step="start it")
    store.defer(first.token, dict.fromkeys(first.event_ids, 5), reason="refused", spend_round=False)
    store.defer(second.token, dict.fromkeys(second.event_ids, 30), reason="451")
    store.postpone()
    counts = store.count()
    assert counts.held_reason == "refused"
    assert counts.deferred == 3
    assert store.unhold() is not None
    assert states(store) == {"pending": 2, "deferred": 1}
    assert store.unhold() is None
    assert store.count().held_since is None


def test_finished_events_stay_as_history_and_then_expire(client: redis.Redis) -> None:
    store = EventStore(client, history=2)
    record(store, event())
    send(store, claim(store), SENT)
    assert not record(store, event()).new, "within the history a repetition is known"
    assert states(store) == {"sent": 1}
    wait_for(lambda: not states(store), seconds=30)
    store.rescue()
    left = {key for key in client.keys("*") if "tally:" not in key and "take:" not in key}
    assert left <= {f"approval_mail:{{store}}:{name}" for name in ("wake", "window", "counters")}


def test_no_open_event_ever_expires(store: EventStore, client: redis.Redis) -> None:
    record(store, event())
    send(store, claim(store), REFUSED)
    assert client.pttl("approval_mail:{store}:event:r1:approval_requested") > 0
    store.reopen("r1:approval_requested")
    assert client.pttl("approval_mail:{store}:event:r1:approval_requested") == -1


def test_each_event_is_counted_once_and_ages_are_told(store: EventStore) -> None:
    empty = store.count()
    assert (empty.oldest_pending_seconds, empty.beat_seconds_ago, empty.held_since) == (None, None, None)
    record(store, event())
    store.rescue(by_beat=True)
    found = store.count()
    assert found.oldest_pending_seconds is not None
    assert found.beat_seconds_ago is not None
    assert 0 <= found.oldest_pending_seconds < 10
    assert 0 <= found.beat_seconds_ago < 10


def test_all_keys_share_one_slot_and_the_contracts_prefix(store: EventStore, client: redis.Redis) -> None:
    record(store, event())
    store.rescue(by_beat=True)
    send(store, claim(store), BUSY)
    store.hold(reason="x", next_step="y")
    assert client.keys("*")
    assert all(key.startswith("approval_mail:{store}:") for key in client.keys("*"))


def test_the_scripts_run_on_a_cluster(tmp_path: Path) -> None:
    """A node that owns every slot refuses a script that touches two of them."""
    server = RedisServer(tmp_path, "--cluster-enabled", "yes").start()
    try:
        with server.client as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_for(lambda: "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO")))
            store = EventStore(client)
            record(store, event("r1"))
            record(store, event("r2"))
            assert send(store, claim(store), SENT, REFUSED) == ["sent", "dead"]
            store.reopen("r2:approval_requested")
            store.hold(reason="x", next_step="y")
            store.postpone()
            store.unhold()
            assert states(store) == {"sent": 1, "pending": 1}
    finally:
        server.kill()


def test_racing_claims_share_the_events_out(store: EventStore) -> None:
    for n in range(200):
        record(store, event(f"r{n}"))

    def take(_: int) -> list[str]:
        made = claims(store, groups=1, size=7, recipients=["x@example.com"])
        return [event_id for held in made for event_id in held.event_ids]

    with ThreadPoolExecutor(8) as pool:
        taken = [event_id for ids in pool.map(take, range(40)) for event_id in ids]
    assert len(taken) == len(set(taken)) == 200


def test_a_gather_takes_back_the_wake_up_that_started_it_and_no_other(store: EventStore) -> None:
    record(store, event("r1"))
    held = claim(store)
    store.rescue()
    store.defer(held.token, dict.fromkeys(held.event_ids, 30), reason="451")
    later = store.wake(batch_size=10, batch_timeout=5)
    assert later is not None
    for _ in range(3):  # Beat's gathers, say.
        store.rescue(by_beat=True)
        assert store.wake(batch_size=10, batch_timeout=5) is None, "that message is still on its way"
    store.rescue(due=later.due)
    assert store.wake(batch_size=10, batch_timeout=5) is not None


def test_the_end_of_a_lease_is_watched_once_a_lease(store: EventStore) -> None:
    assert [store.wake_for_leases() for _ in range(3)] == [True, False, False]


def test_a_large_claim_is_made_in_several_steps_so_that_redis_serves_others_in_between(
    store: EventStore, client: redis.Redis
) -> None:
    for n in range(450):
        record(store, event(f"r{n}", "approval_approved"))
    client.config_resetstat()
    made = claims(store, groups=6, size=90, recipients=["x@example.com"])
    calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    claimed = [event_id for found in made for event_id in found.event_ids]
    assert len(set(claimed)) == len(claimed) == 450
    assert len({found.token for found in made}) == len(made) == 5
    assert calls == 6, "200 are taken in a call, and 200 are addressed"


def test_what_was_claimed_before_redis_refused_more_goes_out(own_redis: RedisServer) -> None:
    refusals: list[bytes] = []

    def turn_read_only(request: bytes, reply: bytes) -> bool:
        if b"EVALSHA" in request and b"r0:approval_approved" in reply:
            admin.replicaof("127.0.0.1", 1)
        refusals.extend([reply] if b"READONLY" in reply else [])
        if len(refusals) == 2:  # Which is tried again once, by a new connection.
            admin.replicaof("NO", "ONE")
        return True

    with (
        own_redis.client as admin,
        Proxy(own_redis.port, turn_read_only) as proxy,
        operator_client(proxy.redis_url) as client,
    ):
        store = EventStore(client)
        for n in range(300):
            record(store, event(f"r{n}", "approval_approved"))
        [first, second] = claims(store, groups=3, size=100, recipients=["x@example.com"])
        assert len({*first.event_ids, *second.event_ids}) == 200
        assert states(store) == {"claimed": 200, "pending": 100}


def test_urgent_events_are_known_among_those_due_and_can_be_claimed_alone(store: EventStore) -> None:
    for n in range(5):
        record(store, event(f"o{n}", "approval_approved"))
    record(store, event("r1"))
    survey = store.rescue()
    assert (survey.due, survey.urgent) == (6, 1)
    [urgent] = claims(store, groups=1, size=10, recipients=["x@example.com"], urgent=True)
    assert urgent.event_ids == ("r1:approval_requested",)
    assert urgent.urgent
    assert store.rescue().urgent == 0
    store.release(urgent.token, urgent.event_ids)
    assert store.rescue().urgent == 1
    everything = claim(store)
    assert len(everything.event_ids) == 6
    assert store.rescue().urgent == 0


def test_a_claim_yields_to_an_urgent_event_that_waits_for_a_free_worker(store: EventStore, client: redis.Redis) -> None:
    record(store, event("o1", "approval_approved"))
    held = claim(store)
    store.begin(held.token, held.event_ids, attempt=0)
    upcoming = (held.event_ids[0], "op@example.com")
    record(store, event("r1"))
    assert store.settle(held.token, upcoming=upcoming)[1] == "go", "it has only just come"
    client.zadd("approval_mail:{store}:urgent", {"r1:approval_requested": 1})
    assert store.settle(held.token, upcoming=upcoming)[1] == "yield"


@pytest.mark.parametrize(
    "damaged", ["garbage", '{"s":"open"}', '{"s":"open","a":"x","o":0}', '{"s":"odd","a":0,"o":0}']
)
def test_a_damaged_mail_is_dead_and_its_neighbours_are_not_touched(
    store: EventStore, client: redis.Redis, caplog: pytest.LogCaptureFixture, damaged: str
) -> None:
    for n in range(3):
        record(store, event(f"r{n}"))
    lost = claim(store)
    client.hset("approval_mail:{store}:event:r1:approval_requested", "mail:op@example.com", damaged)
    assert send(store, lost, SENT, SENT) == ["sent", "sent"]
    assert "Dead r1:approval_requested: the record of its mails is damaged" in caplog.text
    assert [row.event_id for row in store.history.dead()] == ["r1:approval_requested"]
    assert (store.count().claimed, store.count().dead) == (0, 1)


def test_a_damaged_count_of_rounds_begins_anew(store: EventStore, client: redis.Redis) -> None:
    record(store, event())
    held = claim(store)
    client.hset("approval_mail:{store}:event:r1:approval_requested", "rounds", "many")
    [work], _ = store.begin(held.token, held.event_ids, attempt=0)
    assert work.rounds == 0
    assert store.defer(held.token, {work.event_id: 30}, reason="451") == (1, 0)


def test_an_acceptance_is_recorded_though_an_operator_reopened_the_mail_meanwhile(
    store: EventStore, client: redis.Redis
) -> None:
    record(store, event())
    old = claim(store)
    [work], _ = store.begin(old.token, old.event_ids, attempt=0)
    mail = (work.event_id, "op@example.com")
    store.settle(old.token, upcoming=mail)
    lapse(client, store)
    new = claim(store)
    store.bury(new.token, work.event_id, phase="deferral", reason="too old")
    assert store.reopen(work.event_id) == 1
    store.settle(old.token, settled=(*mail, SENT))
    assert claims(store, groups=1, size=10, recipients=["op@example.com"]) == [], "it is not sent once more"
    assert states(store) == {"sent": 1}


def test_a_probe_that_takes_long_keeps_the_others_away(store: EventStore, client: redis.Redis) -> None:
    store.hold(reason="535 no", next_step="mend it")
    client.hset("approval_mail:{store}:channel", "probe", 1)
    record(store, event("r1"))
    record(store, event("r2"))
    assert store.rescue().channel == "probe"
    [probe] = claims(store, groups=1, size=1, recipients=["op@example.com"])
    client.hset("approval_mail:{store}:channel", "probe", 1)
    assert store.renew(probe.token, probe.event_ids) == 1
    assert store.rescue().channel == "held"


def test_a_record_that_was_damaged_can_still_be_buried(store: EventStore, client: redis.Redis) -> None:
    record(store, event())
    client.hset("approval_mail:{store}:event:r1:approval_requested", "record", "garbage")
    held = claim(store)
    [work] = store.begin(held.token, held.event_ids, attempt=0)[0]
    assert work.record == "garbage"
    assert store.bury(held.token, work.event_id, phase="record", reason="not an event") == 1
    assert states(store) == {"dead": 1}


def test_a_mail_that_is_reopened_while_its_event_is_taken_is_not_forgotten(
    store: EventStore, client: redis.Redis
) -> None:
    record(store, event())
    send(store, claim(store, ("a@example.com", "b@example.com")), REFUSED, BUSY)
    lapse(client, store)
    [taken] = store.take(10, token="t")
    assert taken.recipients == (Recipient("b@example.com"),)
    assert store.reopen("r1:approval_requested") == 1
    rows = [Addressed(taken.event_id, "t:1", taken.recipients, before=True)]
    assert store.address("t", rows) == {taken.event_id}
    held = Claim("t:1", (taken.event_id,))
    assert send(store, held, SENT) == [""]
    assert states(store) == {"pending": 1}
    again = claim(store, ("a@example.com", "b@example.com"))
    [work] = store.begin(again.token, again.event_ids, attempt=0)[0]
    assert work.recipients == (Recipient("a@example.com"),)


def test_addressing_told_twice_answers_the_same(store: EventStore) -> None:
    record(store, event())
    [taken] = store.take(10, token="t")
    rows = [Addressed(taken.event_id, "t:1", (Recipient("a@example.com"),))]
    assert store.address("t", rows) == store.address("t", rows) == {taken.event_id}
    assert [change.state for change in store.history.trace("r1")] == ["pending", "claimed"]
