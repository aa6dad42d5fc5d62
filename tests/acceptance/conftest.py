"""Programs as operators start them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from approval_mail.store import EventStore, worker_client
from tests.rig.programs import Program, run_to_its_end
from tests.rig.redis_server import RedisServer

Start = Callable[..., Program]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def start(settings: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Start ``celery -A approval_mail ...``; it ends with the test."""
    running: list[Program] = []

    def begin(*arguments: str, **changes: str) -> Program:
        name = f"{arguments[0]}-{len(running)}"
        if arguments[0] == "worker":
            arguments += ("--without-mingle",)  # It waits a second for other workers.
        running.append(Program.celery(*arguments, folder=tmp_path, settings={**settings, **changes}, name=name))
        return running[-1]

    yield begin
    for program in running:
        program.kill()


@pytest.fixture
def run(settings: dict[str, str], tmp_path: Path) -> Run:
    """Run ``approval-mail ...`` to its end."""
    return _runner("approval_mail.cli", settings, tmp_path)


@pytest.fixture
def admin(settings: dict[str, str], tmp_path: Path) -> Run:
    """Run ``approval-admin ...`` to its end."""
    return _runner("approval_mail.cli.admin", settings, tmp_path)


def _runner(module: str, settings: dict[str, str], folder: Path) -> Run:
    def call(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return run_to_its_end(module, *arguments, folder=folder, settings={**settings, **changes})

    return call


@pytest.fixture
def status(redis_server: RedisServer) -> Iterator[Callable[[], dict[str, int]]]:
    """Counts of events by state, those that are not zero."""
    with worker_client(redis_server.url) as client:
        store = EventStore(client)

        def count() -> dict[str, int]:
            found = store.count()
            names = ("pending", "deferred", "claimed", "sent", "dead", "suppressed")
            return {name: getattr(found, name) for name in names if getattr(found, name)}

        yield count


@pytest.fixture
def emit(settings: dict[str, str], tmp_path: Path) -> Callable[..., list[str]]:
    """Tell many events from a process of its own; answers the receipts."""

    def tell(events: list[tuple[str, str]], **more: Any) -> list[str]:
        code = (
            "import json, sys; from approval_mail import hooks\n"
            "events, more = json.loads(sys.argv[1])\n"
            "print(json.dumps([hooks.emit(kind, {'request_id': name, 'user_id': 'kim', 'tool_name': 'git_commit', "
            "**more}) for kind, name in events]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps([events, more])],
            cwd=tmp_path,
            env=settings,
            capture_output=True,
            text=True,
            check=True,
            timeout=180,
        )
        return list(json.loads(done.stdout))

    return tell
