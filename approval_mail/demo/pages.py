"""The inbox's pages as text: a list of mails, one mail beside it, the list as JSON.

What comes from a mail passes through `escape` here; its HTML is only ever named in a frame's ``src``.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from string import Template

from approval_mail.demo.catcher import CaughtMail
from approval_mail.demo.reading import Reading, read
from approval_mail.fields import plain
from approval_mail.rendering.decision_page import Page

#: What a mail's HTML may do, as its frame and its own policy say: open links in tabs, which are not sandboxed.
SANDBOX = "allow-popups allow-popups-to-escape-sandbox"
#: The tabs of a mail in their order, by the last part of their path.
PARTS = {"html": "HTML", "text": "Text", "source": "Source"}

_PAGE = Template(files("approval_mail.demo").joinpath("inbox.html").read_text("utf-8"))
#: Filled here, and by the page's script for mails that arrive later.
_ROW = Template(
    '<li><a href="/mails/$number"$current><span class="subject">$subject</span><span class="facts">'
    '<span class="to">$to</span><span class="delay">$delay</span><time class="time">$time</time></span></a></li>'
)
_MAIL = Template(
    '<div class="head"><h2>$subject</h2><p><span>to $to</span><span>from $sender</span><time>$time</time>'
    '<span class="delay">$delay</span></p></div><nav class="tabs" aria-label="Parts">$tabs'
    '<a class="file" href="/mails/$number/mail.eml">Save .eml</a></nav>$body'
)
_TAB = Template('<a href="/mails/$number/$part"$current>$label</a>')
_FRAME = Template(f'<iframe sandbox="{SANDBOX}" src="/mails/$number/body" title="The mail as HTML"></iframe>')
_ABOUT = Template(
    '<div class="about"><h2>Mails arrive here</h2><p>Each mail that is sent to the mail server named above '
    "is accepted and shown in this list. Nothing leaves this machine.</p>$more</div>"
)
_MORE = Template("<p>One more, from another shell:</p><pre>$command</pre>")
#: Without scripts the list grows all the same.
_REFRESH = '<noscript><meta http-equiv="refresh" content="3"></noscript>'
_CURRENT = ' aria-current="true"'


class Pages:
    """Makes the documents from mails."""

    def __init__(self, *, where: str, delay: Callable[[CaughtMail], float | None], command: str) -> None:
        """``where`` names the mail server; ``delay`` and ``command`` are as for `Inbox`."""
        self._where = where
        self._delay = delay
        self._command = command

    def inbox(self, mails: Sequence[CaughtMail]) -> Page:
        """The list, newest first, and how to cause one more mail."""
        more = _MORE.substitute(command=escape(self._command)) if self._command else ""
        return self._page(mails, kind="listing", title="Inbox", refresh=_REFRESH, main=_ABOUT.substitute(more=more))

    def mail(self, mails: Sequence[CaughtMail], mail: CaughtMail, part: str | None) -> Page:
        """One mail, with its ``part`` (a key of PARTS) shown; None: the first that it has."""
        reading = read(mail.raw)
        parts = _parts(reading)
        shown = part if part in parts else parts[0]
        tabs = "".join(
            _TAB.substitute(number=mail.number, part=name, label=PARTS[name], current=_CURRENT if name == shown else "")
            for name in parts
        )
        main = _MAIL.substitute(
            self._escaped(mail), sender=escape(plain(mail.sender)), tabs=tabs, body=_body(mail, reading, shown)
        )
        return self._page(mails, kind="reading", title=reading.subject, chosen=mail.number, main=main)

    def listing(self, mails: Sequence[CaughtMail]) -> str:
        """The list as JSON, newest first: ``[{"number", "subject", "to", "time", "delay"}]``, all texts but number."""
        return json.dumps([self._facts(mail) for mail in reversed(mails)], ensure_ascii=False)

    def _facts(self, mail: CaughtMail) -> dict[str, str | int]:
        delay = self._delay(mail)
        return {
            "number": mail.number,
            "subject": read(mail.raw).subject,
            "to": plain(", ".join(mail.recipients)),
            "time": f"{mail.at.astimezone():%H:%M:%S}",
            "delay": "" if delay is None else f"{delay:.2f} s",
        }

    def _escaped(self, mail: CaughtMail) -> dict[str, str]:
        return {name: escape(str(value)) for name, value in self._facts(mail).items()}

    def _page(
        self, mails: Sequence[CaughtMail], *, kind: str, title: str, main: str, refresh: str = "", chosen: int = 0
    ) -> Page:
        rows = "".join(
            _ROW.substitute(self._escaped(mail), current=_CURRENT if mail.number == chosen else "")
            for mail in reversed(mails)
        )
        blank = dict.fromkeys(("number", "current", "subject", "to", "delay", "time"), "")
        nonce = secrets.token_urlsafe(16)
        html = _PAGE.substitute(
            kind=kind,
            title=escape(title),
            refresh=refresh,
            nonce=nonce,
            count=len(mails),
            where=escape(self._where),
            chosen=chosen,
            rows=rows,
            hide_none="hidden" if mails else "",
            row=_ROW.substitute(blank),
            main=main,
        )
        return Page(html, nonce)


def _parts(reading: Reading) -> list[str]:
    """The tabs that this mail has something for; the source is always there."""
    missing = {name for name, content in (("html", reading.html), ("text", reading.text)) if content is None}
    return [name for name in PARTS if name not in missing]


def _body(mail: CaughtMail, reading: Reading, part: str) -> str:
    if part == "html":
        return _FRAME.substitute(number=mail.number)
    if part == "text":
        return f"<pre>{escape(reading.text or '')}</pre>"
    return f'<pre class="source">{escape(mail.raw.decode("utf-8", "replace"))}</pre>'
