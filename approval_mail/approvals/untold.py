"""Who is called when nobody was told of a request: a host may extend it, ask elsewhere, or fail."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from approval_mail.approvals.values import Approval

logger = logging.getLogger(__name__)

Callback = Callable[[Approval], object]

_callbacks: list[Callback] = []


def on_untold(callback: Callback) -> Callback:
    """Call ``callback`` with a request of which no mail was accepted in half of its time; works as a decorator.

    It is called once for each request, in a thread of its own: in every process that registered it and is waiting for
    that request, and in the worker that finds it untold. What it raises is logged.
    """
    _callbacks.append(callback)
    return callback


def tell(approval: Approval) -> None:
    """Call every registered callback about ``approval``; returns at once."""
    for callback in _callbacks:
        threading.Thread(target=_call, args=(callback, approval), name="approval-mail-untold", daemon=True).start()


def _call(callback: Callback, approval: Approval) -> None:
    try:
        callback(approval)
    except Exception:  # The host's own code may raise anything, and no other callback may suffer.
        logger.exception("The callback for requests nobody was told of failed for %s", approval.request_id[:8])
