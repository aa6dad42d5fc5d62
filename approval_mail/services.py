"""Turns settings into the objects that all parts share; each process has its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from approval_mail.recording import Recorder
from approval_mail.settings import Loaded, Settings
from approval_mail.spool import Spool
from approval_mail.store import EventStore, WakeUp, hook_client, operator_client, url_fault, worker_client

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

    from approval_mail.addressing import Addressing
    from approval_mail.delivery import Delivery
    from approval_mail.links import Links
    from approval_mail.mailer import Mailer
    from approval_mail.rendering import Renderer
    from approval_mail.routing import RoutesFile

logger = logging.getLogger(__name__)

_Made = TypeVar("_Made")

#: Seconds. What one process told is no news to the others for so long.
_NEWS = 7 * 86400

_configured: Settings | None = None
_with_connections: list[_lru_cache_wrapper[Any]] = []


def per_process(make: Callable[..., _Made]) -> _lru_cache_wrapper[_Made]:
    """Make it once, and anew in a forked child and after `configure`: for what holds connections."""
    cached = cache(make)
    _with_connections.append(cached)
    return cached


def configure(settings: Settings | None) -> None:
    """Use these settings in place of the environment's and ``.env``'s; None: read those anew."""
    global _configured  # noqa: PLW0603
    _configured = settings
    for made in (loaded, spool, routes_file, _renderer, links):
        made.cache_clear()
    forget_connections()


@cache
def loaded() -> Loaded:
    """The settings with what is wrong with them, read once; each warning is logged once."""
    found = Settings.load() if _configured is None else Loaded(_configured, frozenset(), (), ())
    fault = url_fault(found.usable.redis_url)
    if fault:
        found = found.blame("REDIS_URL", f"REDIS_URL=****: {fault}; use redis://host:port/database")
    for warning in found.warnings:
        logger.warning("%s", warning)
    return found


def settings() -> Settings:
    """The settings; raises InvalidSettings listing every problem."""
    return loaded().require()


@cache
def spool() -> Spool:
    """Where this host's events wait while Redis is out of reach."""
    return Spool(Path(loaded().usable.spool_dir))  # Who configures from code may pass a text.


@per_process
def recorder(wake: Callable[[WakeUp], object]) -> Recorder:
    """What hooks record with: a client that gives up soon, and the spool."""
    usable = loaded().usable
    if loaded().problems:
        logger.error("The settings cannot be used, events are spooled: %s", "; ".join(loaded().problems))
    return Recorder(_store(usable, hook_client(usable.redis_url)), spool(), loaded(), wake)


@per_process
def store() -> EventStore:
    """The store as workers use it: a client that outlasts a restart of Redis."""
    found = settings()
    return _store(found, worker_client(found.redis_url))


@per_process
def operator_store() -> EventStore:
    """The store as a person at a terminal uses it: a client that says soon what is wrong."""
    found = settings()
    return _store(found, operator_client(found.redis_url))


def _store(found: Settings, client: Any) -> EventStore:
    return EventStore(
        client,
        history=found.history_days * 86400,
        max_age=found.max_age,
    )


# Workers alone render and send; a web process that calls hooks loads neither Jinja2 nor smtplib.


def renderer(language: str = "") -> Renderer:
    """What renders mails in NOTIFICATION_LANGUAGE, or in another of settings.LANGUAGES."""
    return _renderer(language or settings().language)


def renderers() -> list[Renderer]:
    """Those of every language that the installation sends in as it starts."""
    return [renderer(language) for language in languages()]


def languages() -> list[str]:
    """Those of NOTIFICATION_LANGUAGE and of the rules as they are; raises InvalidRoutes if those never were good."""
    file = routes_file()
    named = file.current().languages if file else frozenset()
    return sorted({settings().language, *named})


@cache
def _renderer(language: str) -> Renderer:
    from approval_mail.rendering import Renderer  # noqa: PLC0415

    found = settings()
    return Renderer(folder=found.template_dir, language=language, timezone=found.timezone, sender=found.email_from)


@cache
def routes_file() -> RoutesFile | None:
    """The file that NOTIFICATION_ROUTES names; None where it is unset."""
    from approval_mail.routing import RoutesFile  # noqa: PLC0415

    path = settings().routes
    return RoutesFile(path, lambda topic: store().notices.is_news(topic, seconds=_NEWS)) if path else None


@cache
def links() -> Links | None:
    """What makes and reads the links in mails; None where APPROVAL_PUBLIC_URL is unset."""
    from approval_mail.links import Links  # noqa: PLC0415

    found = settings()
    return Links(found.approval_public_url, found.approval_link_secret) if found.approval_public_url else None


@per_process
def mailer() -> Mailer:
    """What hands mails to SMTP_HOST; its connections are this process's own."""
    from approval_mail.mailer import Channel, Mailer  # noqa: PLC0415

    found = settings()
    return Mailer(
        Channel(
            host=found.smtp_host,
            port=found.smtp_port,
            use_tls=found.smtp_use_tls,
            ca_file=found.smtp_tls_ca_file,
            user=found.smtp_user,
            password=found.smtp_password,
            token_file=found.smtp_oauth_token_file,
            token_command=found.smtp_oauth_token_command,
            timeout=found.smtp_timeout,
            sender=found.email_from,
        )
    )


@per_process
def delivery() -> Delivery:
    """What sends claims; raises InvalidSettings."""
    from approval_mail.delivery import Delivery  # noqa: PLC0415

    return Delivery(store(), renderer, mailer(), links(), digest_threshold=settings().digest_threshold)


def addressing() -> Addressing:
    """Who receives what, as NOTIFICATION_ROUTES says now."""
    from approval_mail.addressing import Addressing  # noqa: PLC0415
    from approval_mail.routing import Routes  # noqa: PLC0415

    found, file = settings(), routes_file()
    routes = file.current() if file else Routes()
    return Addressing(found.email_to, routes, digest_threshold=found.digest_threshold)


def forget_connections() -> None:
    """Make everything that holds a connection anew at its next use: a forked child needs its own."""
    for made in _with_connections:
        made.cache_clear()


os.register_at_fork(after_in_child=forget_connections)
