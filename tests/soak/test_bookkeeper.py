"""The bookkeeper finds each kind of wrong, a slice at a time, and knows what it has judged."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from approval_mail.rendering.message import message_id
from tests.faults.accounting import SENDER_DOMAIN
from tests.soak.bookkeeper import Bookkeeper, Reload

P = "approval_mail:{store}:"
OLD, NEW = f"old@{SENDER_DOMAIN}", f"new@{SENDER_DOMAIN}"
SENT: dict[str, Any] = {"s": "sent", "a": 1, "o": 0}

Finish = Callable[..., None]


@pytest.fixture
def books(client: redis.Redis, tmp_path: Path) -> Bookkeeper:
    return Bookkeeper(client, [tmp_path / "receipts"], tmp_path / "journal", tmp_path / "scratch", OLD)


@pytest.fixture
def finish(client: redis.Redis, books: Bookkeeper) -> Finish:
    """Let an event be told, sent and taken so often."""

    def make(event_id: str, recipient: str = OLD, *, copies: int = 1, claims: tuple[float, ...] = ()) -> None:
        with books.receipt_files[0].open("a") as file:
            file.write(f"{event_id} accepted\n")
        with books.journal.open("a") as file:
            file.write(f"{recipient} {message_id(event_id, recipient, SENDER_DOMAIN)}\n" * copies)
        client.hset(f"{P}event:{event_id}", f"mail:{recipient}", json.dumps(SENT))
        for claim in claims:
            client.rpush(f"{P}trace:{event_id}", f'{int(claim * 1000)} ["claimed","","","",""]')
        client.expire(f"{P}event:{event_id}", 60)
        client.zadd(f"{P}sent", {event_id: 1})

    return make


def test_events_are_judged_once_and_may_then_be_forgotten(
    books: Bookkeeper, finish: Finish, client: redis.Redis
) -> None:
    for number in range(3):
        finish(f"r{number}:approval_approved")
        books.follow(ripe=0)
        client.flushall()
    ledger = books.close()
    assert (ledger.events, ledger.sent, ledger.lost, ledger.duplicates) == (3, 3, (), 0)
    assert not ledger.disagreements


def test_an_event_that_has_not_ended_is_lost(books: Bookkeeper, finish: Finish, client: redis.Redis) -> None:
    finish("r1:approval_approved")
    client.persist(f"{P}event:r1:approval_approved")
    books.follow(ripe=0)
    assert books.close().lost == ("r1:approval_approved",)


def test_an_event_that_vanished_is_lost(books: Bookkeeper, finish: Finish, client: redis.Redis) -> None:
    finish("r1:approval_approved", copies=0)
    client.flushall()
    assert books.close().lost == ("r1:approval_approved",)


def test_copies_are_counted_also_those_that_come_when_their_event_was_judged(books: Bookkeeper, finish: Finish) -> None:
    finish("r1:approval_approved", copies=2)
    books.follow(ripe=0)
    with books.journal.open("a") as file:
        file.write(f"{OLD} {message_id('r1:approval_approved', OLD, SENDER_DOMAIN)}\n")
    assert books.close().duplicates == 2


def test_a_mail_that_is_sent_and_was_never_taken_is_told(books: Bookkeeper, finish: Finish) -> None:
    finish("r1:approval_approved", copies=0)
    [told] = books.close().disagreements
    assert "never took it" in told


def test_a_mail_of_no_event_is_told(books: Bookkeeper) -> None:
    books.journal.write_text(f"{OLD} <nobody@{SENDER_DOMAIN}>\n")
    [told] = books.close().disagreements
    assert "a mail of no event" in told


def test_half_a_line_waits_for_its_end(books: Bookkeeper, finish: Finish) -> None:
    finish("r1:approval_approved")
    whole = books.journal.read_text()
    books.journal.write_text(whole[:20])
    books.follow(ripe=60)
    books.journal.write_text(whole)
    assert not books.close().disagreements


def test_who_receives_is_as_the_settings_were(books: Bookkeeper, finish: Finish) -> None:
    """Claimed before a reload the old one, after it the new one, and while it lasted either."""
    now = time.time()
    books.reloads.append(Reload(OLD, NEW, now - 5, now))
    finish("before:approval_approved", OLD, claims=(now - 100,))
    finish("retried:approval_approved", OLD, claims=(now - 100, now + 1))
    finish("lapsed:approval_approved", NEW, claims=(now - 100, now + 1))
    finish("between:approval_approved", OLD, claims=(now - 3,))
    finish("meanwhile:approval_approved", NEW, claims=(now - 3,))
    finish("after:approval_approved", NEW, claims=(now + 1,))
    assert not books.close().disagreements


@pytest.mark.parametrize(("recipient", "claimed"), [(NEW, -100), (OLD, 1)])
def test_a_setting_that_holds_too_early_or_not_at_all_is_told(
    books: Bookkeeper, finish: Finish, recipient: str, claimed: float
) -> None:
    now = time.time()
    books.reloads.append(Reload(OLD, NEW, now - 5, now))
    finish("r1:approval_approved", recipient, claims=(now + claimed,))
    [told] = books.close().disagreements
    assert "has mails to" in told
