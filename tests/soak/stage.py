"""Everything that runs in a soak, and what is done to it meanwhile."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.request
from dataclasses import fields
from pathlib import Path

import psutil

from approval_mail.settings import Settings
from tests.faults.accounting import SENDER_DOMAIN
from tests.faults.world import ROOT, World
from tests.rig.programs import Program
from tests.rig.redis_server import free_port
from tests.rig.waiting import wait_for

#: Seconds; the shortest that NOTIFICATION_HISTORY_DAYS allows.
HISTORY = 0.01 * 86400
#: Processes in a worker's pool, and applications that call hooks.
PROCESSES, HOSTS = 2, 2
_STARTED = "Email notification worker started"
_TEMPLATE = "approval_requested.html"
_FAILED = "Template failed for "
#: Seconds until an edit is seen to be used; also on a machine that has other work.
_USED_WITHIN = 60
#: Of a file of routes.
_TAKEN, _NOT_TAKEN = " taken: ", "are not taken"


class Stage(World):
    """A `World` that lasts: its mail server is a process of its own, and settings are in a ``.env`` that is edited."""

    def __init__(self, folder: Path, *, per_second: float, plant: str = "") -> None:
        """``plant`` names a leak of leaks.py, which the workers then have."""
        super().__init__(folder, seed=0, thorough=True, record=lambda *_: None)
        self.smtp.stop()  # It keeps every mail, in the process that looks on.
        self.mail_server = self._python("tests.soak.mail_server", str(folder), name="mail-server")
        self.mail_server.wait_for_line("port ")
        self.client.config_set("appendfsync", "everysec")  # Redis's default: this Redis is not killed.
        self._templates = folder / "templates"
        self._templates.mkdir()
        self._edition = 0
        #: Who receives what names nobody, by setting; and from which moment on (time.time()) the last one surely holds.
        self.everybody = [f"operator@{SENDER_DOMAIN}"]
        self.reloaded: tuple[float, float] | None = None
        del self.settings["EMAIL_TO"]
        self.settings |= {
            "SMTP_PORT": self.mail_server.output().split()[1],
            "NOTIFICATION_HISTORY_DAYS": "0.01",
            "NOTIFICATION_TEMPLATE_DIR": str(self._templates),
            "NOTIFICATION_TIMEZONE": "Asia/Seoul",
            "LEAK": plant,
        }
        self.has_routes = "NOTIFICATION_ROUTES" in {field.metadata["name"] for field in fields(Settings)}
        self._routes, self._language = folder / "routes.toml", "en"
        if self.has_routes:
            self.settings["NOTIFICATION_ROUTES"] = str(self._routes)
            self._write_routes()
        self._plant = plant
        self._per_second = per_second
        #: How often the worker was started, and how many of its pool died by kill -9.
        self.lives = 0
        self.killed = 0
        self.hosts: list[Program] = []
        #: ``approval-mail`` commands that serve, by name, with what is fetched from them at each sample.
        self.servers: dict[str, tuple[Program, str]] = {}

    def begin(self) -> None:
        """Start everything; the worker is ready when this returns."""
        self._write_env()
        self.current_beat = self.beat()
        self._serve("api", "--port", path="/health")
        if self.ask("metrics", "--help").returncode == 0:
            self._serve("metrics", "--serve", path="/metrics")
        self._start_worker()
        for name, (program, url) in self.servers.items():
            wait_for(lambda url=url: _answers(url), saying=f"{name} answering: {program.output()[-500:]}")
        for number in range(HOSTS):
            spec = {
                "receipts": str(self.folder / f"receipts-{number}"),
                "prefix": f"host{number}-",
                "per_second": self._per_second / HOSTS,
            }
            self.hosts.append(self._python("tests.soak.host", json.dumps(spec), name=f"host-{number}"))

    def end_hosts(self) -> None:
        """Let the hosts tell what they have begun, and end."""
        for host in self.hosts:
            host.process.send_signal(signal.SIGTERM)
        for host in self.hosts:
            assert host.process.wait(60) == 0, host.output()[-2000:]

    def pool(self) -> list[psutil.Process]:
        """The worker's pool, oldest first."""
        children = psutil.Process(self.current_worker.process.pid).children(recursive=True)
        return sorted(children, key=psutil.Process.create_time)

    # --- what is done to it

    def restart_worker(self) -> None:
        """A deployment: a warm shutdown, which ends what it has begun, and a new worker."""
        assert self.current_worker.stop(seconds=60) == 0, self.current_worker.output()[-2000:]
        self._start_worker()

    def kill_worker(self) -> None:
        """kill -9 of the main process and its pool, and a new worker."""
        self.current_worker.kill()
        self.killed += PROCESSES
        self._start_worker()

    def restart_beat(self) -> None:
        self.current_beat.stop()
        self.current_beat = self.beat()

    def reload_settings(self) -> None:
        """Name another recipient in ``.env``, and have the worker start itself anew by SIGHUP, in the same process."""
        worker = self.current_worker
        self.everybody = [*self.everybody, f"operator{len(self.everybody) + 1}@{SENDER_DOMAIN}"]
        self._write_env()
        told = time.time()
        starts = worker.output().count(_STARTED)
        worker.process.send_signal(signal.SIGHUP)
        worker.wait_for_line(_STARTED, times=starts + 1, seconds=90)
        assert worker.process.poll() is None
        self.reloaded = (told, time.time())
        self._lives_begin()

    def edit_template(self) -> None:
        """Change a template's subject, and wait until a mail has it."""
        self._edition += 1
        text = (ROOT / "templates" / "emails" / _TEMPLATE).read_text("utf-8")
        before, begin, rest = text.partition("{% block subject %}")
        _, end, after = rest.partition("{% endblock %}")
        assert begin, _TEMPLATE
        assert end, _TEMPLATE
        _replace(
            self._templates / _TEMPLATE, f"{before}{begin}{{{{ tool_name }}}}, edition {self._edition}{end}{after}"
        )
        editions = self.folder / "editions"
        wait_for(
            lambda: str(self._edition) in editions.read_text().split(),
            seconds=_USED_WITHIN,
            saying=f"a mail of edition {self._edition}",
        )

    def break_template(self) -> None:
        """Leave a template that cannot be used, until it is next edited; mails go on, by the packaged one."""
        worker = self.current_worker
        told = worker.output().count(_FAILED)
        _replace(self._templates / _TEMPLATE, "{% extends 'base.html' %}{% block content %}{% if %}")
        worker.wait_for_line(_FAILED, times=told + 1, seconds=_USED_WITHIN)

    def edit_routes(self) -> None:
        """Send reminders in the other language, and wait until the worker says that it has taken the file."""
        worker = self.current_worker
        taken = worker.output().count(_TAKEN)
        self._write_routes()
        worker.wait_for_line(_TAKEN, times=taken + 1, seconds=_USED_WITHIN)

    def break_routes(self) -> None:
        """Leave a file that does not parse, until it is next edited; the last good one goes on."""
        worker = self.current_worker
        refused = worker.output().count(_NOT_TAKEN)
        _replace(self._routes, "[[rule]]\nto = nobody\n")
        worker.wait_for_line(_NOT_TAKEN, times=refused + 1, seconds=_USED_WITHIN)

    # --- within

    def _write_routes(self) -> None:
        self._language = "en" if self._language == "ko" else "ko"
        # Both languages from the first on: what an edit brings in is met by processes that began long before.
        rules = {"approval_reminder": self._language, "approval_timeout": "en"}
        told = (f'[[rule]]\nname = "{kind}"\ntype = "{kind}"\nlanguage = "{word}"\n' for kind, word in rules.items())
        _replace(self._routes, "".join(told))

    def _write_env(self) -> None:
        (self.folder / ".env").write_text(f"EMAIL_TO={self.everybody[-1]}\n")

    def _start_worker(self) -> None:
        # By `python -m celery` it could not start itself anew: Celery runs __main__.py as a script then.
        command = [str(Path(sys.executable).with_name("celery")), "-A", "approval_mail", "worker"]
        command += [f"--concurrency={PROCESSES}", *(["-I", "tests.soak.leaks"] if self._plant else [])]
        name = f"worker-{self.lives}"
        self.current_worker = Program(*command, folder=self.folder, settings=self.settings, name=name)
        self._programs.append(self.current_worker)
        self.current_worker.wait_for_line(_STARTED, seconds=90)
        self._lives_begin()

    def _lives_begin(self) -> None:
        self.lives += 1
        wait_for(lambda: len(self.pool()) == PROCESSES, saying="the pool")

    def _serve(self, name: str, option: str, *, path: str) -> None:
        port = str(free_port())
        program = self.start(name, option, port)
        self.servers[name] = (program, f"http://127.0.0.1:{port}{path}")

    def _python(self, module: str, *arguments: str, name: str) -> Program:
        program = Program(
            sys.executable, "-m", module, *arguments, folder=self.folder, settings=self.settings, name=name
        )
        self._programs.append(program)
        return program

    def receipt_files(self) -> list[Path]:
        return [self.folder / f"receipts-{number}" for number in range(HOSTS)]

    def redis_folder_bytes(self) -> int:
        """What the append-only file takes on disk."""
        return sum(path.stat().st_size for path in self.redis.folder.rglob("*") if path.is_file())

    def spool_size(self) -> tuple[int, int]:
        """Files and bytes of the spool."""
        paths = [Path(where, name) for where, _, names in os.walk(self.spool.folder) for name in names]
        return len(paths), sum(path.stat().st_size for path in paths)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except OSError:
        return False


def _replace(path: Path, text: str) -> None:
    """As a careful editor does: there is no moment at which half of it could be read."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, "utf-8")
    new.replace(path)
