"""What the links in mails open: a page that only shows, and the form on it that decides."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from approval_mail.api.gate import MAX_FORM
from approval_mail.api.seals import Seals
from approval_mail.approvals.desk import Desk
from approval_mail.approvals.errors import ApprovalsUnavailable, NotPending, UnknownApproval
from approval_mail.approvals.values import Approval, Status
from approval_mail.errors import InvalidEvent, InvalidLink
from approval_mail.fields import MAX_TEXT
from approval_mail.links import FOLDER, Link, Links, asked_at
from approval_mail.rendering.decision_page import Form, Page, Pages, Trouble

#: Fields of a form that are looked at; ours has three.
_MAX_FIELDS = 20
#: Ties a form to the browser that it was shown in; one for each link, by its path.
COOKIE = "approval_mail_form"
_COOKIE = re.compile(r"[A-Za-z0-9_-]{43}")
_CSP = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
#: Besides those that the gate gives every answer.
_HEADERS = {"X-Robots-Tag": "noindex, nofollow"}


def router(
    desk: Desk, links: Links, pages: Pages, *, public_url: str, seals: Seals, refused: Callable[[Request], None]
) -> APIRouter:
    """The one path below which every link lies; it is in no schema.

    ``public_url`` is where approvers reach it. ``refused`` is called for each damaged link, in a thread, and may
    raise an HTTPException.
    """
    deciding = _Deciding(desk, links, pages, public_url=public_url, seals=seals, refused=refused)
    routes = APIRouter()
    routes.add_route(f"{FOLDER}{{token}}", deciding.answer, methods=["GET", "HEAD", "POST"], include_in_schema=False)
    return routes


@dataclass(frozen=True, slots=True)
class _Visit:
    """One request for a page, its link read."""

    token: str
    link: Link
    language: str
    #: The browser's cookie, or one made for it.
    cookie: str


class _Deciding:
    """Answers visits. Nothing but a POST of the form that was shown changes anything."""

    def __init__(
        self,
        desk: Desk,
        links: Links,
        pages: Pages,
        *,
        public_url: str,
        seals: Seals,
        refused: Callable[[Request], None],
    ) -> None:
        self._desk = desk
        self._links = links
        self._pages = pages
        self._seals = seals
        self._refused = refused
        public = urlsplit(public_url)
        self._secure = public.scheme == "https"
        self._folder = f"{public.path}{FOLDER}"

    async def answer(self, request: Request) -> Response:
        if request.method != "POST":
            return await run_in_threadpool(self._visit, request, None)
        # The gate has read it, no more of it than it takes to see that it is too long.
        body = await request.body()
        return await run_in_threadpool(self._visit, request, body)

    def _visit(self, request: Request, body: bytes | None) -> Response:
        """``body`` is None for a visit that only looks."""
        token = request.path_params["token"]
        language = self._pages.language(request.query_params.get("lang"))
        try:
            link = self._links.read(token)
        except InvalidLink:
            self._refused(request)
            return self._trouble(language, "damaged", HTTPStatus.NOT_FOUND)
        cookie = request.cookies.get(COOKIE, "")
        known = _COOKIE.fullmatch(cookie) is not None
        visit = _Visit(token, link, language, cookie if known else secrets.token_urlsafe(32))
        try:
            return self._show(visit) if body is None else self._take(visit, request, body, known=known)
        except (UnknownApproval, InvalidEvent):
            return self._trouble(language, "unknown", HTTPStatus.NOT_FOUND)
        except ApprovalsUnavailable:
            return self._trouble(language, "unreachable", HTTPStatus.SERVICE_UNAVAILABLE)

    def _show(self, visit: _Visit) -> Response:
        approval = self._request(visit.link)
        if approval.status is Status.PENDING:
            return self._form(visit, approval)
        return self._outcome(visit, approval, HTTPStatus.OK)

    def _take(self, visit: _Visit, request: Request, body: bytes, *, known: bool) -> Response:
        """A form was sent: decide if it is ours, and sent by a person in whose browser it was shown."""
        if len(body) > MAX_FORM:
            return self._trouble(visit.language, "too_long", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        fields = _fields(body)
        # A browser says where a form was sent from; Origin is no help, for no-referrer makes it "null".
        same_origin = request.headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"
        if not known or not same_origin or not self._seals.match(fields.get("seal", ""), visit.cookie, visit.token):
            return self._trouble(visit.language, "refused", HTTPStatus.FORBIDDEN)
        return self._decide(visit, fields)

    def _decide(self, visit: _Visit, fields: Mapping[str, str]) -> Response:
        approval = self._request(visit.link)
        if approval.status is not Status.PENDING:
            return self._outcome(visit, approval, HTTPStatus.CONFLICT)
        reason = fields.get("reason", "").replace("\r\n", "\n").strip()
        faults = _faults(fields.get("seen", ""), reason, required=visit.link.action == "reject")
        if faults:
            return self._form(visit, approval, faults=faults, typed=reason)
        decide = self._desk.approve if visit.link.action == "approve" else self._desk.reject
        try:
            decide(approval.request_id, responder_id=visit.link.recipient, reason=reason)
        except NotPending as error:
            return self._outcome(visit, error.approval, HTTPStatus.CONFLICT)
        except InvalidEvent:
            return self._form(visit, approval, faults={"reason": "refused"}, typed=reason)
        except ApprovalsUnavailable:
            return self._trouble(visit.language, "unsure", HTTPStatus.SERVICE_UNAVAILABLE)
        # To the same page, by a GET: loading it again sends nothing. Relative, as a proxy may hold a prefix.
        return RedirectResponse(f"?lang={visit.language}", HTTPStatus.SEE_OTHER, _HEADERS)

    def _request(self, link: Link) -> Approval:
        """The very request that the link's mail was about; raises UnknownApproval for a later one of the same id."""
        approval = self._desk.read(link.request_id)
        if asked_at(approval.requested_at) != link.asked:
            raise UnknownApproval.of(link.request_id)
        return approval

    def _form(
        self, visit: _Visit, approval: Approval, *, faults: Mapping[str, str] | None = None, typed: str = ""
    ) -> Response:
        link = visit.link
        other = self._links.token(replace(link, action="reject" if link.action == "approve" else "approve"))
        form = Form(
            action=link.action,
            recipient=link.recipient,
            seal=self._seals.make(visit.cookie, visit.token),
            other_url=f"{other}?lang={visit.language}",
            faults=faults or {},
            typed=typed,
        )
        page = self._pages.form(visit.language, approval, form, approval.read_at or datetime.now(timezone.utc))
        response = _respond(page, HTTPStatus.UNPROCESSABLE_ENTITY if faults else HTTPStatus.OK)
        response.set_cookie(
            COOKIE,
            visit.cookie,
            path=f"{self._folder}{visit.token}",
            secure=self._secure,
            httponly=True,
            # So that a link which is opened twice from a web mail brings the first one's cookie along; that a form is
            # sent from here is what the seal and Sec-Fetch-Site show.
            samesite="lax",
        )
        return response

    def _outcome(self, visit: _Visit, approval: Approval, status: HTTPStatus) -> Response:
        return _respond(self._pages.outcome(visit.language, approval, recipient=visit.link.recipient), status)

    def _trouble(self, language: str, trouble: Trouble, status: HTTPStatus) -> Response:
        return _respond(self._pages.trouble(language, trouble), status)


def _respond(page: Page, status: HTTPStatus) -> Response:
    return HTMLResponse(page.html, status, {**_HEADERS, "Content-Security-Policy": _CSP.format(nonce=page.nonce)})


def _fields(body: bytes) -> dict[str, str]:
    """A form's fields; empty if the body is no form."""
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError:
        return {}


def _faults(seen: str, reason: str, *, required: bool) -> dict[str, str]:
    faults = {} if seen == "yes" else {"seen": "missing"}
    if required and not reason:
        faults["reason"] = "missing"
    if len(reason) > MAX_TEXT:
        faults["reason"] = "refused"
    return faults
