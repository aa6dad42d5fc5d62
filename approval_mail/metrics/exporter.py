"""A web server of one page, /metrics, for Prometheus.

prometheus_client's own server answers any path, gives a failure its stack trace and no limit of time to a client that
says nothing.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

from approval_mail.metrics.rows import CONTENT_TYPE
from approval_mail.metrics.scrapes import Scrapes
from approval_mail.stopping import exit_on_signals
from approval_mail.store import StoreError

logger = logging.getLogger(__name__)

PATH = "/metrics"
#: Seconds that one connection may take, however it spends them; a look takes two.
_CONNECTION_TIMEOUT = 15.0
#: Connections at a time; a further one is closed at once.
_CONNECTIONS = 32
_SENTENCE = "text/plain; charset=utf-8"


class Exporter(ThreadingTCPServer):
    """Answers each scrape in a thread of its own, so that none waits for another's network."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, scrapes: Scrapes, host: str, port: int) -> None:
        """Listens from now on; port 0: a free one. Raises OSError."""
        self.address_family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self.scrapes = scrapes
        self._room = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__(address, _Handler)  # type: ignore[arg-type] # an IPv6 address has four parts

    @property
    def url(self) -> str:
        """Where the metrics are."""
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}{PATH}" if ":" in host else f"http://{host}:{port}{PATH}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a thread for a connection, if there is room for one more."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # There can be no more threads.
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, and end it when its time is over."""
        ending = threading.Timer(_CONNECTION_TIMEOUT, _end, (request,))
        ending.daemon = True
        try:
            ending.start()
            super().process_request_thread(request, client_address)
        finally:
            ending.cancel()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when a scraper went away before its answer came, or was sent away."""
        raised = sys.exc_info()
        if not isinstance(raised[1], ConnectionError):
            logger.error("A scrape failed", exc_info=raised)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # It may be gone.
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: Exporter

    def do_GET(self) -> None:
        """Answer one scrape."""
        if self.path.partition("?")[0] != PATH:
            self._answer(
                HTTPStatus.NOT_FOUND, _SENTENCE, f"there is no such page; the metrics are at {PATH}\n".encode()
            )
            return
        try:
            text = self.server.scrapes.text()
        except StoreError:
            sentence = b"Redis cannot be used, so there are no metrics; the log of this program has the reason\n"
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, _SENTENCE, sentence)
        else:
            self._answer(HTTPStatus.OK, CONTENT_TYPE, text)

    def _answer(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def version_string(self) -> str:
        """The product's name alone, in the header Server."""
        return "approval-mail"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a scrape comes every few seconds."""


def serve(exporter: Exporter) -> None:
    """Answer scrapes until SIGTERM or SIGINT, which end the program well."""
    exit_on_signals()
    logger.info("Serving metrics on %s", exporter.url)
    # What is there by now stays for good. Python looks for what a look leaves behind, as connections do, once that is a
    # quarter of all objects that its last search looked at: without these, soon.
    gc.freeze()
    gc.collect()
    exporter.serve_forever()
