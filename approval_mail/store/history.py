"""What is on record of events: read with plain commands, which change nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import redis

from approval_mail.errors import InvalidRecord
from approval_mail.events import EVENT_TYPES, split_event_id
from approval_mail.store.arguments import moment
from approval_mail.store.values import Change, DeadMail, Failure

#: Keys that Redis looks at in one go while a short request id is searched for.
_SCAN = 10_000
#: Lines kept of one event, as in prelude.lua.
MAX_TRACE = 1_000
#: Of a mail, as in prelude.lua.
_STATES = ("open", "sent", "dead", "suppressed")
#: Characters that mean something in a pattern of SCAN.
_PATTERN = re.compile(r"([*?\[\]\\^-])")


class History:
    """Dead mails and traces, as long as the store keeps them; the keys are those of `EventStore`."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client: Any = client
        self._prefix = prefix

    def dead(self, event_ids: Iterable[str] | None = None) -> Iterator[DeadMail]:
        """List dead mails, of these events or of all, longest dead first."""
        ids = event_ids if event_ids is not None else self._client.zrange(f"{self._prefix}buried", 0, -1)
        for event_id in ids:
            fields = self._client.hgetall(f"{self._prefix}event:{event_id}")
            for name, text in sorted(fields.items()):
                mail = _mail(text) if name.startswith("mail:") else {}
                if mail.get("s") == "dead":
                    yield DeadMail(
                        event_id=event_id,
                        type=fields.get("type", ""),
                        request_id=fields.get("request", ""),
                        recipient=name.removeprefix("mail:"),
                        reason=mail.get("r", ""),
                        code=int(mail["c"]) if mail.get("c") else None,
                        phase=mail.get("p", ""),
                        attempts=mail["a"],
                        failed_at=moment(mail["t"]),
                    )

    def failures(self, limit: int = 10) -> list[Failure]:
        """The last failures, newest first; of damaged ones nothing is said."""
        rows = self._client.lrange(f"{self._prefix}failures", 0, limit - 1)
        return [failure for failure in map(_failure, rows) if failure]

    def requests(self, text: str) -> list[str]:
        """The ids of requests on record that are ``text``, or else that begin with it, sorted."""
        if any(self._client.exists(f"{self._prefix}event:{event_id}") for event_id in self._event_ids(text)):
            return [text]
        prefix = f"{self._prefix}event:"
        pattern = _PATTERN.sub(r"\\\1", f"{prefix}{text}") + "*"
        keys = self._client.scan_iter(match=pattern, count=_SCAN)
        return sorted({split_event_id(key.removeprefix(prefix))[0] for key in keys})

    def trace(self, request_id: str) -> list[Change]:
        """Every change of state of a request's events and their mails, oldest first; raises InvalidRecord.

        Of an event with more than MAX_TRACE of them the first are forgotten.
        """
        changes = [change for event_id in self._event_ids(request_id) for change in self._trace(event_id)]
        return sorted(changes, key=lambda change: change.at)

    def _event_ids(self, request_id: str) -> list[str]:
        recurring = self._client.smembers(f"{self._prefix}recurring:{request_id}")
        return [*(f"{request_id}:{row.name}" for row in EVENT_TYPES.values() if not row.recurs), *sorted(recurring)]

    def _trace(self, event_id: str) -> Iterator[Change]:
        recorded, replayed = self._client.hmget(f"{self._prefix}event:{event_id}", "recorded", "replayed")
        if recorded:
            reason = "replayed from the spool" if replayed else ""
            yield Change(moment(int(recorded)), event_id, "", "pending", reason, code=None, attempt=None)
        for row in self._client.lrange(f"{self._prefix}trace:{event_id}", 0, -1):
            yield _change(event_id, row)


def _change(event_id: str, row: str) -> Change:
    """One line of prelude.lua's ``note``; raises InvalidRecord."""
    milliseconds, _, rest = row.partition(" ")
    try:
        state, recipient, reason, code, attempt = json.loads(rest)
        return Change(
            at=moment(int(milliseconds)),
            event_id=event_id,
            recipient=recipient,
            state=state,
            reason=reason,
            code=int(code) if code else None,
            attempt=int(attempt) if attempt else None,
        )
    except (ValueError, TypeError) as error:
        raise InvalidRecord(f"a line of the trace of {event_id} is damaged: {error}") from error


def _failure(row: str) -> Failure | None:
    """One line of prelude.lua's ``note_failure``; None if it is damaged."""
    milliseconds, _, rest = row.partition(" ")
    try:
        event_id, recipient, result, code, phase, reason = json.loads(rest)
        return Failure(
            moment(int(milliseconds)), event_id, recipient, result, int(code) if code else None, phase, reason
        )
    except (ValueError, TypeError):
        return None


def _mail(text: str) -> dict[str, Any]:
    """One mail's record, as prelude.lua reads it."""
    try:
        mail = json.loads(text)
        if mail["s"] in _STATES and {type(mail[name]) for name in ("a", "o", "t")} <= {int, float}:
            return dict(mail)
    except (ValueError, TypeError, KeyError):
        pass
    return {"s": "dead", "p": "record", "r": "the record of this mail is damaged", "a": 0, "t": 0}
