"""A mail server that accepts everything, keeps it in memory and tells whoever is listening."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from aiosmtpd.smtp import SMTP, Envelope, Session

#: Mails. The oldest are forgotten first, so that a demo left running does not fill the memory.
KEPT = 500


@dataclass(frozen=True, slots=True)
class CaughtMail:
    """One accepted mail as it came over the wire."""

    #: Counts from 1 in order of arrival.
    number: int
    #: The envelope's, not the header's.
    sender: str
    #: The envelope's, not the header's.
    recipients: tuple[str, ...]
    #: Header and body, lines ending in CRLF.
    raw: bytes
    #: When the server answered 250 to the final dot; aware.
    at: datetime
    #: The same instant in seconds of ``time.monotonic``.
    monotonic: float


class MailCatcher:
    """An SMTP server on 127.0.0.1, in a thread of its own."""

    def __init__(self, listener: Callable[[CaughtMail], None] = lambda mail: None, *, port: int = 0) -> None:
        """``listener`` is called in the server's thread, before the client sees the 250; ``port`` 0 is any free one.

        Raises OSError if the port cannot be used.
        """
        self._listener = listener
        self._mails: tuple[CaughtMail, ...] = ()
        self._count = 0
        self._sessions: list[SMTP] = []
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="mail-catcher", daemon=True)

    def start(self) -> None:
        """Accept connections from now on; those made since construction have waited in the backlog."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def mails(self) -> tuple[CaughtMail, ...]:
        """The mails that are kept, oldest first."""
        return self._mails

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Keep one mail; aiosmtpd calls this at the final dot and sends the answer."""
        self._count += 1
        mail = CaughtMail(
            number=self._count,
            sender=envelope.mail_from or "",
            recipients=tuple(envelope.rcpt_tos),
            raw=bytes(envelope.original_content or b""),
            at=datetime.now(timezone.utc),
            monotonic=time.monotonic(),
        )
        self._mails = (*self._mails, mail)[-KEPT:]
        self._listener(mail)
        return f"250 OK: mail {mail.number}"

    def _serve(self) -> None:
        server = self._loop.run_until_complete(self._loop.create_server(self._session, sock=self._socket))
        self._loop.run_forever()
        server.close()
        for session in self._sessions:
            if isinstance(session.transport, asyncio.WriteTransport):
                session.transport.abort()
        self._loop.run_until_complete(self._finish())
        self._loop.close()

    def _session(self) -> SMTP:
        self._sessions = [session for session in self._sessions if session.transport is not None]
        # A hostname given, or aiosmtpd asks the resolver for one and waits for the answer.
        session = SMTP(self, hostname="localhost", ident="approval-mail inbox", enable_SMTPUTF8=True, loop=self._loop)
        self._sessions.append(session)
        return session

    async def _finish(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
