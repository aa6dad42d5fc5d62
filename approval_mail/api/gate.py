"""What every request passes before an endpoint sees it: who calls, how much is sent; and what every answer carries."""

from __future__ import annotations

import logging
import time
from email.message import Message as Mail
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from approval_mail.api.bodies import Body
from approval_mail.api.callers import Caller, KeyHolders, LocalPrograms
from approval_mail.api.keys import Role
from approval_mail.api.problems import Problem, invalid
from approval_mail.links import FOLDER

logger = logging.getLogger(__name__)

#: Bytes. Longest body; an event of all its fields together is a quarter of it at the most.
MAX_BODY = 256 * 1024
#: Bytes. Longest form on a page; the longest reason, each character escaped, and the other fields.
MAX_FORM = 64 * 1024
#: Below it a caller must be known, and have one of these roles.
API = "/api"
_API_ROLES = frozenset((Role.REQUESTER, Role.APPROVER))
#: Here a caller must be known, whatever their role.
METRICS = "/metrics"
#: Where requests keep who calls.
CALLER = "approval_mail.caller"
#: What a page may do: nothing but what came from here, Swagger UI's inline script among it, and not in a frame.
_CSP = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
#: For every answer that does not say otherwise itself.
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": _CSP,
}


class Gate:
    """ASGI middleware: refuses strangers and bodies too long or too slow, and writes one log line per request.

    That a caller is unknown is said before anything else, so that nobody learns which ids there are.
    """

    def __init__(self, app: ASGIApp, *, callers: KeyHolders | LocalPrograms) -> None:
        self._app = app
        self._callers = callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0
        body = Body(Headers(scope=scope), receive)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                await body.skip()
                if not body.ended:
                    headers["Connection"] = "close"
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            try:
                received = await self._let_in(scope, receive, body)
            except Problem as problem:
                await problem.response()(scope, receive, answer)
            except ClientDisconnect:
                pass  # A body that was cut short asks for nothing.
            else:
                await self._app(scope, received, answer)
        finally:
            _log(scope, status, time.perf_counter() - began)

    async def _let_in(self, scope: Scope, receive: Receive, body: Body) -> Receive:
        headers = Headers(scope=scope)
        self._callers.admit(scope, headers)
        path = scope["path"]
        if path == API or path.startswith(f"{API}/"):
            scope[CALLER] = caller = self._callers.caller(scope, headers)
            _require_role(caller)
            return _again(await _read_json(headers, body), receive)
        if path.rstrip() == METRICS:  # As routes match: before a line's end, too.
            scope[CALLER] = self._callers.caller(scope, headers, bearer=True)
        if scope["method"] == "POST" and path.startswith(FOLDER):
            # Pages with forms; the body of any other request is never looked at. One that is too long is handed on, for
            # a page to say so.
            return _again(await body.read(MAX_FORM), receive)
        return _again(b"", receive)


def _require_role(caller: Caller) -> None:
    """Raises Problem for a caller with none of the API's roles; what each of them may do is the endpoints' matter."""
    if caller.roles.isdisjoint(_API_ROLES):
        message = f"a key of the role {' or '.join(caller.roles)} reads {METRICS} and nothing else"
        raise Problem(HTTPStatus.FORBIDDEN, "forbidden", message, field="X-API-Key")


async def _read_json(headers: Headers, body: Body) -> bytes:
    """The whole body; raises Problem as soon as it is known to be too long, or if it is not said to be JSON."""
    if body.exceeds(MAX_BODY):
        raise _too_large()
    found = await body.read(MAX_BODY)
    if len(found) > MAX_BODY:
        raise _too_large()
    if found and not _is_json(headers.get("Content-Type", "")):
        raise invalid("Content-Type", "send the body as application/json")
    return found


def _too_large() -> Problem:
    message = f"the body is longer than {MAX_BODY // 1024} KB: pass an excerpt"
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", message, field="body")


def _again(body: bytes, receive: Receive) -> Receive:
    """What gives the body once more, and then whatever else happens on the connection."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _is_json(content_type: str) -> bool:
    mail = Mail()
    mail["Content-Type"] = content_type
    return mail.get_content_type() == "application/json"


def _log(scope: Scope, status: int, seconds: float) -> None:
    """Of the path only the endpoint's pattern: paths hold the tokens of links."""
    route = getattr(scope.get("route"), "path", "-")
    caller = scope.get(CALLER)
    logger.info("%s %s %d %.0f ms %s", scope["method"], route, status, seconds * 1000, caller.name if caller else "-")
