"""A program that runs a command for as long as its starter lives, and no longer.

    starter ──pipe──▶ guard (own session) ──▶ command (own process group) ──▶ its children

The starter holds the only write end of the pipe that is the guard's stdin. However the starter
ends, SIGKILL included, the kernel closes that end; the guard reads end of file and ends the
command's whole group. A command that ends by itself takes its group and the guard along.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys

#: Seconds from SIGTERM to SIGKILL: enough for an idle worker to stop its pool, short enough that
#: whoever killed the demo sees nothing of it a moment later.
GRACE = 4.0

#: ``PR_SET_PDEATHSIG`` of prctl(2).
_PR_SET_PDEATHSIG = 1
#: Loaded before the fork; None where the kernel has no prctl.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_STDIN = 0


def main(command: list[str]) -> int:
    """Run ``command`` until it or the starter ends; its exit code, 128 + n if signal n ended it."""
    wake, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A handler, not SIG_IGN: the command would inherit an ignored signal.
        signal.signal(number, lambda *_: None)
    try:
        child = subprocess.Popen(  # noqa: S603 the starter's own command
            command,
            stdin=subprocess.DEVNULL,
            preexec_fn=_set_apart,  # noqa: PLW1509 the guard has one thread
        )
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", file=sys.stderr)
        return 127
    _wait(child, wake)
    code = _end(child)
    return code if code >= 0 else 128 - code


def _set_apart() -> None:
    """Give the command a group that the guard can end without ending itself."""
    os.setpgid(0, 0)
    if _LIBC:
        # Should the guard itself be killed, Linux ends the command in its stead.
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(child: subprocess.Popen[bytes], wake: int) -> None:
    """Return when the command has ended, the starter is gone or a signal asks for the end."""
    while child.poll() is None:
        readable, _, _ = select.select([_STDIN, wake], [], [])
        if _STDIN in readable and not os.read(_STDIN, 1024):
            return
        if wake in readable and set(os.read(wake, 1024)) - {signal.SIGCHLD}:
            return


def _end(child: subprocess.Popen[bytes]) -> int:
    """End what is left of the command's group, politely first; the command's exit code."""
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE)
    # PermissionError is macOS's word for a group of which only zombies are left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[sys.argv.index("--") + 1 :]))
