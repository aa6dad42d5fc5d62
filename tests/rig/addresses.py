"""A name with several addresses of which the first say nothing, as a dead host or IPv6 that leads nowhere."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

NAME = "several.example"


@contextlib.contextmanager
def silent_addresses(patch: pytest.MonkeyPatch, count: int, *, last: int | None = None) -> Iterator[None]:
    """Let `NAME` have so many addresses that answer nothing, and at the end 127.0.0.1 with the port ``last``."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            ports.append(server.getsockname()[1])
            for _ in range(3):  # Of a full queue Linux drops the next SYN.
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", ports[-1]))
        usual = socket.getaddrinfo

        def find(host: Any, *args: Any, **options: Any) -> Any:
            if host != NAME:
                return usual(host, *args, **options)
            every = [*ports, last] if last else ports
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in every]

        patch.setattr(socket, "getaddrinfo", find)
        yield
