"""What is left in Redis is told apart: keys that stay, keys that go, and keys that do neither."""

from __future__ import annotations

import pytest
import redis

from tests.soak import keys

P = "approval_mail:{store}:"
ID = "r1:approval_approved"


@pytest.fixture(autouse=True)
def _in_order(client: redis.Redis) -> None:
    client.set(f"{P}beat", 1)
    client.sadd("_kombu.binding.approval_mail", "queue")
    client.set(f"{P}event:{ID}", 1, ex=50)
    client.set(f"{P}tally:abc", 1, ex=800)
    client.zadd(f"{P}sent", {ID: 1})


def test_what_is_in_order_is_no_fault(client: redis.Redis) -> None:
    stay, going, faults = keys.remains(client, lifetime=60)
    assert stay == ["_kombu.binding.approval_mail", f"{P}beat"]
    assert going == {"event": 1, "tally": 1, "sent": 1}
    assert not faults


@pytest.mark.parametrize(
    ("key", "lifetime", "says"),
    [
        (f"{P}event:r2:approval_approved", None, "never expires"),
        (f"{P}trace:{ID}", 2000, "expires in 2000 s; at most 60"),
        (f"{P}recurring:r1", None, "never expires"),
        (f"{P}tally:def", 9000, "at most 900"),
        (f"{P}pending", None, "never expires"),
        (f"{P}parked", None, "never expires"),
        ("celery-task-meta-1", None, "never expires"),
        ("whatever", None, "never expires"),
    ],
)
def test_a_key_that_stays_for_too_long_is_told(client: redis.Redis, key: str, lifetime: int | None, says: str) -> None:
    client.set(key, 1, ex=lifetime)
    [told] = keys.remains(client, lifetime=60)[2]
    assert told.startswith(key)
    assert says in told


def test_a_constant_key_that_grows_is_told(client: redis.Redis) -> None:
    client.sadd("_kombu.binding.reply.celery.pidbox", *range(1000))
    [told] = keys.remains(client, lifetime=60)[2]
    assert "1000 members" in told
