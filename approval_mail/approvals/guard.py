"""Runs a function only if a person has approved it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import getpass
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from approval_mail.approvals.errors import ApprovalsUnavailable, NotApproved, NotPending, UnknownApproval
from approval_mail.approvals.handle import Handle, require
from approval_mail.approvals.values import Approval, Status

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: Whom a request is for, as text or as made from the call's arguments by name.
User = str | Callable[[Mapping[str, Any]], str]


def requires_approval(
    *,
    tool_name: str = "",
    timeout: float | None = None,
    user_id: User = "",
    **more: Any,
) -> Callable[[_Function], _Function]:
    """Decorate a function, also an ``async`` one, so that each call asks, waits, and runs only if approved.

    Raises NotApproved if the request was rejected, cancelled or has expired, and what `require` raises. The call's
    arguments are shown, by name, to who decides; what is no JSON value is shown as its type. ``tool_name`` is the
    function's name if empty, ``user_id`` the operating system's user; ``more`` are further parameters of `require`.
    A caller that is interrupted while it waits withdraws its request.
    """

    def decorate(function: _Function) -> _Function:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{function.__qualname__} is a generator: it would run later; guard a function that returns"
            )
        signature = inspect.signature(function)

        def ask(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Handle:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            user = user_id(bound.arguments) if callable(user_id) else user_id or getpass.getuser()
            shown = {name: _shown(value) for name, value in bound.arguments.items()}
            name = tool_name or function.__name__
            return require(**more, user_id=user, tool_name=name, arguments=shown, timeout=timeout)

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            handle = ask(args, kwargs)
            with _withdrawn_if_interrupted(handle):
                approval = handle.wait()
            _check(approval)
            return function(*args, **kwargs)

        @functools.wraps(function)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            handle = await asyncio.to_thread(ask, args, kwargs)
            with _withdrawn_if_interrupted(handle):
                approval = await handle.wait_async()
            _check(approval)
            return await function(*args, **kwargs)

        return cast(_Function, run_async if inspect.iscoroutinefunction(function) else run)

    return decorate


def _check(approval: Approval) -> None:
    if approval.status is not Status.APPROVED:
        because = f": {approval.reason}" if approval.reason else ""
        raise NotApproved(f"{approval.tool_name} was not run, the request is {approval.status}{because}", approval)


@contextlib.contextmanager
def _withdrawn_if_interrupted(handle: Handle) -> Any:
    try:
        yield
    except BaseException:
        with contextlib.suppress(NotPending, UnknownApproval, ApprovalsUnavailable):
            handle.cancel("the caller no longer waits")
        raise


def _shown(value: Any) -> Any:
    """``value`` if it is JSON, else its type in angle brackets: a representation could hold anything."""
    if isinstance(value, Mapping):
        return {str(key): _shown(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(item) for item in value]
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return f"<{type(value).__name__}>"
    return value
