"""Everything that runs while the demo does, started in order and ended in reverse."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from approval_mail.demo import environment
from approval_mail.demo.catcher import CaughtMail, MailCatcher
from approval_mail.demo.deliveries import Deliveries
from approval_mail.demo.embedded import EmbeddedValkey, free_port
from approval_mail.demo.inbox import Inbox
from approval_mail.demo.processes import GuardedProcess, stop_together
from approval_mail.settings import Settings

#: Seconds. A worker is ready in two; a busy machine may take ten times that.
_READY_WITHIN = 60.0
#: What the API's server logs once its port is open.
_API_READY = "Serving approvals on"


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
    catcher: MailCatcher
    inbox_url: str
    #: A shell command that asks once more.
    command: str
    #: What the programs are given on top of this process's environment.
    environment: Mapping[str, str]


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
        command = environment.request_command(valkey.url)
        inbox = Inbox(catcher, delay=deliveries.delay, command=command)
        inbox.start()
        stack.callback(inbox.stop)
        done(inbox.url)
    port = free_port()
    settings = environment.settings(
        redis_url=valkey.url, smtp_port=catcher.port, api_port=port, language=language, folder=folder
    )
    with _step("Celery worker and beat") as done:
        worker, beat, api = (
            GuardedProcess(name, command, settings=settings, folder=folder)
            for name, command in (
                ("worker", environment.celery("worker")),
                ("beat", environment.celery("beat")),
                ("api", environment.api(port)),
            )
        )
        stack.callback(stop_together, worker, beat, api)
        worker.wait_for_line("Email notification worker started", _READY_WITHIN)
        done("ready")
    with _step("pages to decide on") as done:
        api.wait_for_line(_API_READY, _READY_WITHIN)
        done(f"{settings['APPROVAL_PUBLIC_URL']}/")
    return Stage(
        settings=Settings.load(settings, folder).require(),
        folder=folder,
        arrivals=arrivals,
        deliveries=deliveries,
        worker=worker,
        processes=(valkey.process, worker, beat, api),
        catcher=catcher,
        inbox_url=inbox.url,
        command=command,
        environment=settings,
    )


@contextmanager
def _step(name: str) -> Iterator[Callable[[str], None]]:
    """Say what is being started, and, once told what came of it, how long it took."""
    began = time.monotonic()
    print(f"  {name:<24}", end="", flush=True)
    yield lambda outcome: print(f"{outcome:<32}{time.monotonic() - began:6.2f} s", flush=True)
