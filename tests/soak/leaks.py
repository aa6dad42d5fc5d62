"""Leaks, to see that a soak finds them; they exist only in a worker with ``-I tests.soak.leaks``. LEAK names one."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from itertools import count
from typing import Any

from approval_mail import services
from approval_mail.mailer.session import Mailer
from approval_mail.store import EventStore

_kept: list[Any] = []
_numbers = count()


def _after_each_session(leak: Callable[[Mailer], None]) -> None:
    usual = Mailer.put_back

    def put_back(self: Mailer, connection: Any) -> None:
        usual(self, connection)
        leak(self)

    Mailer.put_back = put_back  # type: ignore[method-assign]


def _keep_a_connection(mailer: Mailer) -> None:
    if next(_numbers) % 10 == 0:
        _kept.append(socket.create_connection((mailer.channel.host, mailer.channel.port)))


def _never_forget() -> None:
    usual = EventStore.__init__

    def begin(self: EventStore, *args: Any, history: float, **options: Any) -> None:
        usual(self, *args, history=30 * history, **options)

    EventStore.__init__ = begin  # type: ignore[method-assign]
    services.forget_connections()


_PLANT: dict[str, Callable[[], None]] = {
    "memory": lambda: _after_each_session(lambda _: _kept.append(bytearray(os.urandom(50_000)))),
    "connection": lambda: _after_each_session(_keep_a_connection),
    "history": _never_forget,
}

if os.environ.get("LEAK"):
    _PLANT[os.environ["LEAK"]]()
