"""Runs a function only if a person has approved it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import getpass
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast, overload

from approval_mail.approvals import records
from approval_mail.approvals.errors import ApprovalsUnavailable, NotApproved, NotPending, UnknownApproval
from approval_mail.approvals.handle import Handle, require
from approval_mail.approvals.values import Approval, Status
from approval_mail.errors import ApprovalMailError, InvalidEvent

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: Seconds to wait beyond the deadline. By then the request's end is on record, if Redis can be used.
_GRACE = 5.0
#: Whom a request is for, as text or as made from the call's arguments by name.
User = str | Callable[[Mapping[str, Any]], str]


@overload
def requires_approval(guarded: _Function, /) -> _Function: ...


@overload
def requires_approval(
    *, tool_name: str = "", timeout: float | None = None, user_id: User = "", **more: Any
) -> Callable[[_Function], _Function]: ...


def requires_approval(
    guarded: _Function | None = None,
    /,
    *,
    tool_name: str = "",
    timeout: float | None = None,
    user_id: User = "",
    **more: Any,
) -> Any:
    """Decorate a function, also an ``async`` one, so that each call asks, waits, and runs only if approved.

    Raises NotApproved if the request was rejected, cancelled or has expired, or if the arguments are no longer those
    that were shown; ApprovalsUnavailable if nobody can tell soon after the deadline; and what `require` raises. The
    call's arguments are shown, by name, to whoever decides; what is no JSON value is shown as its type. ``tool_name``
    is the function's name if empty, ``user_id`` the operating system's user; ``more`` are further parameters of
    `require`. A caller that is interrupted while it waits withdraws its request.
    """

    def decorate(function: _Function) -> _Function:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function!r} is a generator: it would run later; guard a function that returns")
        name = tool_name or getattr(function, "__name__", "")
        if not name:
            raise TypeError(f"{function!r} has no name: pass tool_name")
        signature = inspect.signature(function)

        def shown(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            return bound.arguments

        def ask(call: dict[str, Any], arguments: Any) -> Handle:
            user = user_id(call) if callable(user_id) else user_id or getpass.getuser()
            return require(**more, user_id=user, tool_name=name, arguments=arguments, timeout=timeout)

        @functools.wraps(function, updated=())
        def run(*args: Any, **kwargs: Any) -> Any:
            call = shown(args, kwargs)
            arguments = _shown(call)
            handle = ask(call, arguments)
            try:
                approval = handle.approval
                while approval.status is Status.PENDING:  # It may have been extended.
                    approval = handle.wait(_left(approval))
            except BaseException:
                _withdraw(handle)
                raise
            _check(approval, arguments == _shown(call))
            return function(*args, **kwargs)

        @functools.wraps(function, updated=())
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            call = shown(args, kwargs)
            arguments = _shown(call)
            asking = asyncio.ensure_future(asyncio.to_thread(ask, call, arguments))
            try:
                handle = await asyncio.shield(asking)
                approval = handle.approval
                while approval.status is Status.PENDING:
                    approval = await handle.wait_async(_left(approval))
            except BaseException:
                with contextlib.suppress(ApprovalMailError):  # Asked within half a second, or not at all.
                    await asyncio.to_thread(_withdraw, await asyncio.shield(asking))
                raise
            _check(approval, arguments == _shown(call))
            return await function(*args, **kwargs)

        is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
        return cast(_Function, run_async if is_async else run)

    return decorate if guarded is None else decorate(guarded)


def _left(approval: Approval) -> float:
    """Seconds to wait for the answer: an outage of Redis must not have the call made long after the deadline."""
    seen = approval.read_at or approval.requested_at
    return max(0.0, (approval.expires_at - seen).total_seconds()) + _GRACE


def _check(approval: Approval, as_shown: bool) -> None:
    if approval.status is not Status.APPROVED:
        why = records.ending(approval, None)
    elif not as_shown:
        why = "its arguments changed while it was waited for"
    else:
        return
    raise NotApproved(f"{approval.tool_name} was not run: {why}", approval)


def _withdraw(handle: Handle) -> None:
    with contextlib.suppress(NotPending, UnknownApproval, ApprovalsUnavailable):
        handle.cancel("the caller no longer waits")


def _shown(value: Any) -> Any:
    """``value`` if it is JSON, else its type in angle brackets: a representation could hold anything."""
    if isinstance(value, Mapping):
        shown = {str(key): _shown(item) for key, item in value.items()}
        if len(shown) < len(value):
            raise InvalidEvent(
                "arguments", "two keys of an argument read the same: whoever decides would see one of them"
            )
        return shown
    if isinstance(value, (list, tuple)):
        return [_shown(item) for item in value]
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return f"<{type(value).__name__}>"
    return value
