"""The endpoints under /api: what can be done with approval requests, each for the role it is for."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Security
from fastapi.security import APIKeyHeader

from approval_mail.api.bodies import DEADLINE
from approval_mail.api.gate import API, CALLER, MAX_BODY
from approval_mail.api.keys import Role
from approval_mail.api.models import (
    ApprovalOut,
    Ask,
    ConflictOut,
    Cursor,
    ErrorOut,
    Extend,
    HeaderName,
    Name,
    PageOut,
    Reason,
    RequestId,
    StatsOut,
    StatusOut,
)
from approval_mail.api.problems import Problem
from approval_mail.api.recipients import Recipients
from approval_mail.approvals.desk import Desk
from approval_mail.approvals.errors import ApprovalExists, UnknownApproval
from approval_mail.approvals.values import Status

#: Requests on one page, at the most.
_MAX_PAGE = 200

#: For the document and its button Authorize; the gate is what looks at keys.
_KEY = APIKeyHeader(
    name="X-API-Key", scheme_name="API key", description="From `approval-admin key create`.", auto_error=False
)

Id = Annotated[RequestId, Path(description="The whole request id.")]
Person = Annotated[HeaderName, Header(alias="X-User-ID", description="The person that the key acts for.")]
Reader = Annotated[HeaderName | None, Header(alias="X-User-ID", description="The person that the key acts for.")]

_RETRY = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
#: What any endpoint under /api may answer.
_ALWAYS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorOut, "description": "No valid API key."},
    403: {
        "model": ErrorOut,
        "description": "The key's role does not include this, or, without keys, not this machine.",
    },
    405: {"model": ErrorOut, "description": "The path does not take this method."},
    408: {"model": ErrorOut, "description": f"The body did not arrive within {DEADLINE:.0f} s."},
    413: {"model": ErrorOut, "description": f"The body is longer than {MAX_BODY // 1024} KB."},
    422: {"model": ErrorOut, "description": "A field is missing or malformed; `field` names it."},
    429: {"model": ErrorOut, "description": "Too many wrong keys from this address.", "headers": _RETRY},
    503: {"model": ErrorOut, "description": "Redis or the key file cannot be used; ask again.", "headers": _RETRY},
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorOut, "description": "No such request."}}
_ENDED: dict[int | str, dict[str, Any]] = {
    409: {"model": ConflictOut, "description": "It is no longer pending; `approval` is how it stands."}
}


def _only(*roles: Role) -> Any:
    """A dependency that lets in keys of these roles alone."""

    def check(request: Request) -> None:
        if request.scope[CALLER].roles.isdisjoint(roles):
            wanted = " or ".join(roles)
            raise Problem(
                HTTPStatus.FORBIDDEN, "forbidden", f"this takes a key of the role {wanted}", field="X-API-Key"
            )

    return Depends(check)


_REQUESTER, _APPROVER = _only(Role.REQUESTER), _only(Role.APPROVER)


def router(desk: Desk, recipients: Recipients) -> APIRouter:
    """The endpoints over one desk; ``recipients`` are those whom callers may have mails sent to."""
    routes = APIRouter(prefix=API, tags=["approvals"], dependencies=[Security(_KEY)], responses=_ALWAYS)
    _add_readers(routes, desk)
    _add_asking(routes, desk, recipients)
    _add_deciding(routes, desk)
    return routes


def _add_readers(routes: APIRouter, desk: Desk) -> None:
    @routes.get("/approvals", summary="List requests, newest first")
    def page(
        *,
        status: Annotated[Status | None, Query(description="Those of this status.")] = None,
        user_id: Annotated[Name | None, Query(description="Requests made by this person.")] = None,
        tool_name: Annotated[Name | None, Query(description="Those for this tool.")] = None,
        limit: Annotated[int, Query(ge=1, le=_MAX_PAGE, description="So many at the most.")] = 50,
        cursor: Annotated[Cursor | None, Query(description="That of the page before.")] = None,
        x_user_id: Reader = None,
    ) -> PageOut:
        return PageOut.of(desk.page(status=status, user_id=user_id, tool_name=tool_name, limit=limit, cursor=cursor))

    @routes.get("/approvals/{request_id}", responses=_UNKNOWN, summary="Read a request")
    def read(request_id: Id, x_user_id: Reader = None) -> ApprovalOut:
        return ApprovalOut.of(desk.read(request_id))

    @routes.get("/approvals/{request_id}/status", responses=_UNKNOWN, summary="Read where a request stands")
    def status(request_id: Id, x_user_id: Reader = None) -> StatusOut:
        return StatusOut.of(desk.read(request_id))

    @routes.get("/stats", summary="Count the requests of each status")
    def stats(x_user_id: Reader = None) -> StatsOut:
        return StatsOut.of(desk.stats())


def _add_asking(routes: APIRouter, desk: Desk, recipients: Recipients) -> None:
    @routes.post(
        "/approvals",
        status_code=HTTPStatus.CREATED,
        dependencies=[_REQUESTER],
        responses={
            409: {"model": ConflictOut, "description": "The id was used; `approval` is the request that has it."}
        },
        summary="Ask for permission",
    )
    def ask(body: Ask, x_user_id: Person) -> ApprovalOut:
        recipients.require(body.email_to or ())
        try:
            return ApprovalOut.of(
                desk.ask(
                    user_id=x_user_id,
                    tool_name=body.tool_name,
                    arguments=body.arguments,
                    timeout=body.timeout_seconds,
                    request_id=body.request_id,
                    email_to=body.email_to,
                    **body.extra,
                )
            )
        except ApprovalExists as error:
            raise _exists(desk, body.request_id) from error

    @routes.post(
        "/approvals/{request_id}/cancel",
        dependencies=[_REQUESTER],
        responses=_UNKNOWN | _ENDED,
        summary="Withdraw a pending request",
    )
    def cancel(request_id: Id, x_user_id: Person, body: Reason | None = None) -> ApprovalOut:
        return ApprovalOut.of(desk.cancel(request_id, responder_id=x_user_id, reason=body.reason if body else ""))

    @routes.post(
        "/approvals/{request_id}/extend", responses=_UNKNOWN | _ENDED, summary="Give a pending request more time"
    )
    def extend(request_id: Id, body: Extend, x_user_id: Reader = None) -> ApprovalOut:
        return ApprovalOut.of(desk.extend(request_id, body.seconds))


def _add_deciding(routes: APIRouter, desk: Desk) -> None:
    def add(path: str, decide: Callable[..., Any], summary: str) -> None:
        def endpoint(request_id: Id, x_user_id: Person, body: Reason | None = None) -> ApprovalOut:
            return ApprovalOut.of(decide(request_id, responder_id=x_user_id, reason=body.reason if body else ""))

        routes.post(
            f"/approvals/{{request_id}}/{path}",
            dependencies=[_APPROVER],
            responses=_UNKNOWN | _ENDED,
            summary=summary,
            name=path,
        )(endpoint)

    add("approve", desk.approve, "Give permission")
    add("reject", desk.reject, "Refuse permission")


def _exists(desk: Desk, request_id: str | None) -> Problem:
    try:
        found = desk.read(request_id) if request_id else None
    except UnknownApproval:  # It has been let go of since.
        found = None
    message = "a request of this id was made before; leave request_id out, or make another up"
    return Problem(HTTPStatus.CONFLICT, "exists", message, field="request_id", approval=found)
