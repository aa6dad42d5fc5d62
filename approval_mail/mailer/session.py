"""Sessions over connections that are kept open between batches while fresh."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from approval_mail.mailer.channel import Channel
from approval_mail.mailer.transaction import BeforeStep, Connection, Reply

logger = logging.getLogger(__name__)

#: Seconds. A connection idle for longer is not used again; servers drop idle clients after minutes.
_FRESH = 30.0


class Mailer:
    """Opens sessions to one channel and keeps connections open between them while fresh."""

    def __init__(self, channel: Channel, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` counts seconds and never goes back."""
        self.channel = channel
        self._clock = clock
        self._idle: deque[Connection] = deque()
        #: Until the server offers PIPELINING and does not keep to it.
        self._in_groups = True

    @contextlib.contextmanager
    def session(self, before_step: BeforeStep = lambda: None) -> Iterator[Session]:
        """A session with a working, logged-in connection; raises ChannelTrouble.

        ``before_step`` is called before each SMTP step; what it raises ends the session.
        """
        session = Session(self, before_step)
        try:
            session.open()
            yield session
        except BaseException:
            session.drop()
            raise
        session.keep()

    def connect(self, before_step: BeforeStep) -> Connection:
        """A connection kept from before that still answers, or a new one; raises ChannelTrouble."""
        while self._idle:
            connection = self._idle.pop()
            fresh = self._clock() - connection.idle_since < _FRESH
            if fresh and connection.used_up:
                connection.leave()
            elif fresh and connection.answers():
                connection.before_step = before_step
                return connection
            else:
                connection.abandon()
        connection = Connection(self.channel, before_step, in_groups=self._in_groups)
        try:
            connection.establish()
        except BaseException:
            connection.abandon()
            raise
        return connection

    def put_back(self, connection: Connection) -> None:
        connection.idle_since = self._clock()
        connection.before_step = lambda: None
        self._idle.append(connection)

    def use_no_groups(self) -> None:
        """Send envelopes command by command from the next connection on."""
        if self._in_groups:
            self._in_groups = False
            logger.warning("%s left commands that came together unanswered: now they go one by one", self.channel)

    def close(self) -> None:
        """Say goodbye on every kept connection."""
        while self._idle:
            self._idle.pop().leave()


class Session:
    """Mails sent one after the other; the connection is renewed when it broke or is used up."""

    def __init__(self, mailer: Mailer, before_step: BeforeStep) -> None:
        self._mailer = mailer
        self._before_step = before_step
        self._connection: Connection | None = None
        #: Whether a mail was handed over, and whether the server said anything of one: a login that it misses may be
        #: refused as late as that.
        self.used = self.answered = False

    def open(self) -> Connection:
        """Have a working connection; raises ChannelTrouble."""
        if self._connection and self._connection.used_up:
            # Not at once after its last mail: that one is settled first.
            self._connection.leave()
            self._connection = None
        if self._connection is None:
            self._connection = self._mailer.connect(self._before_step)
        return self._connection

    def probe(self, recipients: Sequence[str]) -> dict[str, str]:
        """Ask the server whether it would take mails for these, without sending one; answers the refusals.

        Raises ChannelTrouble.
        """
        connection = self.open()
        refusals = connection.probe(recipients)
        self.answered = True
        if connection.broken:
            self.drop()
        return refusals

    def send(self, recipient: str, content: bytes) -> Reply:
        """Hand one mail to the server in a transaction of its own.

        Raises ChannelTrouble, and then the server has not taken it.
        """
        connection = self.open()
        self.used = True
        try:
            reply = connection.transact(recipient, content)
        except BaseException:
            self.drop()
            raise
        self.answered |= reply.code is not None
        if connection.ignores_groups:
            self._mailer.use_no_groups()
        if connection.broken:
            self.drop()
        return reply

    def drop(self) -> None:
        """Close the connection without a word, in whatever state it is."""
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None

    def keep(self) -> None:
        """Leave the connection to the next session."""
        if self._connection is not None:
            self._mailer.put_back(self._connection)
            self._connection = None
