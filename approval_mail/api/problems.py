"""What the API answers when it does not do what was asked: one flat JSON object for every status."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from approval_mail.api.keys import KeysUnusable
from approval_mail.approvals.errors import ApprovalsUnavailable, NotPending, UnknownApproval
from approval_mail.approvals.values import Approval
from approval_mail.errors import InvalidEvent
from approval_mail.fields import clean

#: Seconds. A restart of Redis is over in less; sooner tries would only add to its load.
RETRY_AFTER = 5
#: Characters. Longest name of a field that is shown; a client may have made it up.
_MAX_FIELD = 200
#: How fields of the store are called in requests.
_FIELDS = {"user_id": "X-User-ID", "responder_id": "X-User-ID", "timeout": "timeout_seconds"}
#: Those that are called the same; any other is one of ``extra``.
_SAME = frozenset(("arguments", "cursor", "email_to", "reason", "request_id", "seconds", "tool_name"))


class Problem(HTTPException):
    """An answer other than the one asked for; raised anywhere in a request, it ends there."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        message: str,
        *,
        field: str | None = None,
        approval: Approval | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.code = code
        self.message = message
        self.field = field
        self.approval = approval

    def response(self) -> JSONResponse:
        content: dict[str, Any] = {"code": self.code, "field": self.field, "message": self.message}
        if self.status_code == HTTPStatus.CONFLICT:
            content["approval"] = self.approval.as_json() if self.approval is not None else None
        return JSONResponse(content, self.status_code, self.headers)


def keys_unusable() -> Problem:
    return _later("keys_unusable", "the API keys cannot be read, so nobody is let in; the server's log has the reason")


def metrics_unavailable() -> Problem:
    return _later("unavailable", "Redis cannot be used, so there are no metrics; the server's log has the reason")


def invalid(field: str | None, message: str, *, code: str = "invalid") -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, code, message, field=field)


def answer_problems(app: FastAPI) -> None:
    """Make every error of the app's endpoints, and every path and method it does not have, such an answer."""
    for error, handler in (
        (HTTPException, _http),
        (RequestValidationError, _malformed),
        (InvalidEvent, _invalid_event),
        (UnknownApproval, _unknown),
        (NotPending, _not_pending),
        (ApprovalsUnavailable, _unavailable),
        (KeysUnusable, _keys_unusable),
        (Exception, _unexpected),
    ):
        app.add_exception_handler(error, handler)


def _http(request: Request, error: Any) -> JSONResponse:
    if isinstance(error, Problem):
        return error.response()
    status = HTTPStatus(error.status_code)
    # FastAPI's word for a body that json cannot read, such as one nested too deep.
    if status is HTTPStatus.BAD_REQUEST:
        return invalid("body", "the body is not JSON that can be read", code="malformed").response()
    if status is HTTPStatus.NOT_FOUND:
        message = "there is no such path; see /docs"
    elif status is HTTPStatus.METHOD_NOT_ALLOWED:
        message = f"this path does not take {request.method}; see /docs"
    else:
        message = status.description or status.phrase
    return Problem(status, status.name.lower(), message, headers=error.headers).response()


def _malformed(_request: Request, error: Any) -> JSONResponse:
    """The first fault alone: its message is made of the rule, never of the value."""
    first = error.errors()[0]
    kind, (place, *path) = first["type"], first["loc"]
    if kind == "json_invalid":
        return invalid(
            "body", f"the body is not JSON: {first['ctx']['error']} at character {path[0]}", code="malformed"
        ).response()
    field = clean(".".join(map(str, path)))[:_MAX_FIELD] or place
    rule = first["msg"].removeprefix("Value error, ")
    return invalid(field, f"{field}: {rule}").response()


def _invalid_event(_request: Request, error: Any) -> JSONResponse:
    field = error.field if error.field in _SAME else _FIELDS.get(error.field, "extra")
    return invalid(field, clean(str(error))).response()


def _unknown(_request: Request, _error: Any) -> JSONResponse:
    message = "there is no such approval request, or no longer"
    return Problem(HTTPStatus.NOT_FOUND, "unknown_approval", message, field="request_id").response()


def _not_pending(_request: Request, error: Any) -> JSONResponse:
    message = f"the request is {error.approval.status}, and stays so; nothing was changed"
    return Problem(HTTPStatus.CONFLICT, "not_pending", message, approval=error.approval).response()


def _unavailable(_request: Request, _error: Any) -> JSONResponse:
    return _later(
        "unavailable", "Redis cannot be used; whether anything was changed is not known: ask again"
    ).response()


def _later(code: str, message: str) -> Problem:
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, code, message, headers={"Retry-After": str(RETRY_AFTER)})


def _keys_unusable(_request: Request, _error: Any) -> JSONResponse:
    return keys_unusable().response()


def _unexpected(_request: Request, _error: Any) -> JSONResponse:
    """Nothing that is meant to happen; said in the same form, without any of what went wrong."""
    message = "the server failed; its log has the reason"
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "failed", message).response()
