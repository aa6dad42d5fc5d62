"""The mails of a catcher as a small web site, for this machine only.

A mail is hostile until shown otherwise: its HTML is served alone, sandboxed and without network. It may do one
thing: where a person clicks a link, that opens in a tab of its own, which knows nothing of the inbox. A request under
a foreign host name is refused, so that no web page can read the inbox by pointing a name of its own at
127.0.0.1 (DNS rebinding).
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from approval_mail.demo.catcher import CaughtMail, MailCatcher
from approval_mail.demo.pages import SANDBOX, Pages
from approval_mail.demo.reading import read
from approval_mail.loopback import is_local
from approval_mail.rendering.decision_page import Page

_MAIL_PATH = re.compile(r"/mails/(\d{1,9})(?:/([a-z.]+))?")
#: Seconds. A browser sends its request at once; what says nothing holds a thread.
_REQUEST_TIMEOUT = 10.0

_PAGE_POLICY = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; frame-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_BODY_POLICY = (
    f"sandbox {SANDBOX}; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
#: Makes a mail's links open in a tab of their own; before the mail's own, for the first one counts.
_LINKS_OPEN_TABS = '<base target="_blank">'
#: A document's type and what else may stand before its content, up to where its head begins.
_BEFORE_HEAD = re.compile(r"(\s|<!--.*?-->|<!doctype[^>]*>|<html\b[^>]*>|<head\b[^>]*>)*", re.IGNORECASE | re.DOTALL)
_NOTHING_POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    # A tab that a mail opens has no way back to the page that shows the mail.
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Inbox:
    """A web server on 127.0.0.1, in threads of its own."""

    def __init__(
        self,
        catcher: MailCatcher,
        *,
        delay: Callable[[CaughtMail], float | None] = lambda mail: None,
        command: str = "",
        port: int = 0,
    ) -> None:
        """``delay`` tells the seconds from hook to acceptance, ``command`` how to cause one more mail.

        ``port`` 0 is any free one. Raises OSError if the port cannot be used.
        """
        self._server = _Server(
            catcher, Pages(where=f"mail server 127.0.0.1:{catcher.port}", delay=delay, command=command), port
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="inbox", daemon=True)

    def start(self) -> None:
        """Answer requests from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, catcher: MailCatcher, pages: Pages, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.catcher = catcher
        self.pages = pages

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when a browser went away before its answer did."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_TIMEOUT

    def do_GET(self) -> None:
        """Answer one request."""
        if not is_local(self.headers.get("Host", "")):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "this inbox answers to 127.0.0.1 and localhost only")
            return
        path = urlsplit(self.path).path
        mails = self.server.catcher.mails
        if path == "/":
            self._page(self.server.pages.inbox(mails))
        elif path == "/mails.json":
            self._answer("application/json", self.server.pages.listing(mails).encode(), _NOTHING_POLICY)
        elif match := _MAIL_PATH.fullmatch(path):
            mail = next((mail for mail in mails if mail.number == int(match[1])), None)
            self._mail(mail, match[2]) if mail else self._missing()
        else:
            self._missing()

    def _mail(self, mail: CaughtMail, part: str | None) -> None:
        if part == "body":
            html = _with_links_in_tabs(read(mail.raw).html or "")
            self._answer("text/html; charset=utf-8", html.encode("utf-8", "replace"), _BODY_POLICY)
        elif part == "mail.eml":
            self._answer("message/rfc822", mail.raw, _NOTHING_POLICY, attachment=f"mail-{mail.number}.eml")
        else:
            self._page(self.server.pages.mail(self.server.catcher.mails, mail, part))

    def _page(self, page: Page) -> None:
        policy = _PAGE_POLICY.format(nonce=page.nonce)
        self._answer("text/html; charset=utf-8", page.html.encode("utf-8", "replace"), policy)

    def _missing(self) -> None:
        self._refuse(HTTPStatus.NOT_FOUND, "no such page; the list is at /")

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        self._answer("text/plain; charset=utf-8", sentence.encode(), _NOTHING_POLICY, status=status)

    def _answer(
        self, kind: str, content: bytes, policy: str, *, status: HTTPStatus = HTTPStatus.OK, attachment: str = ""
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", policy)
        if attachment:
            self.send_header("Content-Disposition", f'attachment; filename="{attachment}"')
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal is the demo's."""


def _with_links_in_tabs(html: str) -> str:
    head = _BEFORE_HEAD.match(html)
    place = head.end() if head else 0
    return html[:place] + _LINKS_OPEN_TABS + html[place:]
