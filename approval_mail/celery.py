"""The Celery app, which is nobody's default app, and the wake-up that hooks send it."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

# Celery and kombu import these at the first publish; a hook's first call is no place for that.
import celery.app.amqp
import celery.backends.redis
import click
import kombu.messaging
import kombu.pools
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from kombu.utils.collections import eqhash

import approval_mail.broker  # noqa: F401 - for the same reason
from approval_mail import flower, services
from approval_mail.errors import InvalidSettings
from approval_mail.outage import Outage
from approval_mail.results import RedisBackend, UnwatchedResult
from approval_mail.settings import state_folder
from approval_mail.store import WakeUp

logger = logging.getLogger(__name__)

#: A wake-up at once, beside those that the store keeps account of.
NOW = WakeUp(0)

#: Seconds. After a failure no wake-up is sent for this long: each would cost its caller the broker's timeout.
_PAUSE = 1.0

_HERE = Path(__file__).parent
#: The wheel carries celeryconfig.py inside the package, a checkout beside it. It is found by place: by
#: name, a host's own celeryconfig.py would be found instead.
_CONFIG = next(path for path in (_HERE / "celeryconfig.py", _HERE.parent / "celeryconfig.py") if path.exists())


def _config() -> ModuleType:
    """celeryconfig.py as a module that runs when the app first needs it."""
    spec = importlib.util.spec_from_file_location("approval_mail_celeryconfig", _CONFIG)
    assert spec is not None and spec.loader is not None  # noqa: PT018, S101
    loader = importlib.util.LazyLoader(spec.loader)
    spec.loader = loader
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


class _App(Celery):  # type: ignore[misc]  # Celery has no types
    @property
    def backend_cls(self) -> str:
        """The configured one: CELERY_RESULT_BACKEND of the environment, which Celery prefers, may be a host's own.

        On Redis it is of a class of ours, which stands before its URL.
        """
        url = str(self.conf.get("result_backend"))
        ours = url.startswith(("redis://", "rediss://"))
        return f"{RedisBackend.__module__}:{RedisBackend.__name__}+{url}" if ours else url


app = _App("approval_mail", set_as_current=False)
app.AsyncResult = app.subclass_with_self(UnwatchedResult)
app.config_from_object(_config())

#: Of the broker, as this process's wake-ups meet it.
_outage = Outage(_PAUSE)


def reconfigure() -> None:
    """Read celeryconfig.py anew, after the settings changed."""
    global _outage  # noqa: PLW0603
    _outage = Outage(_PAUSE)
    for pool in _forget_connections():
        pool.force_close_all()
    _forget_results()
    if not services.loaded().problems:  # With faulty ones events are spooled, and nothing is sent anywhere.
        app.config_from_object(_config())


def wake_gather(wake_up: WakeUp = NOW) -> None:
    """Ask a worker to gather; a failure costs time, no event: beat's gather comes anyway."""
    if _outage.turns_away():
        return
    try:
        app.send_task(
            "approval_mail.gather",
            kwargs={"due": wake_up.due},
            countdown=wake_up.seconds or None,
            headers={"countdown": wake_up.seconds},
            ignore_result=True,
            retry=False,
        )
    except SoftTimeLimitExceeded:  # The host's own task is told to end.
        raise
    except Exception as error:  # Each broker's library raises its own; none may reach the host.
        if _outage.note_failure():
            logger.error(
                "The broker cannot be used (%s: %s): events are recorded and wait for beat's next gather; "
                "check CELERY_BROKER_URL (unset: REDIS_URL) and the server",
                type(error).__name__,
                error,
            )
    else:
        if _outage.note_success():
            logger.info("The broker can be used again")


def consumers() -> int:
    """How many workers consume this app's queue; takes a second. Raises whatever the broker's library does."""
    queue = app.conf.task_default_queue
    # A connection of its own: a pooled one may have gone since, and all workers would seem to be away.
    with app.connection_for_write() as connection:
        answers = app.control.inspect(timeout=1.0, connection=connection).active_queues() or {}
    return sum(any(found["name"] == queue for found in queues) for queues in answers.values())


def _forget_connections() -> list[Any]:
    """Leave the connections to the process that opened them, for a forked child needs its own; answers their pools."""
    if not app.configured:
        return []
    # Kombu's groups look up by it, but for `pop`.
    key = eqhash(app.connection_for_write())  # type: ignore[no-untyped-call]
    pools = [group.pop(key, None) for group in (kombu.pools.producers, kombu.pools.connections)]
    app._after_fork()
    return [pool for pool in pools if pool]


def _forget_results() -> None:
    """Drop the result backend that the app would keep, one for each thread; this thread's is closed."""
    backend = app._backend
    app._local, app._backend_cache = threading.local(), None
    if isinstance(backend, celery.backends.redis.RedisBackend):
        backend.result_consumer.stop()
        backend.client.connection_pool.disconnect()


os.register_at_fork(after_in_child=_forget_connections)


def _prepare_command() -> None:
    """For ``celery -A approval_mail ...``: list every problem of the settings and exit 2; preset Flower."""
    context = click.get_current_context(silent=True)
    if not context or str(context.params.get("app", "")).split(".")[0] != "approval_mail":
        return
    try:
        services.settings()
    except InvalidSettings as error:
        click.echo("\n".join(error.problems), err=True)
        raise SystemExit(2) from error
    app.set_current()  # The process is ours alone, and Flower looks results up by the current app.
    if "flower.options" in sys.modules:  # Celery's command line has loaded its plugins by now.
        flower.preset(sys.modules["flower.options"].options, state_folder())


_prepare_command()
