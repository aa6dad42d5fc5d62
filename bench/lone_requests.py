"""An application that asks for permission now and then, by a hook and by plain Celery in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from approval_mail import hooks
from bench.events import request
from bench.pace import ticks
from bench.peers.plain_celery import send_mail


def calls(*, count: int, every: float) -> dict[str, dict[str, float]]:
    """Tell ``count`` requests each way, each way once in ``every`` seconds; halfway between comes the other's.

    Answers for ``hook`` and for ``task`` the time.monotonic() at which the call began, by request id.
    """
    ways: tuple[Callable[[dict[str, Any]], object], ...] = (_hook, send_mail.delay)
    began: tuple[dict[str, float], ...] = ({}, {})
    for number in ticks(2 / every, 2 * count):
        fields = request(number)
        began[number % 2][fields["request_id"]] = time.monotonic()
        ways[number % 2](fields)
    return dict(zip(("hook", "task"), began, strict=True))


def _hook(fields: dict[str, Any]) -> None:
    hooks.approval_requested(**fields)
