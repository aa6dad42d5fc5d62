"""The demo's run: fire the four events, show each mail as it arrives, stay for more."""

from __future__ import annotations

import queue
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

from approval_mail import hooks
from approval_mail.demo.deliveries import Call
from approval_mail.demo.ending import ended_by_signals
from approval_mail.demo.processes import DemoFailed
from approval_mail.demo.reading import one_line, read
from approval_mail.demo.stage import Stage, set_up
from approval_mail.demo.story import Scene, scenes
from approval_mail.rendering.message import message_id

#: The temporary folder's name begins so; it holds the logs, the append-only file and the spool.
FOLDER_PREFIX = "approval-mail-demo-"
#: Seconds from the first hook call until all four mails must have been accepted.
_MAILS_WITHIN = 30.0
#: Seconds between two looks at the processes while a mail is awaited.
_LOOK_AGAIN = 0.5


def run(*, once: bool, language: str) -> int:
    """Show the four mails on the terminal and in a web inbox; the exit code.

    With ``once`` it ends by itself: 0 if all four mails were accepted, else 1. Otherwise it stays until SIGINT or
    SIGTERM, then 0. After a failure the folder with the logs is kept.
    """
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
    code = 0
    try:
        with ended_by_signals(), ExitStack() as stack:
            try:
                print("Starting everything on this machine, on free ports of 127.0.0.1:\n", flush=True)
                stage = set_up(stack, folder, language)
                hooks.configure(stage.settings)
                _play(stage, scenes(language, datetime.now(timezone.utc)))
                if not once:
                    _stay(stage)
            except KeyboardInterrupt:
                print("\nEnding everything that was started.", flush=True)
                raise
    except DemoFailed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        code = 1 if once else 0
    shutil.rmtree(folder, ignore_errors=True)
    return code


def _play(stage: Stage, events: Iterable[Scene]) -> None:
    """Fire the first event alone, for its delay on an idle system, then the others; raises DemoFailed."""
    first, *others = events
    deadline = time.monotonic() + _MAILS_WITHIN
    print("\nFour events through approval_mail.hooks, and the seconds until each mail was accepted:\n", flush=True)
    _fire(stage, first)
    _await_all(stage, deadline)
    for scene in others:
        _fire(stage, scene)
    _await_all(stage, deadline)
    print("\nAll four mails were accepted by the mail server.", flush=True)


def _fire(stage: Stage, scene: Scene) -> None:
    settings = stage.settings
    expected = message_id(scene.event_id, settings.email_to[0], settings.email_from.rpartition("@")[2])
    stage.deliveries.expect(Call(scene.type, expected, at=time.monotonic()))
    receipt = hooks.emit(scene.type, scene.fields)
    if receipt != "accepted":
        raise DemoFailed(
            f"the hook for {scene.type} answered {receipt} instead of accepted; the logs are in {stage.folder}"
        )


def _await_all(stage: Stage, deadline: float) -> None:
    """Show mails until every call so far has its own."""
    while missing := stage.deliveries.missing():
        _show_next(stage)
        for process in stage.processes:
            process.check()
        if time.monotonic() > deadline:
            raise DemoFailed(
                f"no mail was accepted for {', '.join(missing)} within {_MAILS_WITHIN:.0f} s; "
                f"the worker's log is {stage.worker.log}"
            )
    while _show_next(stage, wait=False):
        pass


def _stay(stage: Stage) -> None:
    """Show every further mail until a signal ends the demo."""
    command = stage.command.replace("\n", "\n  ")
    print(f"\nRead them:\n\n  {stage.inbox_url}\n\nOne more, from another shell:\n\n  {command}\n")
    print("Ctrl-C ends everything.\n", flush=True)
    running = list(stage.processes)
    while True:
        _show_next(stage)
        for process in running:
            try:
                process.check()
            except DemoFailed as error:
                print(f"{error}", file=sys.stderr)
        running = [process for process in running if process.exit_code is None]


def _show_next(stage: Stage, *, wait: bool = True) -> bool:
    """Print the next mail, if one is there or arrives soon, with its delay or else its time."""
    try:
        mail = stage.arrivals.get(timeout=_LOOK_AGAIN if wait else 0)
    except queue.Empty:
        return False
    delay = stage.deliveries.delay(mail)
    when = f"{mail.at.astimezone():%H:%M:%S}" if delay is None else f"{delay:.2f} s"
    subject = read(mail.raw).subject
    print(f"{when:>10}  {subject}  ->  {one_line(', '.join(mail.recipients))}", flush=True)
    return True
