"""What a Celery worker of this app does when it starts and when it stops, and beat when it starts."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import time
from collections.abc import Iterable
from types import FrameType
from typing import Any, NoReturn

import billiard.pool
from celery import signals
from celery.beat import SchedulingError

from approval_mail import broker, services, timing
from approval_mail.celery import app, wake_gather
from approval_mail.errors import InvalidRoutes
from approval_mail.routing import RoutesFile
from approval_mail.store import StoreError

logger = logging.getLogger(__name__)

#: Seconds between two looks of the parent's at the file of routes.
_ROUTES_EVERY = 5.0
#: Seconds between two looks for garbage.
_GARBAGE_EVERY = 10.0
#: Tenths of a second that a pool process waits for its last result to be read.
_LAST_RESULT_TENTHS = 20

#: When this process last looked for garbage, by time.monotonic().
_looked = 0.0


@signals.celeryd_init.connect
def prepare(conf: Any, **_: object) -> None:
    """Be patient with the broker, and refuse to start with times that overtake one another, or with damaged routes."""
    conf.update(conf["worker_only"])
    faults = timing.order_faults(
        smtp_timeout=services.settings().smtp_timeout,
        soft_time_limit=app.tasks["approval_mail.send_batch"].soft_time_limit,
        hard_time_limit=app.tasks["approval_mail.send_batch"].time_limit,
        visibility_timeout=conf.broker_transport_options.get("visibility_timeout", timing.VISIBILITY_TIMEOUT),
    )
    if faults:
        _refuse(f"{fault}: mend celeryconfig.py" for fault in faults)
    file = services.routes_file()
    if file:
        try:
            file.load()
        except InvalidRoutes as error:
            _refuse(error.problems)


def _refuse(problems: Iterable[str]) -> NoReturn:
    print(*problems, sep="\n", file=sys.stderr)
    raise SystemExit(2)


@signals.celeryd_after_setup.connect
def prepare_to_fork(**_: object) -> None:
    """Compile the templates, so that the pool's processes share them; once there is a log to tell faults in."""
    for renderer in services.renderers():
        renderer.prepare()
    # On a warm shutdown each process waits until its last result has been read, which its parent may not do any more.
    # Billiard would let it wait for 30 s, in which nobody sends; nothing depends on those results.
    billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = _LAST_RESULT_TENTHS
    # What is there by now stays for good: a collection that looked at it would write to memory that all share. Python
    # looks for all garbage once that is a quarter of what its last such search looked at: without these, soon.
    gc.freeze()
    gc.collect()


@signals.after_setup_logger.connect
def show_facts(loglevel: int, **_: object) -> None:
    """Show this package's INFO lines also where the worker's own log level is higher, as it is by default."""
    logging.getLogger("approval_mail").setLevel(min(loglevel or logging.INFO, logging.INFO))


@signals.after_setup_logger.connect
def keep_bodies_out(**_: object) -> None:
    """Let a worker say of a message that it cannot use what is wrong, without the body, which may hold anything."""
    logging.getLogger("celery.worker.consumer.consumer").addFilter(_without_body)


def _without_body(record: logging.LogRecord) -> bool:
    if "body" in str(record.msg) or "full contents" in str(record.msg):
        first_line = record.getMessage().partition("\n")[0]
        record.msg, record.args, record.exc_info = first_line.partition(" [type")[0], (), None
    return True


@signals.after_setup_logger.connect
def leave_out_the_clock(loglevel: int, **_: object) -> None:
    """Say nothing of a task that comes each second and mostly finds nothing to do, but at DEBUG."""
    if (loglevel or logging.WARNING) > logging.DEBUG:
        for name in ("celery.worker.strategy", "celery.app.trace", "celery.beat"):
            logging.getLogger(name).addFilter(_is_not_the_clock)


def _is_not_the_clock(record: logging.LogRecord) -> bool:
    return record.levelno > logging.INFO or "approval_mail.sweep_expired" not in record.getMessage()


@signals.beat_init.connect
def complain_briefly(**_: object) -> None:
    """Let beat say in one line that the broker is out of reach, not in a page of traceback every few seconds."""
    logging.getLogger("celery.beat").addFilter(_one_line)


def _one_line(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], SchedulingError):
        record.msg, record.args = "%s; beat tries again", (record.exc_info[1],)
        record.exc_info = None
    return True


@signals.worker_ready.connect
def hand_back_before_a_reload(**_: object) -> None:
    """Do what `hand_back` does on SIGHUP too, on which a worker without a terminal restarts: Celery signals nothing."""
    restart = signal.getsignal(signal.SIGHUP)
    if not callable(restart):
        return

    def handle(number: int, frame: FrameType | None) -> None:
        hand_back()
        restart(number, frame)

    signal.signal(signal.SIGHUP, handle)


@signals.worker_ready.connect
def follow_the_routes(sender: Any, **_: object) -> None:
    """Have the pool's parent know the routes as they change: a child that is started anew begins with its version."""
    file = services.routes_file()
    if file:
        count = len(file.current())
        logger.info("Routes of %s in force: %d rule%s", services.settings().routes, count, "" if count == 1 else "s")
        sender.timer.call_repeatedly(_ROUTES_EVERY, _look_at_the_routes, (file,))


def _look_at_the_routes(file: RoutesFile) -> None:
    before = file.fault
    try:
        file.current()
        if file.fault or before:
            services.operator_store().notices.report_routes(file.place, file.fault)
    except StoreError as error:
        logger.debug("What is new with the routes could not be reported (%s); the next look tries again", error)


@signals.worker_ready.connect
def look_for_garbage(sender: Any, **_: object) -> None:
    """Have the pool's parent look for all garbage now and then: Celery leaves each request and its message in a cycle.

    Python by itself looks after minutes, and the memory that it gives back by then is in pieces. A look takes some ten
    milliseconds, for what was there at the start is left out.
    """
    sender.timer.call_repeatedly(_GARBAGE_EVERY, gc.collect)


@signals.task_postrun.connect
def look_for_garbage_too(**_: object) -> None:
    """The same in the pool's processes, between two tasks."""
    global _looked  # noqa: PLW0603
    now = time.monotonic()
    if now - _looked >= _GARBAGE_EVERY:
        _looked = now
        gc.collect()


@signals.worker_ready.connect
def announce(**_: object) -> None:
    """Say so, and gather what came in while no worker ran."""
    logger.info("Email notification worker started")
    wake_gather()


@signals.worker_shutting_down.connect
def hand_back(**_: object) -> None:
    """On a warm shutdown, messages that wait with a countdown go back to the queue."""
    broker.RedisChannel.do_restore = True


@signals.worker_process_shutdown.connect
def say_goodbye(**_: object) -> None:
    """Close the kept SMTP connections properly."""
    if services.mailer.cache_info().currsize:
        services.mailer().close()
