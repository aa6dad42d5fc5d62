"""What processes tell one another."""

from __future__ import annotations

import time

import redis

from approval_mail.store import EventStore


def test_news_is_told_by_one(store: EventStore) -> None:
    assert [store.notices.is_news("routes", seconds=60) for _ in range(3)] == [True, False, False]
    assert store.notices.is_news("other", seconds=0.05)
    time.sleep(0.1)
    assert store.notices.is_news("other", seconds=0.05)


def test_what_is_said_of_routes_holds_while_it_is_said_again(store: EventStore, client: redis.Redis) -> None:
    assert store.notices.routes_faults() == {}
    for place in ("web2:/r.toml", "web1:/r.toml"):
        store.notices.report_routes(place, "/r.toml, line 3: no")
    assert list(store.notices.routes_faults().items()) == [(f"web{n}:/r.toml", "/r.toml, line 3: no") for n in (1, 2)]
    assert 0 < client.pttl("approval_mail:{store}:routes") <= 30_000  # type: ignore[operator]
    store.notices.report_routes("web1:/r.toml", "")
    assert list(store.notices.routes_faults()) == ["web2:/r.toml"]
    client.hset("approval_mail:{store}:routes", "web2:/r.toml", "1 said long ago")
    client.hset("approval_mail:{store}:routes", "web3:/r.toml", "damaged")
    assert store.notices.routes_faults() == {}
