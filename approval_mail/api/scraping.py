"""``/metrics``: what Prometheus collects, for any key."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from approval_mail.api.gate import CALLER, METRICS
from approval_mail.api.problems import metrics_unavailable
from approval_mail.metrics import CONTENT_TYPE, Scrapes
from approval_mail.store import StoreError


def router(scrapes: Scrapes) -> APIRouter:
    """The one endpoint. It is no part of the document: whoever reads it knows the format."""
    routes = APIRouter(include_in_schema=False)

    @routes.get(METRICS)
    def metrics(request: Request) -> Response:
        """In a thread of its own, which may wait for workers' answers."""
        # Fails if the gate did not settle who calls.
        _ = request.scope[CALLER]
        try:
            return Response(scrapes.text(), media_type=CONTENT_TYPE)
        except StoreError as error:
            raise metrics_unavailable() from error

    return routes
