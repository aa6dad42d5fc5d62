"""Asks for permission and waits for the answer: what a host calls."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import time
from collections.abc import Collection, Coroutine, Generator
from typing import Any

from approval_mail.approvals import desks
from approval_mail.approvals.errors import ApprovalsUnavailable, UnknownApproval
from approval_mail.approvals.values import Approval, Status


class Handle:
    """A request that was asked, to wait for."""

    def __init__(self, approval: Approval) -> None:
        #: As it was when the handle was made.
        self.approval = approval
        self.request_id = approval.request_id

    def __repr__(self) -> str:
        return f"Handle({self.request_id} {self.approval.tool_name})"

    def __bool__(self) -> bool:
        """Refuse: a request that was asked is not yet permission."""
        raise TypeError("a handle is neither yes nor no: ask wait() or wait_async() for the answer")

    def wait(self, timeout: float | None = None) -> Approval:
        """The request once it has ended, or as it is after ``timeout`` seconds; true only if it was approved.

        Redis wakes whoever waits. Raises ApprovalsUnavailable if ``timeout`` ends while Redis cannot be used, and
        UnknownApproval if the request is no longer on record.
        """
        until = None if timeout is None else time.monotonic() + timeout
        with desks.watcher().waiting(self.request_id) as future:
            with contextlib.suppress(ApprovalsUnavailable):
                approval = self._read()
                if approval.status is not Status.PENDING:  # Before anyone listened.
                    return approval
            with contextlib.suppress(concurrent.futures.TimeoutError):
                return self._own(future.result(None if until is None else max(0, until - time.monotonic())))
        return self._read()

    def wait_async(self, timeout: float | None = None) -> Coroutine[Any, Any, Approval]:
        """`wait` for a coroutine; the event loop goes on meanwhile."""
        return _Waiting(self._wait_async(timeout))

    async def _wait_async(self, timeout: float | None) -> Approval:
        until = None if timeout is None else time.monotonic() + timeout
        with desks.watcher().waiting(self.request_id) as future:
            with contextlib.suppress(ApprovalsUnavailable):
                approval = await asyncio.to_thread(self._read)
                if approval.status is not Status.PENDING:
                    return approval
            ended = asyncio.wrap_future(future)
            left = None if until is None else max(0, until - time.monotonic())
            done, _ = await asyncio.wait((ended,), timeout=left)
            if done:
                return self._own(ended.result())
        return await asyncio.to_thread(self._read)

    def _read(self) -> Approval:
        return self._own(desks.for_hosts().read(self.request_id))

    def _own(self, found: Approval) -> Approval:
        """``found`` if it is the request that was asked, not a later one of the same id; raises UnknownApproval."""
        if found.requested_at != self.approval.requested_at:
            raise UnknownApproval.of(self.request_id)
        return found

    def cancel(self, reason: str = "") -> Approval:
        """Withdraw the request; raises NotPending once it has ended, UnknownApproval once it is no longer on record."""
        self._read()
        return desks.for_hosts().cancel(self.request_id, reason=reason)

    def extend(self, seconds: float) -> Approval:
        """Put the deadline off by ``seconds``; raises NotPending once the request has ended, or UnknownApproval."""
        self._read()
        return desks.for_hosts().extend(self.request_id, seconds)


class _Waiting(Coroutine[Any, Any, Approval]):
    """A coroutine without a truth value: ``if handle.wait_async():``, its ``await`` forgotten, is no permission."""

    def __init__(self, waiting: Coroutine[Any, Any, Approval]) -> None:
        self._waiting = waiting

    def __bool__(self) -> bool:
        raise TypeError("this is neither yes nor no: await it for the answer")

    def __await__(self) -> Generator[Any, Any, Approval]:
        return self._waiting.__await__()

    def send(self, value: Any) -> Any:
        return self._waiting.send(value)

    def throw(self, *args: Any) -> Any:
        return self._waiting.throw(*args)

    def close(self) -> None:
        self._waiting.close()


def require(
    *,
    user_id: str,
    tool_name: str,
    arguments: Any = None,
    timeout: float | None = None,
    request_id: str | None = None,
    email_to: Collection[str] | None = None,
    **extra: Any,
) -> Handle:
    """Ask for permission that ``user_id`` may run ``tool_name``, and mail whoever may give it.

    ``timeout`` is seconds until the request expires, APPROVAL_TIMEOUT_SECONDS if None. ``arguments`` and ``extra`` are
    JSON values, shown to whoever decides; those under keys of APPROVAL_REDACT_KEYS are replaced before they leave this
    process. ``request_id`` is made if None; ``email_to`` (at most 50 addresses) replaces EMAIL_TO. Returns within half
    a second, or raises ApprovalsUnavailable, InvalidEvent naming a field, ApprovalExists or InvalidSettings: no
    permission was given then.
    """
    return Handle(
        desks.for_hosts().ask(
            **extra,
            user_id=user_id,
            tool_name=tool_name,
            arguments=arguments,
            timeout=timeout,
            request_id=request_id,
            email_to=email_to,
        )
    )


def resume(request_id: str) -> Handle:
    """A handle for a request that was asked before, here or elsewhere; raises UnknownApproval, ApprovalsUnavailable."""
    return Handle(desks.for_hosts().read(request_id))
