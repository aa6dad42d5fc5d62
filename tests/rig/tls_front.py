"""TLS in front of a plain server: the Redis-compatible server at hand has none of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from typing import Any


class TLSFront:
    """Listens on 127.0.0.1 with ``context`` and relays what it decrypts to ``port``, both ways at once."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.port = 0
        #: Seconds before each part of a reply.
        self.delay = 0.0
        #: Handshakes that clients went through with.
        self.connections = 0
        self._upstream = port
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> TLSFront:
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        self._loop.set_exception_handler(_tell)
        self._loop.run_until_complete(self._listen())

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._end.wait()
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)  # Each is told of its end by the loop's next rounds.
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError):  # The server, or the client, went away.
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
            await asyncio.gather(self._relay(reader, upstream_writer), self._relay(upstream_reader, writer, reply=True))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, reply: bool = False) -> None:
        self._writers.add(writer)
        try:
            while some := await reader.read(65536):
                await asyncio.sleep(self.delay * reply)
                writer.write(some)
                await writer.drain()
        finally:
            writer.close()


def _tell(loop: asyncio.AbstractEventLoop, what: dict[str, Any]) -> None:
    # A client that does not trust the certificate ends its handshake with an SSLError, an OSError: that is no news.
    if not isinstance(what.get("exception"), OSError):
        loop.default_exception_handler(what)
