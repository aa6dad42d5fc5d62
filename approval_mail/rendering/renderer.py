"""Subject, HTML and text by templates: the operator's if they can, else the packaged ones."""

from __future__ import annotations

import contextlib
import html
import logging
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

from jinja2 import Environment, TemplateRuntimeError

from approval_mail.errors import TemplateFailed
from approval_mail.events import EVENT_TYPES, ApprovalEvent
from approval_mail.rendering.faults import TEMPLATE_FAULTS, describe
from approval_mail.rendering.html_to_text import html_to_text
from approval_mail.rendering.inlining import Inliner
from approval_mail.rendering.loader import Loader, loader_of, make_environment, packaged_folder, stamp, template_names
from approval_mail.rendering.message import Composer, one_line
from approval_mail.rendering.wording import word_arguments, word_moment, word_span

logger = logging.getLogger(__name__)

#: Characters. What a mail client shows of a subject is far less; a longer one only hides it.
MAX_SUBJECT = 200
#: Types whose packaged page stands on that of another type, which an operator may have replaced.
_STANDS_ON = {"approval_reminder": "approval_requested"}
#: What a page holds besides its words.
_MARKUP = re.compile(r"<(head|style|script|title)\b.*?</\1>|<!--.*?-->|<[^>]*>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Content:
    """One rendered event; the same for all its recipients, unless it holds links of one of them."""

    #: Plain text, one line.
    subject: str
    #: A whole page with its styles inlined.
    html: str
    text: str
    #: Path of the template that made it, for logs.
    template: str


class Renderer:
    """Renders events of one installation: its templates, language, time zone and sender.

    ``folder`` is NOTIFICATION_TEMPLATE_DIR or None, ``timezone`` None means the system's,
    ``sender`` is EMAIL_FROM: ``local@domain`` or ``Name <local@domain>``.
    """

    def __init__(self, *, folder: Path | None, language: str, timezone: tzinfo | None, sender: str) -> None:
        self._folder = folder = folder.absolute() if folder else None
        self._timezone = timezone
        self._composer = Composer(sender)
        packaged = packaged_folder()
        #: Sees only packaged files, so that no operator's file can break it.
        self._packaged = make_environment(Loader([packaged], language))
        self._own = make_environment(Loader([folder, packaged], language)) if folder else None
        self._inliner = Inliner()
        self._missing_told = False
        #: The last fault told of each event type's own template, until it renders again.
        self._faults: dict[str, str] = {}

    def prepare(self) -> None:
        """Compile every template now, so that the first mail does not wait for it; faults are told at rendering."""
        for environment in filter(None, (self._own, self._packaged)):
            for name in ("duration.txt", *template_names(".html"), *template_names(".txt")):
                with contextlib.suppress(*TEMPLATE_FAULTS):
                    environment.get_template(name)

    def render(self, event: ApprovalEvent, now: datetime, *, approve_url: str = "", reject_url: str = "") -> Content:
        """Render ``event`` as of ``now``, by the operator's templates if they can, else by the packaged ones.

        ``approve_url`` and ``reject_url`` are the recipient's own links, if there are any. Raises
        TemplateFailed if the packaged templates fail too.
        """
        try:
            values = self._values(event, now)
            if event.decidable:  # No field that a caller passes may stand where our links do.
                values |= {"approve_url": approve_url, "reject_url": reject_url}
            return self._render_own(event, values) or self._render(self._packaged, event.type, values)
        except TEMPLATE_FAULTS as error:
            raise TemplateFailed(f"{event} cannot be rendered: {describe(error)}") from error

    def compose(self, event: ApprovalEvent, content: Content, recipient: str, now: datetime) -> bytes:
        """Put ``content`` into the RFC 5322 message for ``recipient``, dated ``now``; ASCII with CRLF line ends."""
        return self._composer.compose(
            event,
            recipient,
            date=now.astimezone(self._timezone),
            subject=content.subject,
            text=content.text,
            html=content.html,
        )

    def sources(self) -> dict[str, str]:
        """Map each template file's name to the path it is taken from, the operator's or the packaged."""
        loader = loader_of(self._own or self._packaged)
        found = {
            name: str(loader.find(name))
            for name in ("base.html", "style.css", *template_names(".html"), *template_names(".txt"))
        }
        for type_name in EVENT_TYPES:
            page = self._page_of_text(self._own or self._packaged, type_name)
            if page:
                found[f"{type_name}.txt"] = page
        return found

    def fault(self, type_name: str) -> str | None:
        """What is wrong with the operator's templates of an event type, as last seen; None if nothing."""
        return self._faults.get(type_name)

    def _render_own(self, event: ApprovalEvent, values: dict[str, Any]) -> Content | None:
        """Render by the operator's templates; None, with the fault logged, if they cannot."""
        if self._own is None:
            return None
        self._tell_missing(loader_of(self._own))
        try:
            content = self._render(self._own, event.type, values)
            if not content.text.strip() or _is_blank(content.html):
                raise TemplateRuntimeError(f"{content.template} renders to a blank mail")
        except TEMPLATE_FAULTS as error:
            fault = describe(error)
            if self._faults.get(event.type) != fault:
                self._faults[event.type] = fault
                logger.error("Template failed for %s, the packaged one is used: %s", event, fault)
            return None
        self._faults.pop(event.type, None)
        return content

    def _render(self, environment: Environment, type_name: str, values: dict[str, Any]) -> Content:
        page = environment.get_template(f"{type_name}.html")
        plain = environment.get_template(f"{type_name}.txt")
        fallback = "" if environment is self._packaged else self._packaged_subject(type_name, values)
        context = page.new_context({**values, "subject": fallback})
        try:
            # Template.render, but the context is kept: it knows the subject block once the page has run.
            markup = "".join(page.root_render_func(context))
            subject = _subject(context.blocks["subject"][0](context)) if "subject" in context.blocks else ""
        except TEMPLATE_FAULTS:
            environment.handle_exception()
        path = str(page.filename)
        links = (values["approve_url"], values["reject_url"]) if values["decidable"] else ()
        inlined = self._inliner.inline(markup, links=links)
        text = html_to_text(inlined) if self._page_of_text(environment, type_name) else plain.render(values)
        return Content(subject or fallback, inlined, text.strip("\n") + "\n", path)

    def _packaged_subject(self, type_name: str, values: dict[str, Any]) -> str:
        page = self._packaged.get_template(f"{type_name}.html")
        return _subject(page.blocks["subject"](page.new_context(values)))

    def _values(self, event: ApprovalEvent, now: datetime) -> dict[str, Any]:
        """Everything that a template can name; ours win over extra fields of the same name."""
        extra = event.extra or {}
        arguments_text, arguments_more = word_arguments(extra.get("arguments"))
        asked, expires = event.requested_at, event.expires_at
        return {
            "approve_url": "",
            "reject_url": "",
            **extra,
            "event_id": event.event_id,
            "event_type": event.type,
            "request_id": event.request_id,
            "user_id": event.user_id,
            "tool_name": event.tool_name,
            "responder_id": event.responder_id,
            "reason": event.reason,
            "fraction": event.fraction,
            "decidable": event.decidable,
            "arguments": extra.get("arguments"),
            "arguments_text": arguments_text,
            "arguments_more": arguments_more,
            "requested_at": self._moment(asked),
            "expires_at": self._moment(expires),
            "occurred_at": self._moment(event.occurred_at),
            "timestamp": self._moment(now),
            "expired": expires is not None and expires <= now,
            "time_left": self._span(expires - now) if expires else "",
            "elapsed": self._span(event.occurred_at - asked) if asked else "",
        }

    def _moment(self, moment: datetime | None) -> str:
        return word_moment(moment, self._timezone)

    def _span(self, span: timedelta) -> str:
        return word_span(span, self._packaged.get_template("duration.txt"))

    def _page_of_text(self, environment: Environment, type_name: str) -> str | None:
        """Path of the operator's page that this type's text part is made from; None: it has a template."""
        if environment is self._packaged:
            return None
        loader = loader_of(environment)
        for name in filter(None, (type_name, _STANDS_ON.get(type_name))):
            page, plain = (str(loader.find(f"{name}{suffix}")) for suffix in (".html", ".txt"))
            if self._is_own(page) or self._is_own(plain):
                return None if self._is_own(plain) else page
        return None

    def _is_own(self, path: str) -> bool:
        return self._folder is not None and Path(path).is_relative_to(self._folder)

    def _tell_missing(self, loader: Loader) -> None:
        if not self._missing_told:
            self._missing_told = True
            missing = [name for name in ("base.html", *template_names(".html")) if not stamp(loader.places(name)[0])]
            if missing:
                place = loader.places("base.html")[0].parent
                logger.warning("Not in %s, the packaged ones are used: %s", place, ", ".join(missing))


def _is_blank(page: str) -> bool:
    """Whether a reader of ``page`` sees nothing. The careful look costs a millisecond and is seldom needed."""
    return not _MARKUP.sub("", page).strip() and not html_to_text(page).strip()


def _subject(parts: Any) -> str:
    """A subject block's output, which is HTML, as plain text of one line."""
    subject = one_line(html.unescape("".join(parts)))
    return subject if len(subject) <= MAX_SUBJECT else f"{subject[: MAX_SUBJECT - 1]}…"
