"""The bench's own server: tells arrivals to the microsecond; plain, with STARTTLS and a login, or slow."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trustme

from bench.sink.connection import PASSWORD, USER
from bench.sink.handle import Sink

#: Seconds before each reply of the slow sink, and before that to the final dot.
_SLOW = ("--delay", "0.002", "--dot-delay", "0.010")


class OwnSink(Sink):
    """A process of bench.sink: ``plain``, ``tls`` (STARTTLS and a login are required) or ``slow``."""

    name = "bench/sink"

    def __init__(self, kind: str, folder: Path, env: Mapping[str, str]) -> None:
        """``folder`` takes the certificates, ``env`` is the process's environment."""
        self.settings = {"SMTP_HOST": "127.0.0.1", "SMTP_USE_TLS": "false"}
        options: tuple[str, ...] = ()
        if kind == "tls":
            authority, certificate = folder / "ca.pem", folder / "certificate.pem"
            made = trustme.CA()
            made.cert_pem.write_to_path(authority)
            made.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
            options = ("--certificate", str(certificate))
            self.settings |= {
                "SMTP_USE_TLS": "true",
                "SMTP_TLS_CA_FILE": str(authority),
                "SMTP_USER": USER,
                "SMTP_PASSWORD": PASSWORD,
            }
        elif kind == "slow":
            options = _SLOW
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.sink", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(env),
            cwd=folder,
            start_new_session=True,
        )
        self.settings["SMTP_PORT"] = str(self._read())

    def accepted(self) -> int:
        return int(self._ask("count")["accepted"])

    def recipients(self) -> int:
        return int(self._ask("count")["keys"])

    def arrivals(self) -> dict[str, float]:
        return dict(self._ask("arrivals"))

    def reset(self) -> None:
        self._ask("reset")

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _ask(self, question: str) -> Any:
        assert self._process.stdin
        self._process.stdin.write(f"{question}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())
