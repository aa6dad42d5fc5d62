"""The judge of every fault: what hosts were told, what the store says and what the mail server took must agree."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from approval_mail.rendering.message import message_id

_PREFIX = "approval_mail:{store}:"
_FINAL = ("sent", "dead", "suppressed")
#: Domain of EMAIL_FROM in the world of these tests.
SENDER_DOMAIN = "host.example"


@dataclass(frozen=True, slots=True)
class Ledger:
    """What came of all events that hooks took on."""

    #: Events for which a hook answered accepted, spooled or duplicate.
    events: int
    sent: int
    dead: int
    suppressed: int
    #: Event ids in no final state, or in more than one.
    lost: tuple[str, ...]
    #: Copies above the first, over all mails.
    duplicates: int
    #: Sentences about mails on which the store and the mail server disagree.
    disagreements: tuple[str, ...]


def account(client: redis.Redis, receipts: Mapping[str, str], journal: Path, everybody: Sequence[str]) -> Ledger:
    """Compare ``receipts`` (by event id) with the store and the mail server's journal, once all is quiet.

    ``everybody`` receives each event that names no recipients itself.
    """
    copies = Counter(journal.read_text().splitlines() if journal.exists() else ())
    taken_on = sorted(event_id for event_id, receipt in receipts.items() if receipt not in ("disabled", "refused"))
    states, lost, disagreements, known = Counter[str](), [], [], set()
    for event_id in taken_on:
        final = [state for state in _FINAL if client.zscore(f"{_PREFIX}{state}", event_id) is not None]
        mails = _mails(client, event_id)
        if len(final) != 1 or _is_open(client, event_id) or final[0] != _state_of(mails):
            lost.append(event_id)
            continue
        states[final[0]] += 1
        disagreements += _disorder(client, event_id, mails, everybody)
        for recipient, mail in mails.items():
            line = f"{recipient} {message_id(event_id, recipient, SENDER_DOMAIN)}"
            known.add(line)
            disagreements += _disagreement(event_id, recipient, mail, copies[line])
    strays = set(copies) - known
    if strays:  # A host may have recorded events without living to tell us; their mails are no strays.
        strays -= _lines_on_record(client)
    disagreements += [f"the server took a mail of no event: {line}" for line in sorted(strays)]
    return Ledger(
        events=len(taken_on),
        sent=states["sent"],
        dead=states["dead"],
        suppressed=states["suppressed"],
        lost=tuple(lost),
        duplicates=sum(count - 1 for count in copies.values()),
        disagreements=tuple(disagreements),
    )


def _mails(client: redis.Redis, event_id: str) -> dict[str, dict[str, Any]]:
    fields: dict[str, str] = client.hgetall(f"{_PREFIX}event:{event_id}")  # type: ignore[assignment]
    return {name[5:]: json.loads(text) for name, text in fields.items() if name.startswith("mail:")}


def _is_open(client: redis.Redis, event_id: str) -> bool:
    return any(client.zscore(f"{_PREFIX}{where}", event_id) is not None for where in ("pending", "claimed"))


def _state_of(mails: Mapping[str, Mapping[str, Any]]) -> str:
    found = {mail["s"] for mail in mails.values()}
    return next((state for state in ("open", "dead", "sent", "suppressed") if state in found), "no mail")


def _disorder(
    client: redis.Redis, event_id: str, mails: Mapping[str, Mapping[str, Any]], everybody: Sequence[str]
) -> list[str]:
    """What is wrong with an event's own record: other recipients, no reason, or dead where no operator looks."""
    found = []
    own = str(client.hget(f"{_PREFIX}event:{event_id}", "to") or "")
    if set(mails) != set(own.split(",") if own else everybody):
        found.append(f"{event_id} has mails to {sorted(mails)}")
    unexplained = [to for to, mail in mails.items() if mail["s"] in ("dead", "suppressed") and not mail.get("r")]
    if unexplained:
        found.append(f"{event_id} to {unexplained} ended without a reason")
    dead = any(mail["s"] == "dead" for mail in mails.values())
    if dead != (client.zscore(f"{_PREFIX}buried", event_id) is not None):
        found.append(f"{event_id} is {'not ' if dead else ''}among the buried")
    return found


def _disagreement(event_id: str, recipient: str, mail: Mapping[str, Any], copies: int) -> list[str]:
    """What is wrong with one mail: the server took what the store calls unsent, or the other way round."""
    if mail["s"] == "sent" and not copies:
        return [f"{event_id} to {recipient} is sent, and the server never took it"]
    # Of a mail with an open try nobody knows whether it was taken.
    if mail["s"] != "sent" and copies and not mail["o"]:
        return [f"{event_id} to {recipient} is {mail['s']} ({mail.get('r')}), and the server took it"]
    return []


def _lines_on_record(client: redis.Redis) -> set[str]:
    found = set()
    for key in client.scan_iter(match=f"{_PREFIX}event:*", count=10_000):
        event_id = key.removeprefix(f"{_PREFIX}event:")
        found |= {f"{to} {message_id(event_id, to, SENDER_DOMAIN)}" for to in _mails(client, event_id)}
    return found
