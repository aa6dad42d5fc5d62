"""What one repetition of a measure runs in: a Redis server, a sink and programs of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

from redis import Redis

from bench.program import Program
from bench.sink.handle import Sink
from bench.sink.own import OwnSink
from bench.sink.postfix import PostfixSink
from tests.rig.redis_server import RedisServer
from tests.rig.waiting import wait_for

_ROOT = Path(__file__).parents[1]
#: Settings of whoever runs the bench must not reach what is measured.
_OURS = ("NOTIFICATION_", "SMTP_", "EMAIL_", "REDIS_", "CELERY_", "APPROVAL_")
#: The default with an append-only file: of what was acknowledged, the last second may be lost with the machine.
_PERSISTENCE = ("--appendfsync", "everysec")


class World:
    """A context manager; what runs in it ends with it."""

    def __init__(self, *, sink: str = "plain", settings: Mapping[str, str] | None = None, redis: bool = True) -> None:
        """``settings`` stand over ``env``'s; Redis runs if ``redis``.

        ``sink`` is ``postfix`` (its smtp-sink, plain) or the bench's own: ``plain``, ``tls`` or ``slow``.
        """
        self._kind = sink
        self._settings = settings or {}
        self._wants_redis = redis
        self._programs: list[Program] = []

    def __enter__(self) -> World:
        with ExitStack() as begun:
            self._begin(begun)
            self._begun = begun.pop_all()
        return self

    def _begin(self, begun: ExitStack) -> None:
        # Files that a dying program still writes do not matter.
        self.folder = Path(begun.enter_context(TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        #: The whole environment of each program.
        self.env: dict[str, str] = {**inherited, "PYTHONPATH": str(_ROOT)}
        self.sink: Sink = PostfixSink() if self._kind == "postfix" else OwnSink(self._kind, self.folder, self.env)
        begun.callback(self.sink.stop)
        self.env |= {
            "NOTIFICATION_ENABLED": "true",
            "NOTIFICATION_LANGUAGE": "en",
            "NOTIFICATION_SPOOL_DIR": str(self.folder / "spool"),
            "EMAIL_FROM": "approval@bench.example",
            "EMAIL_TO": "operator@bench.example",
            **self.sink.settings,
        }
        if self._wants_redis:
            (self.folder / "redis").mkdir()
            server = RedisServer(self.folder / "redis", *_PERSISTENCE)
            begun.callback(server.kill)
            self.env["REDIS_URL"] = server.start().url
        self.env |= self._settings
        begun.callback(self._kill_programs)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._begun.close()

    def _kill_programs(self) -> None:
        for program in self._programs:
            program.kill()

    @property
    def redis_url(self) -> str:
        return self.env["REDIS_URL"]

    @property
    def redis(self) -> Redis:
        """A client of this world's Redis."""
        return Redis.from_url(self.redis_url, decode_responses=True)

    def worker(
        self,
        app: str = "approval_mail",
        *,
        concurrency: int,
        settings: Mapping[str, str] | None = None,
    ) -> Program:
        """A Celery worker of ``app`` with so many pool processes, ready to work."""
        ready = self.folder / f"ready-{len(self._programs)}"
        command = ["-m", "celery", "-A", app, "worker", "--concurrency", str(concurrency), "--include", "bench.ready"]
        worker = self.program(command, BENCH_READY=str(ready), **(settings or {}))
        wait_for(ready.exists, saying=f"the worker of {app} being ready; its log: {worker.log}")
        wait_for(lambda: len(worker.pool()) >= concurrency, saying=f"the pool of {app}")
        return worker

    def program(self, arguments: Sequence[str], **settings: str) -> Program:
        """``python ARGUMENTS`` in this world's folder, with these settings besides."""
        name = f"program-{len(self._programs)}"
        program = Program([sys.executable, *arguments], folder=self.folder, env={**self.env, **settings}, name=name)
        self._programs.append(program)
        return program

    def application(self, function: str, **arguments: Any) -> Any:
        """The result of ``module:function``, called with these arguments in an application's process of its own."""
        command = [sys.executable, "-m", "bench.application", function, json.dumps(arguments)]
        run = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        if run.returncode:
            raise RuntimeError(f"{function} failed:\n{run.stderr}")
        return json.loads(run.stdout.splitlines()[-1])
