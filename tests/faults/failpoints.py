"""Points at which a pool child dies by kill -9, once; they exist only in a worker with ``-I tests.faults.failpoints``.

FAILPOINT names the phase and FAILPOINT_FIRED a file that the death leaves behind; the product knows nothing of either.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Task

from approval_mail import timing
from approval_mail.mailer.transaction import Connection
from approval_mail.mailer.wire import Wire
from approval_mail.store import EventStore

PHASES = (
    "before taking",
    "before addressing",
    "after addressing",
    "mid-DATA",
    "after the dot",
    "after 250 before the record",
    "before its retry",
    "before its last retry",
)


def die_once() -> None:
    try:
        os.close(os.open(Path(os.environ["FAILPOINT_FIRED"]), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: type, name: str, applies: Callable[..., bool] = lambda *_, **__: True) -> None:
    """Die before the call."""
    usual = getattr(owner, name)

    def call(*args: Any, **options: Any) -> Any:
        if applies(*args, **options):
            die_once()
        return usual(*args, **options)

    setattr(owner, name, call)


def after(owner: type, name: str, applies: Callable[[Any], bool] = bool) -> None:
    """Die after the call, if ``applies`` to its answer."""
    usual = getattr(owner, name)

    def call(*args: Any, **options: Any) -> Any:
        answer = usual(*args, **options)
        if applies(answer):
            die_once()
        return answer

    setattr(owner, name, call)


def _within_the_content() -> None:
    usual = Wire.send

    def send(self: Wire, s: Any) -> None:
        if isinstance(s, bytes) and len(s) > 500 and b"Message-ID" in s:
            usual(self, s[: len(s) // 2])
            die_once()
            s = s[len(s) // 2 :]
        usual(self, s)

    Wire.send = send  # type: ignore[method-assign]


def _after_the_dot() -> None:
    def finish(self: Connection) -> tuple[int, bytes]:
        self._wire.send(b".\r\n")
        die_once()
        return self._wire.getreply()

    Connection._finish = finish  # type: ignore[method-assign]


def _is_an_acceptance(*_: Any, settled: Any = None, **__: Any) -> bool:
    return bool(settled) and settled[2].state == "sent"


def _is_the_last(task: Task, *_: Any, **__: Any) -> bool:
    return bool(task.request.retries == timing.QUICK_RETRIES - 1)


_PLANT: dict[str, Callable[[], None]] = {
    "before taking": lambda: before(EventStore, "take"),
    "before addressing": lambda: before(EventStore, "address"),
    "after addressing": lambda: after(EventStore, "address"),
    "mid-DATA": _within_the_content,
    "after the dot": _after_the_dot,
    "after 250 before the record": lambda: before(EventStore, "settle", _is_an_acceptance),
    # The lease has been extended over the countdown by then, and nothing will come back from it.
    "before its retry": lambda: before(Task, "retry"),
    "before its last retry": lambda: before(Task, "retry", _is_the_last),
}

if os.environ.get("FAILPOINT"):
    _PLANT[os.environ["FAILPOINT"]]()
