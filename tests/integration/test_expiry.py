"""History really expires: of finished events nothing is left once its lifetime is over."""

from __future__ import annotations

import redis

from approval_mail.store import EventStore
from tests.integration.test_store import BUSY, REFUSED, SENT, claim, event, record, send
from tests.rig.waiting import wait_for

_PREFIX = "approval_mail:{store}:"
#: What is not about any event, and an hour's tally of each claim.
_NOT_OF_EVENTS = ("beat", "counters", "failures", "room", "take:", "tally:", "told:", "wake", "watch", "window")


def of_events(client: redis.Redis) -> set[str]:
    names = {key.removeprefix(_PREFIX) for key in client.scan_iter(count=1000)}
    return {name for name in names if not name.startswith(_NOT_OF_EVENTS)}


def test_no_key_of_a_finished_event_outlives_the_history(client: redis.Redis) -> None:
    """Sent, dead, suppressed, discarded, reminded, tried again and told twice; only what is open stays."""
    store = EventStore(client, history=1)
    record(store, event("open", email_to="later@example.com"))
    store.defer(claim(store).token, {"open:approval_requested": 60}, reason="451 later")
    untouched = of_events(client)
    record(store, event("sent", email_to=["a@example.com", "b@example.com"]))
    send(store, claim(store), SENT, SENT)
    record(store, event("dead"))
    send(store, claim(store), REFUSED)
    record(store, event("discarded"))
    send(store, claim(store), REFUSED)
    assert store.discard("discarded:approval_requested", reason="by hand")
    record(store, event("moot"))
    record(store, event("moot", "approval_approved"))
    held = claim(store)
    store.begin(held.token, held.event_ids, attempt=0)
    work, suppressed = store.begin(held.token, held.event_ids, attempt=1)
    assert list(suppressed) == ["moot:approval_requested"]
    told = (work[0].event_id, "op@example.com")
    store.settle(held.token, upcoming=told)
    assert store.settle(held.token, settled=(*told, SENT))[0] == "sent"
    for fraction in ("0.5", "0.9"):
        record(store, event("reminded", "approval_reminder", fraction=fraction))
        send(store, claim(store), SENT)
    record(store, event("again"))
    held = claim(store)
    send(store, held, BUSY)
    store.defer(held.token, {"again:approval_requested": 0}, reason="451 later")
    send(store, claim(store), SENT)
    assert not record(store, event("again")).new
    finished = of_events(client) - untouched
    assert {"event", "trace", "recurring", "sent", "dead", "suppressed", "buried"} <= {
        name.partition(":")[0] for name in finished
    }

    def left() -> set[str]:
        store.rescue()  # A gather's first step clears the sorted sets.
        return of_events(client) - untouched

    wait_for(lambda: not left(), seconds=10, saying=f"{sorted(finished)} gone")
    assert of_events(client) == untouched, "an open event has no lifetime"
