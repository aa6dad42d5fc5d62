"""The access token of a login, read anew for each: one that was refreshed meanwhile takes effect by itself.

Neither a token nor anything that a command wrote is ever shown, not even its standard error: a traced
shell or a talkative HTTP client writes the token there as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import selectors
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, cast

from approval_mail.errors import ChannelTrouble
from approval_mail.mailer.channel import Channel
from approval_mail.mailer.trouble import trouble

#: Bytes. Above what fits into a line of the login exchange (12,288 in base64, RFC 4954 section 4).
_MOST = 16384
#: Printable ASCII without white space. A brace opens the JSON that token services answer, of which the token is a part.
_TOKEN = re.compile(rb"(?!\{)[!-~]+")


def read_token(channel: Channel) -> str:
    """The token from the channel's file or command, within the channel's timeout; raises ChannelTrouble."""
    if channel.token_file:
        found = _from_file(channel, channel.token_file)
        empty, garbage = "is empty", "holds no access token"
        mend = "let whatever refreshes the token write the access token alone into the file, in printable ASCII"
    else:
        found = _from_command(channel)
        empty, garbage = "printed nothing", "printed something that is no access token"
        mend = "let the command print the access token alone, in printable ASCII"
    token = found.strip()
    if not token:
        raise _trouble(channel, empty, permanent=False, next_step=mend)
    if len(found) > _MOST or not _TOKEN.fullmatch(token):
        raise _trouble(channel, garbage, permanent=True, next_step=mend)
    return token.decode("ascii")


def _from_file(channel: Channel, path: Path) -> bytes:
    try:
        if path.is_fifo():  # It would be waited for.
            raise OSError(errno.EINVAL, "it is a pipe")
        with path.open("rb") as file:
            return file.read(_MOST + 1)
    except OSError as error:
        raise _trouble(
            channel,
            f"cannot be read: {error.strerror}",
            permanent=not isinstance(error, FileNotFoundError),  # It may be about to be replaced.
            next_step="let whatever refreshes the token write that file, and let this process's user read it",
        ) from error


def _from_command(channel: Channel) -> bytes:
    """What the command prints; at its deadline it is killed with all that it started."""
    deadline = time.monotonic() + channel.timeout
    try:
        process = subprocess.Popen(  # noqa: S603 - the operator's own command
            channel.token_command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise _trouble(
            channel,
            f"cannot be started: {error.strerror}",
            permanent=True,
            next_step="let the command begin with a program that this process's user may run",
        ) from error
    try:
        printed = _printed(process, deadline)
        status = 0 if len(printed) > _MOST else process.wait(max(0.0, deadline - time.monotonic()))
    except (TimeoutError, subprocess.TimeoutExpired):
        raise _trouble(
            channel,
            f"did not end within {channel.timeout:g} s",
            permanent=False,
            next_step="run the command by hand as this process's user and see what it waits for",
        ) from None  # Its cause repeats the command's words, and a secret may be among them.
    finally:
        _end(process)
    if status:
        raise _trouble(
            channel,
            f"failed with exit status {status}" if status > 0 else f"was ended by signal {-status}",
            permanent=False,
            next_step="run the command by hand as this process's user and see what it says",
        )
    return printed


def _printed(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Standard output until it is closed or is too much for a token; raises TimeoutError."""
    pipe = cast("IO[bytes]", process.stdout)
    text = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while len(text) <= _MOST:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            piece = os.read(pipe.fileno(), _MOST)
            if not piece:
                break
            text += piece
    return text


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a command that still runs, with its children: they are a session, and thus a process group, of their own."""
    cast("IO[bytes]", process.stdout).close()
    if process.returncode is None:
        # One that runs as another user, by sudo, cannot be killed from here.
        with contextlib.suppress(ProcessLookupError, PermissionError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(1)


def _trouble(channel: Channel, what: str, *, permanent: bool, next_step: str) -> ChannelTrouble:
    """The trouble of this source; what waiting may mend, such as a network that is down, is not permanent."""
    source = f"={channel.token_file}" if channel.token_file else ""
    return trouble(channel, "auth", f"{channel.credential}{source} {what}", permanent=permanent, next_step=next_step)
