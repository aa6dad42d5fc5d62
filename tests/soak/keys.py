"""Redis's keys by family: which stay for good, and which must go."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import redis

_PREFIX = "approval_mail:{store}:"
#: Seconds; the longest life of what workers keep of their own doing: tallies, and results of tasks.
WORKING = 900
#: Seconds; of a key that remembers that something was told.
_NEWS = 7 * 86400
#: Members that a key which stays may have, whatever it has seen: labels of counters, queues, messages in hand.
_MOST_MEMBERS = 200
#: Keys of Celery's and kombu's that stay, of which there is one per queue or a set of names.
_CELERYS = re.compile(r"_kombu\.binding.*|unacked(_index|_mutex)?|approval_mail(\x06\x16\d+)?")
#: Of the store, those that stay: what is true of now, and what is counted for good.
_STAY = frozenset(("beat", "counters", "failures"))
#: Sorted sets whose members are the events that history holds.
_HISTORY = frozenset(("sent", "dead", "suppressed", "buried"))
#: Families of which nothing is left once the history has gone.
FORGOTTEN = _HISTORY | {"event", "trace", "recurring"}


def family(key: str) -> str:
    """What a key is one of, such as ``event`` for ``approval_mail:{store}:event:r1:approval_approved``."""
    if key.startswith(_PREFIX):
        return key.removeprefix(_PREFIX).partition(":")[0]
    if _CELERYS.fullmatch(key):
        return "celery, constant"
    return f"celery, {key.partition('-task-meta-')[0]} results" if "-task-meta-" in key else "celery, other"


def count(client: redis.Redis) -> Mapping[str, int]:
    """How many keys there are of each family."""
    return Counter(family(key) for key in client.scan_iter(count=10_000))


def remains(client: redis.Redis, *, lifetime: float) -> tuple[list[str], dict[str, int], list[str]]:
    """Look at every key of a store at rest: those that stay, how many are to go by family, and faults as sentences.

    ``lifetime`` is the history's in seconds: events and what is kept of them go within it.
    """
    stay, going, faults = [], Counter[str](), []
    names = sorted(client.scan_iter(count=10_000))
    for start in range(0, len(names), 1000):
        some = names[start : start + 1000]
        with client.pipeline(transaction=False) as pipe:
            for key in some:
                pipe.pttl(key)
            lives: list[Any] = pipe.execute()
        for key, milliseconds in zip(some, lives, strict=True):
            name, forever = family(key), milliseconds == -1
            most = lifetime if name in FORGOTTEN else _NEWS if name == "told" else WORKING
            if forever and (name in _STAY or name == "celery, constant"):
                stay.append(key)
                members = _members(client, key)
                if members > _MOST_MEMBERS:
                    faults.append(f"{key} has {members} members")
            elif forever and name not in _HISTORY:
                faults.append(f"{key} never expires")
            elif milliseconds > most * 1000:
                faults.append(f"{key} expires in {milliseconds / 1000:.0f} s; at most {most:.0f} are right")
            elif milliseconds >= 0 or forever:
                going[name] += 1
    return stay, dict(going), faults


def _members(client: redis.Redis, key: str) -> int:
    count = {"set": "SCARD", "zset": "ZCARD", "hash": "HLEN", "list": "LLEN"}.get(str(client.type(key)))
    return int(client.execute_command(count, key)) if count else 1
