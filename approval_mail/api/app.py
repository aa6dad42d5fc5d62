"""The HTTP application: endpoints, pages, documentation, and the gate in front of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi_offline import FastAPIOffline

from approval_mail import __version__
from approval_mail.api import endpoints, scraping
from approval_mail.api.callers import KeyHolders, LocalPrograms, count_failure
from approval_mail.api.failures import Failures
from approval_mail.api.gate import Gate
from approval_mail.api.keys import KeyFile
from approval_mail.api.models import ErrorOut, Health
from approval_mail.api.problems import answer_problems
from approval_mail.api.recipients import Recipients
from approval_mail.approvals.desk import Desk
from approval_mail.metrics import Scrapes

_DESCRIPTION = """\
Ask a person for permission, and decide.

Every path under `/api` takes a key in the header `X-API-Key` (button *Authorize*; `approval-admin key create` makes
one): a *requester* asks and withdraws, an *approver* decides, both read and extend. `X-User-ID` names the person that
the key acts for, and proves nothing by itself. Errors are one flat object: `code`, `field`, `message`.

`/metrics` has what Prometheus collects, for a key of any role, also as `Authorization: Bearer KEY`; an *observer* reads
that and nothing else.
"""


#: Makes the pages that links open, given what counts a visit with a damaged one.
Deciding = Callable[[Callable[[Request], None]], APIRouter]


def create_app(
    desk: Desk,
    keys: KeyFile | None,
    deciding: Deciding | None = None,
    *,
    recipients: Recipients,
    scrapes: Scrapes | None = None,
) -> FastAPI:
    """The application over one desk; without ``keys`` it serves programs of this machine alone, with every role.

    ``recipients`` are those whom callers may have mails sent to.
    ``deciding`` makes the pages that links in mails open, ``scrapes`` gives the metrics; None: there are none.
    """
    failures = Failures()
    app = FastAPIOffline(
        title="approval-mail",
        version=__version__,
        description=_DESCRIPTION,
        redoc_url=None,
        # A path is served or unknown: an answer that sends elsewhere would name a host that the client made up.
        redirect_slashes=False,
        swagger_ui_parameters={"persistAuthorization": False, "defaultModelsExpandDepth": 0},
    )
    app.add_middleware(Gate, callers=KeyHolders(keys, failures) if keys else LocalPrograms())
    answer_problems(app)
    app.include_router(endpoints.router(desk, recipients))
    if scrapes:
        app.include_router(scraping.router(scrapes))
    if deciding:
        app.include_router(deciding(lambda request: count_failure(failures, request.scope, None)))

    errors: dict[int | str, dict[str, Any]] = {
        403: {"model": ErrorOut, "description": "Without keys: not this machine."},
        503: {"model": ErrorOut, "description": "Redis or the key file cannot be used."},
    }

    @app.get("/health", tags=["health"], responses=errors, summary="Whether requests can be served")
    def health() -> Health:
        if keys:
            keys.current()
        desk.stats()
        return Health()

    return app
