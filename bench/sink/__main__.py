"""The sink's process: serves SMTP on a port that it prints, and answers questions about what arrived.

Each question is a line on its standard input, each answer a line of JSON; it ends with its input.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import ssl
import sys
import threading
import time

from bench.sink.connection import Connection, Manner

#: When the first mail for each key was accepted, by time.monotonic().
_arrivals: dict[str, float] = {}
_accepted: list[float] = []


def _keep(key: str) -> None:
    now = time.monotonic()
    _accepted.append(now)
    _arrivals.setdefault(key, now)


def _accept(listener: socket.socket, manner: Manner) -> None:
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve, args=(sock, manner), daemon=True).start()


def _serve(sock: socket.socket, manner: Manner) -> None:
    with contextlib.suppress(OSError):  # The client left without a word.
        Connection(sock, manner, _keep).serve()


def _answer(question: str) -> object:
    if question == "arrivals":
        return dict(_arrivals)  # While this is told, others arrive.
    if question == "reset":
        _arrivals.clear()
        _accepted.clear()
    return {"accepted": len(_accepted), "keys": len(_arrivals)}


def main() -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m bench.sink")
    parser.add_argument("--certificate", help="PEM file with key and chain: STARTTLS and a login are required")
    parser.add_argument("--delay", type=float, default=0, help="seconds before each reply")
    parser.add_argument("--dot-delay", type=float, default=0, help="seconds before the reply to the final dot")
    given = parser.parse_args()
    tls = None
    if given.certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(given.certificate)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    manner = Manner(tls, given.delay, max(given.delay, given.dot_delay))
    threading.Thread(target=_accept, args=(listener, manner), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(line.strip())), flush=True)


main()
