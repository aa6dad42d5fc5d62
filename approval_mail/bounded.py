"""Redis connections whose steps share one deadline (redis-py's timeouts are per step), and that follow a failover."""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import redis

#: By time.monotonic(); None: the connection's own timeouts alone hold.
_deadline: contextvars.ContextVar[float | None] = contextvars.ContextVar("approval_mail_deadline", default=None)
#: Seconds. A step that begins after the deadline gets this, and so fails the way that redis-py cleans up after.
_NO_TIME = 0.001


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let everything that bounded connections do in here take so many seconds together."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def left(usual: float | None) -> float | None:
    """What a step may take that takes ``usual`` seconds at the most (None: any time) where no deadline holds."""
    deadline = _deadline.get()
    if deadline is None:
        return usual
    remaining = max(deadline - time.monotonic(), _NO_TIME)
    return remaining if usual is None else min(remaining, usual)


if TYPE_CHECKING:
    # What the mixin below is mixed into.
    _Base = redis.Connection
else:
    _Base = object


class _Bounded(_Base):
    """Shortens each step's timeout to what is left of the deadline; leaves a server that is no longer the master."""

    _shortened = False
    #: What was the master is a replica now. Its name may lead to the new one, which a new connection finds.
    _left_behind = False

    def _shorten(self) -> None:
        usual = self.socket_timeout
        seconds = left(usual)
        if self._sock is not None and (self._shortened or seconds != usual):
            self._sock.settimeout(seconds)
            self._shortened = seconds != usual

    # redis-py looks at it for each address of a host.
    @property
    def socket_connect_timeout(self) -> float | None:
        return left(self._socket_connect_timeout)

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, seconds: float | None) -> None:
        self._socket_connect_timeout = seconds

    def send_packed_command(self, *args: Any, **options: Any) -> Any:
        if self._left_behind:  # Not at once: more replies may be on their way.
            self.disconnect()  # type: ignore[no-untyped-call]
            self._left_behind = False
        self._shorten()
        return super().send_packed_command(*args, **options)  # type: ignore[no-untyped-call]

    def read_response(self, *args: Any, **options: Any) -> Any:
        self._shorten()
        try:
            return super().read_response(*args, **options)
        except redis.ResponseError as error:
            # Redis 6.2 says it of a script in other words.
            self._left_behind |= isinstance(error, redis.ReadOnlyError) or "-READONLY " in str(error)
            raise


class BoundedConnection(_Bounded, redis.Connection):
    """For ``redis://``."""


class BoundedSSLConnection(_Bounded, redis.SSLConnection):
    """For ``rediss://``."""

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        sock.settimeout(left(self.socket_timeout))
        secured = super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
        self._shortened = True  # The handshake's timeout stays on the socket.
        return secured
