"""A person with a web browser, for a demo that nobody watches: opens a page and sends its form, filled in."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.client import HTTPException
from http.cookiejar import CookieJar
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin

from approval_mail.errors import ApprovalMailError

#: Seconds that a page may take.
_PAGE_WITHIN = 10.0


class PageRefused(ApprovalMailError):
    """A page did not open, has no form, or did not take it; the message says which."""


@dataclass(slots=True)
class _Form:
    action: str = ""
    #: What is sent if nobody touches the form.
    preset: dict[str, str] = field(default_factory=dict)
    #: What is sent of boxes once they are ticked.
    ticks: dict[str, str] = field(default_factory=dict)
    #: Names of fields for free text.
    texts: list[str] = field(default_factory=list)


class Visitor:
    """Keeps the cookies of one visit; goes straight to the server, whatever proxy is set."""

    def __init__(self) -> None:
        self._browser = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(CookieJar())
        )

    def send_form(self, url: str, *, text: str) -> None:
        """Open ``url``, tick every box of its form, write ``text`` where one may write, and press its button.

        Raises PageRefused.
        """
        reader = _FormReader()
        reader.feed(self._open(url))
        if reader.form is None:
            raise PageRefused(f"there is no form on {url}")
        form = reader.form
        self._open(urljoin(url, form.action), {**form.preset, **form.ticks, **dict.fromkeys(form.texts, text)})

    def _open(self, url: str, fields: Mapping[str, str] | None = None) -> str:
        body = urlencode(fields).encode() if fields is not None else None
        try:
            with self._browser.open(url, body, _PAGE_WITHIN) as answer:
                return str(answer.read().decode())
        except HTTPError as error:
            with error:
                raise PageRefused(f"{url} answered {error.code}") from error
        except (OSError, HTTPException) as error:
            raise PageRefused(f"{url} did not open: {error}") from error


class _FormReader(HTMLParser):
    """Finds a page's first form."""

    def __init__(self) -> None:
        super().__init__()
        self.form: _Form | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        name, value = given.get("name", ""), given.get("value", "")
        if tag == "form" and self.form is None:
            self.form = _Form(action=given.get("action", ""))
        elif self.form is None or not name:
            return
        elif tag == "textarea" or (tag == "input" and given.get("type", "text") == "text"):
            self.form.texts.append(name)
        elif tag == "input" and given["type"] == "checkbox":
            self.form.ticks[name] = value or "on"
        elif tag in ("input", "button"):
            self.form.preset[name] = value
