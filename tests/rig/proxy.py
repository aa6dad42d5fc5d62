"""A TCP proxy before a server: it can hold replies back, lose them, close one half, and turn to another server."""

from __future__ import annotations

import contextlib
import enum
import socket
import threading
import time
from collections.abc import Callable

from tests.rig.redis_server import free_port

#: Sees what a client sent last, and what the server says next; False: the reply is lost.
Judge = Callable[[bytes, bytes], bool]


class Loss(enum.Enum):
    """What a client sees of a reply that is lost."""

    #: Both directions are closed.
    CLOSED = "closed"
    #: The server's half is closed; the client's is still read, and nobody answers.
    HALF_CLOSED = "half-closed"
    #: Nothing at all, for ever.
    SILENT = "silent"


class Proxy:
    """Listens on 127.0.0.1 and relays both directions of each connection to ``port``, which may change."""

    def __init__(self, port: int, judge: Judge = lambda _, __: True, *, loss: Loss = Loss.CLOSED) -> None:
        #: Where connections go that are made from now on.
        self.upstream = port
        #: Seconds before each part of a reply is passed on.
        self.delay = 0.0
        self._judge = judge
        self._loss = loss
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        # One that no outgoing connection can take while this refuses.
        self.port = free_port()
        self.accept()

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()

    def refuse(self) -> None:
        """Cut every connection, and refuse further ones until `accept`."""
        if self._listener is not None:
            # A blocked accept() keeps the port listening until it is woken.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.cut()

    def accept(self) -> None:
        """Listen, again after `refuse`."""
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def turn_to(self, port: int) -> None:
        """Lead to another server; connections to the one before are cut."""
        self.upstream = port
        self.cut()

    def cut(self) -> None:
        """Close every connection."""
        with self._lock:
            for sock in self._open:
                _close(sock)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with peer:
            try:
                upstream = socket.create_connection(("127.0.0.1", self.upstream))
            except OSError:
                return  # Nobody is there.
            with upstream:
                with self._lock:
                    self._open |= {peer, upstream}
                said = _Said()
                forth = threading.Thread(target=self._pass_on, args=(peer, upstream, said), daemon=True)
                forth.start()
                self._pass_back(upstream, peer, said)
                forth.join()
                with self._lock:
                    self._open -= {peer, upstream}

    @staticmethod
    def _pass_on(peer: socket.socket, upstream: socket.socket, said: _Said) -> None:
        with contextlib.suppress(OSError):  # One of them went away.
            while request := peer.recv(65536):
                said.last = request
                upstream.sendall(request)
        _close(upstream)

    def _pass_back(self, upstream: socket.socket, peer: socket.socket, said: _Said) -> None:
        with contextlib.suppress(OSError):
            while reply := upstream.recv(65536):
                if self.delay:
                    time.sleep(self.delay)
                if self._judge(said.last, reply):
                    peer.sendall(reply)
                elif self._loss is Loss.CLOSED:
                    break
                elif self._loss is Loss.HALF_CLOSED:
                    peer.shutdown(socket.SHUT_WR)
                    return
                else:
                    return
        _close(peer)


class _Said:
    """What a client sent last."""

    last = b""


def _close(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
