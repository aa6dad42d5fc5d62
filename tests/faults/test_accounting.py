"""The judge itself: it finds each kind of wrong, in states made by hand, and nothing in a right one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from approval_mail.rendering.message import message_id
from tests.faults.accounting import SENDER_DOMAIN, Ledger, account

P = "approval_mail:{store}:"
EVENT, A, B = "r1:approval_approved", "a@host.example", "b@host.example"
SENT: dict[str, Any] = {"s": "sent", "a": 1, "o": 0}
DEAD: dict[str, Any] = {"s": "dead", "a": 1, "o": 0, "r": "550 no such user"}

Judge = Callable[..., Ledger]


@pytest.fixture
def judge(client: redis.Redis, tmp_path: Path) -> Judge:
    def make(mails: dict[str, dict[str, Any]], *, where: tuple[str, ...], took: tuple[str, ...]) -> Ledger:
        for recipient, mail in mails.items():
            client.hset(f"{P}event:{EVENT}", f"mail:{recipient}", json.dumps(mail))
        for name in where:
            client.zadd(f"{P}{name}", {EVENT: 1})
        lines = [f"{to} {message_id(EVENT, to, SENDER_DOMAIN)}\n" for to in took]
        (tmp_path / "journal").write_text("".join(lines))
        return account(client, {EVENT: "accepted"}, tmp_path / "journal", (A, B))

    return make


@pytest.mark.parametrize(
    ("mails", "where", "took"),
    [
        ({A: SENT, B: SENT}, ("sent",), (A, B)),
        ({A: SENT, B: DEAD}, ("dead", "buried"), (A,)),
        ({A: SENT, B: DEAD | {"o": 3}}, ("dead", "buried"), (A, B)),  # Nobody knows what became of B's.
    ],
)
def test_a_right_state_is_in_order(judge: Judge, mails: Any, where: Any, took: Any) -> None:
    ledger = judge(mails, where=where, took=took)
    assert (ledger.events, ledger.lost, ledger.disagreements, ledger.duplicates) == (1, (), (), 0)


@pytest.mark.parametrize(
    ("mails", "where"),
    [
        ({}, ()),
        ({A: SENT, B: SENT}, ()),
        ({A: SENT, B: SENT}, ("sent", "dead")),
        ({A: SENT, B: SENT}, ("sent", "pending")),
        ({A: SENT, B: SENT}, ("sent", "claimed")),
        ({A: SENT, B: {"s": "open", "a": 0, "o": 0}}, ("sent",)),
        ({A: SENT, B: DEAD}, ("sent", "buried")),
    ],
)
def test_an_event_that_has_not_ended_in_one_state_is_lost(judge: Judge, mails: Any, where: Any) -> None:
    assert judge(mails, where=where, took=(A, B)).lost == (EVENT,)


@pytest.mark.parametrize(
    ("mails", "where", "took", "says"),
    [
        ({A: SENT, B: SENT}, ("sent",), (A,), "the server never took it"),
        ({A: SENT, B: DEAD}, ("dead", "buried"), (A, B), "and the server took it"),
        ({A: SENT}, ("sent",), (A,), "has mails to"),
        ({A: SENT, B: {"s": "suppressed", "a": 0, "o": 0}}, ("sent",), (A,), "without a reason"),
        ({A: SENT, B: DEAD}, ("dead",), (A,), "not among the buried"),
        ({A: SENT, B: SENT}, ("sent", "buried"), (A, B), "is among the buried"),
        ({A: SENT, B: SENT}, ("sent",), (A, B, "c@host.example"), "a mail of no event"),
    ],
)
def test_what_does_not_fit_together_is_told(judge: Judge, mails: Any, where: Any, took: Any, says: str) -> None:
    [told] = judge(mails, where=where, took=took).disagreements
    assert says in told


def test_copies_are_counted(judge: Judge) -> None:
    assert judge({A: SENT, B: SENT}, where=("sent",), took=(A, A, B, A)).duplicates == 2
