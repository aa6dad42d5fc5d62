"""The demo's run: ask three times, see each request to its end, show each mail as it arrives, stay for more."""

from __future__ import annotations

import os
import queue
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

from approval_mail import approvals, hooks, services
from approval_mail.approvals import Approval, ApprovalsUnavailable, Status
from approval_mail.demo import environment
from approval_mail.demo.deliveries import Call
from approval_mail.demo.processes import DemoFailed
from approval_mail.demo.reading import read
from approval_mail.demo.stage import Stage, set_up
from approval_mail.demo.story import Scene, Story, story
from approval_mail.demo.visitor import PageRefused, Visitor
from approval_mail.fields import plain
from approval_mail.links import FOLDER
from approval_mail.rendering.message import message_id
from approval_mail.stopping import ended_by_signals

#: The temporary folder's name begins so; it holds the logs, the append-only file and the spool.
FOLDER_PREFIX = "approval-mail-demo-"
#: Seconds from the first request until every mail must have been accepted.
_MAILS_WITHIN = 30.0
#: Seconds. A command of the CLI takes half of one; a busy machine may take many times that.
_COMMAND_WITHIN = 30.0
#: Characters of a link's path; its token alone has more than a terminal's line.
_SHOWN_OF_LINK = 24
#: Seconds between two looks at the processes while a mail is awaited.
_LOOK_AGAIN = 0.5


def run(*, once: bool, language: str) -> int:
    """Show three requests and their mails on the terminal and in a web inbox; the exit code.

    With ``once`` it clicks in place of a person and ends by itself: 0 if all mails were accepted and each request
    ended as it should, else 1. Otherwise it stays until SIGINT or SIGTERM, then 0. After a failure the folder with
    the logs is kept.
    """
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
    code = 0
    try:
        with ended_by_signals(), ExitStack() as stack:
            try:
                print("Starting everything on this machine, on free ports of 127.0.0.1:\n", flush=True)
                stage = set_up(stack, folder, language)
                hooks.configure(stage.settings)
                _play(stage, story(language), once=once)
                if not once:
                    _stay(stage)
            except KeyboardInterrupt:
                print("\nEnding everything that was started.", flush=True)
                raise
    except DemoFailed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except (ApprovalsUnavailable, PageRefused) as error:
        print(f"\n{error}; the logs are in {folder}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        code = 1 if once else 0
    shutil.rmtree(folder, ignore_errors=True)
    return code


def _play(stage: Stage, told: Story, *, once: bool) -> None:
    """Ask for each scene, the first alone for its delay on an idle system, and end them; raises DemoFailed."""
    deadline = time.monotonic() + _MAILS_WITHIN
    print("\nThree requests for permission, and the seconds until each mail was accepted:\n", flush=True)
    expiring = _ask(stage, told.expired)
    _await_all(stage, deadline)
    rejected = _ask(stage, told.rejected)
    approved = _ask(stage, told.approved)
    _await_all(stage, deadline)
    _expect_timeout(stage, expiring.approval)
    _reject(stage, rejected, told.rejected.reason)
    if once:
        _approve(stage, approved, told.approved.reason)
    print(f"{expiring.approval.tool_name} is left to expire.\n", flush=True)
    _await_all(stage, deadline)
    _check(rejected, Status.REJECTED)
    _check(expiring, Status.EXPIRED)
    if once:
        _check(approved, Status.APPROVED)
        print("\nAll six mails were accepted: one request was approved, one rejected, one has expired.", flush=True)


def _ask(stage: Stage, scene: Scene) -> approvals.Handle:
    name = str(uuid.uuid4())
    _expect(stage, name, "approval_requested", time.monotonic())
    return approvals.require(
        request_id=name,
        user_id=scene.user_id,
        tool_name=scene.tool_name,
        arguments=dict(scene.arguments),
        timeout=scene.timeout,
    )


def _expect(stage: Stage, request_id: str, event_type: str, at: float) -> None:
    settings = stage.settings
    sender = settings.email_from.rpartition("@")[2]
    expected = message_id(f"{request_id}:{event_type}", settings.email_to[0], sender)
    stage.deliveries.expect(Call(event_type, expected, at=at))


def _expect_timeout(stage: Stage, expiring: Approval) -> None:
    left = (expiring.expires_at - datetime.now(timezone.utc)).total_seconds()
    _expect(stage, expiring.request_id, "approval_timeout", time.monotonic() + left)


def _reject(stage: Stage, handle: approvals.Handle, reason: str) -> None:
    """Reject on the command line, as an operator does."""
    arguments = ("reject", handle.request_id[:8], "--reason", reason)
    shown = " ".join((*arguments[:3], f'"{reason}"'))
    print(f"\n{handle.approval.tool_name} is rejected on the command line:\n\n  approval-admin {shown}\n", flush=True)
    _expect(stage, handle.request_id, "approval_rejected", time.monotonic())
    done = subprocess.run(  # noqa: S603 the demo's own command
        environment.admin(*arguments),
        cwd=stage.folder,
        env={**os.environ, **stage.environment},
        capture_output=True,
        text=True,
        timeout=_COMMAND_WITHIN,
        check=False,
    )
    if done.returncode:
        raise DemoFailed(f"approval-admin {shlex.join(arguments)}: {done.stderr.strip()}")


def _approve(stage: Stage, handle: approvals.Handle, reason: str) -> None:
    """Do what a person does with the link in the mail."""
    links = services.links()
    if links is None:
        raise AssertionError("the demo's settings have a public URL")
    url = links.urls(handle.request_id, stage.settings.email_to[0], handle.approval.requested_at)["approve_url"]
    if not any(url in (read(mail.raw).html or "") for mail in stage.catcher.mails):
        raise DemoFailed(f"no mail holds the link to approve {handle.approval.tool_name} with")
    print(f"{handle.approval.tool_name} is approved from its mail. Nobody watches, so this program opens the link,")
    print(f"ticks the box and presses the button:\n\n  {url[: url.index(FOLDER) + _SHOWN_OF_LINK]}…\n", flush=True)
    _expect(stage, handle.request_id, "approval_approved", time.monotonic())
    Visitor().send_form(url, text=reason)


def _check(handle: approvals.Handle, status: Status) -> None:
    """Raise DemoFailed unless who waits for the request is told that it ended so."""
    found = handle.wait(0)
    if found.status is not status:
        raise DemoFailed(f"the request for {found.tool_name} is {found.status}, not {status}")


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
    print("\nThe mail of git_commit waits for your answer: open it, click its button, tick the box, decide.")
    print(f"\n  {stage.inbox_url}")
    print(f"\nAsk once more, from another shell:\n\n  {command}\n")
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
    print(f"{when:>10}  {subject}  ->  {plain(', '.join(mail.recipients))}", flush=True)
    return True
