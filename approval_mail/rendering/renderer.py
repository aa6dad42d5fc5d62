"""Subject, HTML and text by templates: the operator's if they can, else the packaged ones."""

from __future__ import annotations

import contextlib
import html
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

from jinja2 import Environment, Template, TemplateRuntimeError

from approval_mail.errors import TemplateFailed
from approval_mail.events import EVENT_TYPES, ApprovalEvent
from approval_mail.rendering.digest import MAX_PAGE, ROOMS, Entry, digest_variables
from approval_mail.rendering.faults import TEMPLATE_FAULTS, describe
from approval_mail.rendering.html_to_text import html_to_text, is_blank
from approval_mail.rendering.inlining import Inliner
from approval_mail.rendering.loader import (
    DIGEST,
    Loader,
    loader_of,
    make_environment,
    packaged_folder,
    stamp,
    template_names,
)
from approval_mail.rendering.message import Composer, one_line
from approval_mail.rendering.variables import variables

logger = logging.getLogger(__name__)

#: Characters. What a mail client shows of a subject is far less; a longer one only hides it.
MAX_SUBJECT = 200


@dataclass(frozen=True, slots=True)
class Content:
    """One rendered mail; the same for all its recipients, unless it holds links of one of them."""

    #: Plain text, one line.
    subject: str
    #: A whole page with its styles inlined.
    html: str
    text: str
    #: Path of the template that made it, for logs.
    template: str


#: What a mail's templates can name, with spans of time in the words of a duration.txt.
_Values = Callable[[Template], dict[str, Any]]


