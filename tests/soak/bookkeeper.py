"""The judge of every event while a soak runs, for history forgets: accounting.py, a slice at a time."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import redis

from approval_mail.rendering.message import message_id
from tests.faults.accounting import SENDER_DOMAIN, Ledger, account

_PREFIX = "approval_mail:{store}:"
#: A line of a trace that tells of a claim, with its milliseconds.
_CLAIMED = re.compile(r'(\d+) \["claimed"')
#: Seconds after which an event is first looked at: most have ended, and their copies been journalled.
_RIPE = 20.0
#: Seconds from telling to end that no event may take: well within the history's lifetime.
_OVERDUE = 600.0
#: Events that are judged in one go, so that samples are taken in time.
_SLICE = 1000


@dataclass(frozen=True, slots=True)
class Reload:
    """A change of who receives what names nobody."""

    old: str
    new: str
    #: Between these moments (time.time()) either holds.
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class _Record:
    """What is needed to know of an event that has ended."""

    recipients: list[str]
    #: When it was claimed, by time.time().
    claims: list[float]


@dataclass(slots=True)
class Bookkeeper:
    """Follows what hosts were told and what the mail server took, and judges what has come to its end."""

    client: redis.Redis
    receipt_files: Sequence[Path]
    journal: Path
    #: A file that this may write.
    scratch: Path
    #: Who receives what names nobody, at first and after each reload.
    everybody: str
    reloads: list[Reload] = field(default_factory=list)
    #: How hooks answered.
    receipts: Counter[str] = field(default_factory=Counter)
    events: int = 0
    states: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    faults: list[str] = field(default_factory=list)
    #: Events by when they were read of, oldest first.
    _open: dict[str, float] = field(default_factory=dict)
    #: Copies of mails whose events are not judged yet.
    _copies: Counter[str] = field(default_factory=Counter)
    #: What was judged, to know again what comes late: hashes, for there are many.
    _events_judged: set[int] = field(default_factory=set)
    _lines_judged: set[int] = field(default_factory=set)
    _offsets: dict[Path, int] = field(default_factory=dict)

    def follow(self, *, ripe: float = _RIPE) -> None:
        """Read on, and judge events that were told ``ripe`` seconds ago and have ended."""
        now = time.monotonic()
        for file in self.receipt_files:
            for line in self._read(file):
                event_id, receipt = line.rsplit(" ", 1)
                self.receipts[receipt] += 1
                if receipt not in ("disabled", "refused") and hash(event_id) not in self._events_judged:
                    self._open.setdefault(event_id, now)
        due = [event_id for event_id, told in self._open.items() if now - told >= ripe]
        ended = self._ended(due)
        # What ended before this was in the journal by then: its line is written before the server's answer.
        for line in self._read(self.journal):
            if hash(line) in self._lines_judged:
                self.duplicates += 1
            else:
                self._copies[line] += 1
        for start in range(0, len(ended), _SLICE):
            self._judge(dict(list(ended.items())[start : start + _SLICE]))
        overdue = [event_id for event_id in due if event_id in self._open and now - self._open[event_id] > _OVERDUE]
        for event_id in overdue:
            self.faults.append(f"{event_id} has not ended within {_OVERDUE:.0f} s")
            del self._open[event_id]

    def close(self) -> Ledger:
        """Judge all that is left, once all is quiet."""
        self.follow(ripe=0)
        strays = [f"the server took a mail of no event: {line}" for line in self._copies]
        return Ledger(
            events=self.events + len(self._open),
            sent=self.states["sent"],
            dead=self.states["dead"],
            suppressed=self.states["suppressed"],
            lost=tuple(self._open),
            duplicates=self.duplicates,
            disagreements=(*self.faults, *strays),
        )

    def _ended(self, event_ids: Sequence[str]) -> dict[str, _Record]:
        """Those whose record says so by its time to live, with their records."""
        found = {}
        for start in range(0, len(event_ids), _SLICE):
            some = event_ids[start : start + _SLICE]
            with self.client.pipeline(transaction=False) as pipe:
                for event_id in some:
                    pipe.ttl(f"{_PREFIX}event:{event_id}")
                    pipe.hkeys(f"{_PREFIX}event:{event_id}")
                    pipe.lrange(f"{_PREFIX}trace:{event_id}", 0, -1)
                answers = iter(pipe.execute())
            for event_id, life, names, trace in zip(some, answers, answers, answers, strict=True):
                if life >= 0:
                    recipients = [name.removeprefix("mail:") for name in names if name.startswith("mail:")]
                    claims = [int(claim[1]) / 1000 for claim in map(_CLAIMED.match, trace) if claim]
                    found[event_id] = _Record(recipients, claims)
        return found

    def _judge(self, ended: Mapping[str, _Record]) -> None:
        groups: dict[str, list[str]] = {}
        for event_id, record in ended.items():
            groups.setdefault(self._everybody(record), []).append(event_id)
        for everybody, event_ids in groups.items():
            lines = [
                f"{to} {message_id(event_id, to, SENDER_DOMAIN)}"
                for event_id in event_ids
                for to in ended[event_id].recipients
            ]
            copies = [line for line in lines for _ in range(self._copies.pop(line, 0))]
            self.scratch.write_text("".join(f"{line}\n" for line in copies))
            ledger = account(self.client, dict.fromkeys(event_ids, "accepted"), self.scratch, [everybody])
            # An operator's deed apart, what has ended stays so.
            self.faults += [*ledger.disagreements, *(f"{event_id} had ended, and has not" for event_id in ledger.lost)]
            self.events += ledger.events
            self.states.update(sent=ledger.sent, dead=ledger.dead, suppressed=ledger.suppressed)
            self.duplicates += ledger.duplicates
            self._lines_judged.update(map(hash, lines))
            for event_id in event_ids:
                del self._open[event_id]
                self._events_judged.add(hash(event_id))

    def _everybody(self, record: _Record) -> str:
        """Who had to receive an event, if it names nobody: recipients are frozen at the first claim that is sent.

        Either of two where a claim fell into a reload, or one before and one after it.
        """
        expected = self.everybody
        for reload in self.reloads:
            surely = all(claim >= reload.ended for claim in record.claims)
            perhaps = any(claim >= reload.began for claim in record.claims)
            if surely or (perhaps and reload.new in record.recipients):
                expected = reload.new
        return expected

    def _read(self, file: Path) -> list[str]:
        """The whole lines that were written since the last time."""
        if not file.exists():
            return []
        with file.open("rb") as source:
            source.seek(self._offsets.get(file, 0))
            text = source.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offsets[file] = self._offsets.get(file, 0) + len(whole)
        return whole.decode().splitlines()
