"""Runs the application on one address, as the settings say."""

from __future__ import annotations

import logging
import socket
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI

from approval_mail import metrics, services
from approval_mail.api import deciding
from approval_mail.api.app import Deciding, create_app
from approval_mail.api.keys import KeyFile
from approval_mail.api.recipients import Recipients
from approval_mail.api.seals import Seals
from approval_mail.approvals import desks
from approval_mail.errors import InvalidSettings
from approval_mail.loopback import is_local, is_loopback
from approval_mail.metrics import Scrapes
from approval_mail.rendering.decision_page import Pages
from approval_mail.settings import LANGUAGES, Settings
from approval_mail.stopping import exit_on_signals

logger = logging.getLogger(__name__)

#: Seconds that requests which are being answered are given when the server is told to stop.
_GRACE = 10
#: Connections, and requests that are being answered; beyond it the answer is 503. Half of the files that a process may
#: usually have open: strangers who hold connections must not keep Redis and the key file from being opened.
_MAX_CONNECTIONS = 512
#: Bytes of a request's line and headers.
_MAX_HEAD = 64 * 1024
_MAKE_A_KEY = "approval-admin key create --name NAME --role requester"


def from_settings(host: str, *, first_keys: bool = False) -> FastAPI:
    """The application that the settings ask for, to be served on ``host``.

    ``first_keys``: make the key file, with a key of each role, if it does not exist. Raises InvalidSettings where the
    API would be open to everyone, KeysUnusable where the key file would let nobody in.
    """
    settings = services.settings()
    keys = KeyFile(settings.approval_api_keys_file) if settings.approval_api_keys_file else None
    if keys is None:
        _require_loopback(host, settings)
        logger.warning(
            "No APPROVAL_API_KEYS_FILE: programs of this machine alone are served, and all may do everything; "
            "no proxy may forward to it"
        )
    else:
        made = keys.make_first() if first_keys else None
        if made:
            logger.warning("API keys made, one of each role; they stand in %s: keep them, then delete that file", made)
        if not keys.read():
            logger.warning("%s holds no key, so nobody is let in; make one: %s", keys.path, _MAKE_A_KEY)
    return create_app(
        desks.for_operators(),
        keys,
        _deciding(settings),
        recipients=_recipients(settings),
        scrapes=Scrapes(metrics.exposition),
    )


def _recipients(settings: Settings) -> Recipients:
    """Where rules choose who decides, those whom EMAIL_TO names are not open to callers unless it is said."""
    usual = () if settings.routes else (*settings.email_to, *settings.approval_escalate_to)
    return Recipients(settings.approval_api_recipients or usual)


def _deciding(settings: Settings) -> Deciding | None:
    links = services.links()
    if links is None:
        return None
    pages = Pages(language=settings.language, languages=LANGUAGES, timezone=settings.timezone)
    seals = Seals(settings.approval_link_secret)
    return lambda refused: deciding.router(
        desks.for_operators(), links, pages, public_url=settings.approval_public_url, seals=seals, refused=refused
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket on that address; raises OSError. Port 0: a free one."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
    except OSError:
        listener.close()
        raise
    return listener


def serve(app: FastAPI, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT."""
    config = uvicorn.Config(
        app,
        # The gate writes a line per request, without what paths hold.
        access_log=False,
        log_config=None,
        # httptools, which uvicorn prefers, would keep a request's head in memory however long it is.
        http="h11",
        h11_max_incomplete_event_size=_MAX_HEAD,
        server_header=False,
        # Nobody may say what address they come from; what is counted by address spares those with a key.
        proxy_headers=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE,
    )
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    logger.info("Serving approvals on http://%s:%d; Swagger UI: /docs", shown, port)
    # When it has stopped, uvicorn raises the signal again for whoever handled it before: that is a good end.
    exit_on_signals()
    uvicorn.Server(config).run(sockets=[listener])


def _require_loopback(host: str, settings: Settings) -> None:
    next_step = f"set APPROVAL_API_KEYS_FILE and make a key: {_MAKE_A_KEY}"
    problems = []
    if not is_loopback(host):
        problems.append(
            f"--host {host} is reached from elsewhere, and without API keys anybody could approve: {next_step}"
        )
    public_url = settings.approval_public_url
    if public_url and not is_local(urlsplit(public_url).netloc):
        problems.append(
            f"APPROVAL_PUBLIC_URL={public_url} is reached from elsewhere, and without API keys anybody could approve: "
            f"{next_step}"
        )
    if problems:
        raise InvalidSettings(tuple(problems))
