"""Everything that runs while the demo does, started in order and ended in reverse."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from approval_mail.demo import environment
from approval_mail.demo.catcher import CaughtMail, MailCatcher
from approval_mail.demo.deliveries import Deliveries
from approval_mail.demo.embedded import EmbeddedValkey
from approval_mail.demo.inbox import Inbox
from approval_mail.demo.processes import GuardedProcess, stop_together
from approval_mail.settings import Settings

#: Seconds. A worker is ready in two; a busy machine may take ten times that.
_READY_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class Stage:
    """What the run needs of all that was started."""

    #: What the processes run with.
    settings: Settings
    #: Holds their logs.
    folder: Path
    #: Each mail once, as it is accepted.
    arrivals: queue.SimpleQueue[CaughtMail]
    deliveries: Deliveries
    worker: GuardedProcess
    #: All of them, the worker among them.
    processes: Sequence[GuardedProcess]
    inbox_url: str
    #: A shell command that causes one more mail.
    command: str


def set_up(stack: ExitStack, folder: Path, language: str) -> Stage:
    """Start everything with one line of progress each; ``stack`` ends it. Raises DemoFailed."""
    arrivals: queue.SimpleQueue[CaughtMail] = queue.SimpleQueue()
    deliveries = Deliveries()
    environment.forget_settings(os.environ)

    def arrived(mail: CaughtMail) -> None:
        deliveries.arrived(mail)
        arrivals.put(mail)

    with _step("mail catcher") as done:
        catcher = MailCatcher(arrived)
        catcher.start()
        stack.callback(catcher.stop)
        done(f"smtp://127.0.0.1:{catcher.port}")
    with _step("Valkey") as done:
        valkey = EmbeddedValkey.start(folder)
        stack.callback(valkey.process.stop)
        done(valkey.url)
    with _step("web inbox") as done:
        command = environment.emit_command(valkey.url, folder)
        inbox = Inbox(catcher, delay=deliveries.delay, command=command)
        inbox.start()
        stack.callback(inbox.stop)
        done(inbox.url)
    settings = environment.settings(redis_url=valkey.url, smtp_port=catcher.port, language=language, folder=folder)
    with _step("Celery worker and beat") as done:
        worker, beat = (
            GuardedProcess(program, environment.celery(program), settings=settings, folder=folder)
            for program in ("worker", "beat")
        )
        stack.callback(stop_together, worker, beat)
        worker.wait_for_line("Email notification worker started", _READY_WITHIN)
        done("ready")
    return Stage(
        settings=Settings.load(settings, folder).require(),
        folder=folder,
        arrivals=arrivals,
        deliveries=deliveries,
        worker=worker,
        processes=(valkey.process, worker, beat),
        inbox_url=inbox.url,
        command=command,
    )


@contextmanager
def _step(name: str) -> Iterator[Callable[[str], None]]:
    """Say what is being started, and, once told what came of it, how long it took."""
    began = time.monotonic()
    print(f"  {name:<24}", end="", flush=True)
    yield lambda outcome: print(f"{outcome:<32}{time.monotonic() - began:6.2f} s", flush=True)
