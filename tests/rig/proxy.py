"""A TCP proxy before a server that answers each request once: it can hold replies back, or drop them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

#: Sees a request and its reply; False: drop the reply and the connection.
Judge = Callable[[bytes, bytes], bool]


class Proxy:
    """Listens on 127.0.0.1 and relays to ``port``."""

    def __init__(self, port: int, judge: Judge) -> None:
        self._upstream = port
        self._judge = judge
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # A blocked accept() keeps the port listening until it is woken.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(peer,), daemon=True).start()

    def _relay(self, peer: socket.socket) -> None:
        try:
            with peer, socket.create_connection(("127.0.0.1", self._upstream)) as upstream:
                while request := peer.recv(65536):
                    upstream.sendall(request)
                    reply = upstream.recv(65536)
                    if not self._judge(request, reply):
                        return
                    peer.sendall(reply)
        except OSError:
            return  # The client has given up, as it should.