class _Parts(TypedDict):
    date: datetime
    subject: str
    text: str
    html: str


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
        #: The last fault told of each mail's own template, by its name, until it renders again.
        self._faults: dict[str, str] = {}

    def prepare(self) -> None:
        """Compile every template now, so that the first mail does not wait for it; faults are told at rendering."""
        for environment in filter(None, (self._own, self._packaged)):
            for name in ("duration.txt", *template_names(".html"), *template_names(".txt")):
                with contextlib.suppress(*TEMPLATE_FAULTS):
                    environment.get_template(name)

    def render(
        self,
        event: ApprovalEvent,
        now: datetime,
        *,
        timezone: tzinfo | None = None,
        approve_url: str = "",
        reject_url: str = "",
    ) -> Content:
        """Render ``event`` as of ``now``, by the operator's templates if they can, else by the packaged ones.

        Times are in ``timezone``, None: the installation's. ``approve_url`` and ``reject_url`` are the recipient's own
        links, if there are any. Raises TemplateFailed if the packaged templates fail too.
        """
        try:
            return self._render_by_either(
                event.type,
                str(event),
                lambda durations: variables(
                    event,
                    now,
                    timezone=timezone or self._timezone,
                    durations=durations,
                    approve_url=approve_url,
                    reject_url=reject_url,
                ),
            )
        except TEMPLATE_FAULTS as error:
            raise TemplateFailed(f"{event} cannot be rendered: {describe(error)}") from error

    def render_digest(self, entries: Sequence[Entry], now: datetime, *, timezone: tzinfo | None = None) -> Content:
        """Render one mail that tells of several events, at most MAX_DIGEST, in the order in which readers need them.

        It takes as little room as it has to for a page of MAX_PAGE bytes; where even that is too much, what is least
        urgent stands where Gmail clips. Raises TemplateFailed if the packaged templates fail too.
        """
        about = f"a digest of {len(entries)} events"
        try:
            zone = timezone or self._timezone

            @cache
            def values(durations: Template) -> dict[str, Any]:
                return digest_variables(entries, now, timezone=zone, durations=durations)

            return self._render_to_fit(about, values)
        except TEMPLATE_FAULTS as error:
            raise TemplateFailed(f"{about} cannot be rendered: {describe(error)}") from error

    def compose(
        self, event: ApprovalEvent, content: Content, recipient: str, now: datetime, timezone: tzinfo | None = None
    ) -> bytes:
        """Put ``content`` into the RFC 5322 message for ``recipient``, dated ``now``; ASCII with CRLF line ends."""
        return self._composer.compose(event, recipient, **self._parts(content, now, timezone))

    def compose_digest(
        self,
        entries: Sequence[Entry],
        content: Content,
        recipient: str,
        now: datetime,
        timezone: tzinfo | None = None,
    ) -> bytes:
        """The same of a digest. Its Message-ID is a function of the set of its events and of ``recipient``."""
        event_ids = [entry.event.event_id for entry in entries]
        return self._composer.compose_digest(event_ids, recipient, **self._parts(content, now, timezone))

    def sources(self) -> dict[str, str]:
        """Map each template file's name to the path it is taken from, the operator's or the packaged."""
        loader = loader_of(self._own or self._packaged)
        found = {
            name: str(loader.find(name))
            for name in (
                "base.html",
                "style.css",
                "digest.css",
                "duration.txt",
                *template_names(".html"),
                *template_names(".txt"),
            )
        }
        for name in (*EVENT_TYPES, DIGEST):
            page = self._page_of_text(self._own or self._packaged, name)
            if page:
                found[f"{name}.txt"] = page
        return found

    def fault(self, name: str) -> str | None:
        """What is wrong with the operator's templates of an event type or DIGEST, as last seen; None if nothing."""
        return self._faults.get(name)

    def _render_by_either(self, name: str, about: str, values: _Values) -> Content:
        return self._render_own(name, about, values) or self._render(self._packaged, name, values)

    def _render_to_fit(self, about: str, values: _Values) -> Content:
        for room, dense in ROOMS:
            fitting = {"room": room, "dense": dense}
            content = self._render_by_either(DIGEST, about, lambda words, fit=fitting: {**values(words), **fit})  # type: ignore[misc]
            if len(content.html.encode("utf-8", "replace")) <= MAX_PAGE:
                break
        return content

    def _render_own(self, name: str, about: str, values: _Values) -> Content | None:
        """Render by the operator's templates; None, with the fault logged, if they cannot."""
        if self._own is None:
            return None
        self._tell_missing(loader_of(self._own))
        try:
            content = self._render(self._own, name, values)
            if not content.text.strip() or is_blank(content.html):
                raise TemplateRuntimeError(f"{content.template} renders to a blank mail")
        except TEMPLATE_FAULTS as error:
            fault = describe(error)
            if self._faults.get(name) != fault:
                self._faults[name] = fault
                logger.error("Template failed for %s, the packaged one is used: %s", about, fault)
            return None
        self._faults.pop(name, None)
        return content

    def _render(self, environment: Environment, name: str, by_durations: _Values) -> Content:
        values = by_durations(environment.get_template("duration.txt"))
        page = environment.get_template(f"{name}.html")
        plain = environment.get_template(f"{name}.txt")
        fallback = "" if environment is self._packaged else self._packaged_subject(name, values)
        context = page.new_context({**values, "subject": fallback})
        try:
            # Template.render, but the context is kept: it knows the subject block once the page has run.
            markup = "".join(page.root_render_func(context))
            subject = _subject(context.blocks["subject"][0](context)) if "subject" in context.blocks else ""
        except TEMPLATE_FAULTS:
            environment.handle_exception()
        path = str(page.filename)
        if name == DIGEST:
            inlined = self._inliner.inline_alone(markup)
        else:
            links = (values["approve_url"], values["reject_url"]) if values["decidable"] else ()
            inlined = self._inliner.inline(markup, links=links)
        text = html_to_text(inlined) if self._page_of_text(environment, name) else plain.render(values)
        return Content(subject or fallback, inlined, text.strip("\n") + "\n", path)

    def _packaged_subject(self, name: str, values: dict[str, Any]) -> str:
        page = self._packaged.get_template(f"{name}.html")
        return _subject(page.blocks["subject"](page.new_context(values)))

    def _parts(self, content: Content, now: datetime, timezone: tzinfo | None) -> _Parts:
        return {
            "date": now.astimezone(timezone or self._timezone),
            "subject": content.subject,
            "text": content.text,
            "html": content.html,
        }

    def _page_of_text(self, environment: Environment, name: str) -> str | None:
        """Path of the operator's page that this mail's text part is made from; None: it has a template."""
        if environment is self._packaged:
            return None
        loader = loader_of(environment)
        stands_on = EVENT_TYPES[name].stands_on if name in EVENT_TYPES else ""
        for source in filter(None, (name, stands_on)):
            page, plain = (str(loader.find(f"{source}{suffix}")) for suffix in (".html", ".txt"))
            if self._is_own(page) or self._is_own(plain):
                return None if self._is_own(plain) else page
        return None

    def _is_own(self, path: str) -> bool:
        return self._folder is not None and Path(path).is_relative_to(self._folder)

    def _tell_missing(self, loader: Loader) -> None:
        if not self._missing_told:
            self._missing_told = True
            # Folders from before there were digests have no digest.html, and need none.
            names = ("base.html", *(f"{name}.html" for name in EVENT_TYPES))
            missing = [name for name in names if not stamp(loader.places(name)[0])]
            if missing:
                place = loader.places("base.html")[0].parent
                logger.warning("Not in %s, the packaged ones are used: %s", place, ", ".join(missing))


def _subject(parts: Any) -> str:
    """A subject block's output, which is HTML, as plain text of one line."""
    subject = one_line(html.unescape("".join(parts)))
    return subject if len(subject) <= MAX_SUBJECT else f"{subject[: MAX_SUBJECT - 1]}…"
