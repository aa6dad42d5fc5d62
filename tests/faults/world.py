"""Everything that one fault needs: servers, programs, hosts, and the judge at its end."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import redis

from approval_mail.spool import Spool
from approval_mail.store import EventStore
from tests.faults.accounting import SENDER_DOMAIN, Ledger, account
from tests.rig.leases import let_leases_run_out
from tests.rig.programs import Program, run_to_its_end
from tests.rig.redis_server import RedisServer
from tests.rig.smtp_server import SMTPServer
from tests.rig.waiting import wait_for

ROOT = Path(__file__).parents[2]


class World:
    """A Redis server, a mail server and programs of one test's own; made by the fixture of this name."""

    def __init__(self, folder: Path, *, seed: int, thorough: bool, record: Callable[[str, object], None]) -> None:
        """``record`` takes what the table at the end is made of."""
        self.folder = folder
        #: Decides everything that is left to chance.
        self.random = random.Random(seed)
        #: `make faults`: many events, and leases run out by themselves; else few, and the test turns the clock.
        self.thorough = thorough
        (folder / "redis").mkdir()
        # As docs/reliability.md says; the quick run does not wait for a disk that other tests keep busy.
        sync = "always" if thorough else "no"
        self.redis = RedisServer(folder / "redis", "--appendfsync", sync).start()
        self.smtp = SMTPServer(journal=folder / "journal").start()
        self.receipts_file = folder / "receipts"
        self.spool = Spool(folder / "spool")
        self.settings = {
            **os.environ,
            "NOTIFICATION_ENABLED": "true",
            "REDIS_URL": self.redis.url,
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(self.smtp.port),
            "EMAIL_FROM": f"approval@{SENDER_DOMAIN}",
            "EMAIL_TO": f"operator@{SENDER_DOMAIN}",
            "NOTIFICATION_SPOOL_DIR": str(self.spool.folder),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(ROOT),
        }
        self.judged = False
        self._record = record
        self._programs: list[Program] = []
        self._hosts = 0
        self._recovering_since: float | None = None

    def close(self) -> None:
        for program in self._programs:
            program.kill()
        self.smtp.stop()
        self.redis.kill()

    # --- programs

    def celery(self, *arguments: str, **changes: str) -> Program:
        """Start ``celery -A approval_mail ...`` with these settings besides."""
        name = f"{arguments[0]}-{len(self._programs)}"
        if arguments[0] == "worker":
            arguments += ("--without-mingle",)  # It waits a second for other workers.
        program = Program.celery(*arguments, folder=self.folder, settings={**self.settings, **changes}, name=name)
        self._programs.append(program)
        return program

    def worker(self, *arguments: str, **changes: str) -> Program:
        """A worker that is ready."""
        return self.celery("worker", *arguments, **changes).ready()

    def beat(self, **changes: str) -> Program:
        return self.celery("beat", **changes)

    def start(self, *arguments: str) -> Program:
        """Start ``approval-mail ...``, which keeps running."""
        command = (sys.executable, "-c", "from approval_mail.cli import main; main()", *arguments)
        program = Program(*command, folder=self.folder, settings=self.settings, name=arguments[0])
        self._programs.append(program)
        return program

    def host(
        self,
        count: int,
        *,
        types: Sequence[str] = ("approval_approved",),
        threads: int = 1,
        per_second: float = 0,
        patient: bool = False,
        changes: dict[str, str] | None = None,
        **fields: Any,
    ) -> Program:
        """An application that tells ``count`` events and ends once its spool is empty; see host.py."""
        self._hosts += 1
        spec = {
            "receipts": str(self.receipts_file),
            "prefix": f"host{self._hosts}-",
            "count": count,
            "types": list(types),
            "threads": threads,
            "per_second": per_second,
            "patient": patient,
            "fields": fields,
        }
        command = (sys.executable, "-m", "tests.faults.host", json.dumps(spec))
        settings = {**self.settings, **(changes or {})}
        program = Program(*command, folder=self.folder, settings=settings, name=f"host-{self._hosts}")
        self._programs.append(program)
        return program

    def tell(self, count: int, **options: Any) -> Program:
        """A host's whole life: all its events are in Redis when this returns."""
        program = self.host(count, **options)
        assert program.process.wait(180) == 0, program.output()
        return program

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``approval-mail ...`` to its end, with what it said."""
        return run_to_its_end("approval_mail.cli", *arguments, folder=self.folder, settings=self.settings)

    # --- what is known

    @property
    def client(self) -> redis.Redis:
        return self.redis.client

    def receipts(self) -> dict[str, str]:
        """What hooks answered, by event id."""
        lines = self.receipts_file.read_text().splitlines() if self.receipts_file.exists() else []
        return {event_id: receipt for event_id, receipt, _ in (line.rsplit(" ", 2) for line in lines)}

    def slowest_call(self) -> float:
        """Seconds of the slowest call of a hook so far."""
        lines = self.receipts_file.read_text().splitlines()
        return max(float(line.rsplit(" ", 1)[1]) for line in lines) / 1000

    def counts(self) -> dict[str, int]:
        """Events by state, those that are not zero."""
        with self.redis.client as client:
            found = EventStore(client).count()
        names = ("pending", "deferred", "claimed", "sent", "dead", "suppressed")
        return {name: getattr(found, name) for name in names if getattr(found, name)}

    # --- faults

    def hurry_beat(self) -> None:
        """In the quick run, let beat gather every second in place of five; for programs that start later."""
        if not self.thorough:
            self.settings["NOTIFICATION_BATCH_TIMEOUT"] = "1"

    def leases_run_out(self) -> None:
        """Let 45 seconds pass for what a killed worker held: really, or by turning the store's entries back."""
        if not self.thorough:
            with self.redis.client as client:
                let_leases_run_out(client)

    def fault_begins(self) -> None:
        """From here on the time to recovery counts, unless `fault_ends` says better."""
        self._recovering_since = time.monotonic()

    fault_ends = fault_begins

    # --- the judge

    def is_quiet(self) -> bool:
        """Nothing waits on disk, and every event in Redis has ended."""
        try:
            return not self.spool.paths() and not set(self.counts()) & {"pending", "deferred", "claimed"}
        except redis.RedisError:
            return False

    def judge(self, *, explained: int = 0, within: float = 180) -> Ledger:
        """Wait until all is quiet, and compare hosts, store and mail server.

        Fails if an event is lost, if they disagree, or if there are more duplicates than the fault explains.
        """
        try:
            wait_for(self.is_quiet, seconds=within, saying="quiet")
        except AssertionError as error:
            logs = "".join(f"\n--- {program.log.name}\n{program.output()[-2000:]}" for program in self._programs)
            raise AssertionError(f"{error}; {self._last_counts()}{logs}") from None
        recovery = time.monotonic() - self._recovering_since if self._recovering_since else None
        with self.redis.client as client:
            everybody = self.settings["EMAIL_TO"].split(",")
            ledger = account(client, self.receipts(), self.folder / "journal", everybody)
            self._record("server", EventStore(client).server()["name"])
        self.judged = True
        self._record("judgement", [ledger.events, len(ledger.lost), ledger.duplicates, recovery])
        assert ledger.events, "no event was ever taken on"
        assert not ledger.lost, f"lost: {ledger.lost[:10]}"
        assert not ledger.disagreements, "\n".join(ledger.disagreements[:10])
        assert ledger.events == ledger.sent + ledger.dead + ledger.suppressed
        assert ledger.duplicates <= explained, f"{ledger.duplicates} duplicates, {explained} are explained"
        return ledger

    def _last_counts(self) -> str:
        try:
            return str(self.counts())
        except redis.RedisError as error:
            return str(error)
