"""The body of a request: read at most once, so much of it, and for so long."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from approval_mail.api.problems import Problem

#: Seconds that a body may take; the longest needs 26 KB/s for that.
DEADLINE = 10.0
#: Seconds and bytes of a body that nobody reads which may still pass by, so that a client which sends before it
#: listens gets its answer and not a broken connection.
SKIP_SECONDS, _SKIP_BYTES = 1.0, 256 * 1024


class Body:
    """What a client sends along with one request."""

    def __init__(self, headers: Headers, receive: Receive) -> None:
        self._length = headers.get("Content-Length", "")
        self._receive = receive
        #: Whether nothing of it is left on the connection.
        self.ended = self._length in ("", "0") and "Transfer-Encoding" not in headers
        self._is_late = False

    def exceeds(self, limit: int) -> bool:
        """Whether it is announced to be longer than that many bytes."""
        return self._length.isdecimal() and (len(self._length) > len(str(limit)) or int(self._length) > limit)

    async def read(self, limit: int) -> bytes:
        """The whole body; of one longer than ``limit`` bytes what is enough to see that it is.

        Raises Problem when it takes too long, ClientDisconnect if it ends early.
        """
        try:
            return await asyncio.wait_for(self._read(limit), DEADLINE)
        except asyncio.TimeoutError:
            self._is_late = True
            raise _late() from None

    async def skip(self) -> None:
        """Let the rest pass by, if it is short and comes soon."""
        if self.ended or self._is_late or self.exceeds(_SKIP_BYTES):
            return
        try:
            await asyncio.wait_for(self._pass_by(), SKIP_SECONDS)
        except (asyncio.TimeoutError, ClientDisconnect):
            return

    async def _read(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while not self.ended and size <= limit:
            parts.append(await self._next())
            size += len(parts[-1])
        return b"".join(parts)

    async def _pass_by(self) -> None:
        size = 0
        while not self.ended and size <= _SKIP_BYTES:
            size += len(await self._next())

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self.ended = not message.get("more_body")
        return bytes(message.get("body", b""))


def _late() -> Problem:
    return Problem(
        HTTPStatus.REQUEST_TIMEOUT,
        "too_slow",
        f"the body did not arrive within {DEADLINE:.0f} s: send it again, at once",
        field="body",
        headers={"Connection": "close"},
    )
