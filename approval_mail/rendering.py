"""From an event to a mail: subject, HTML and text by templates, then headers and bytes. Sees no socket."""

from __future__ import annotations

import codecs
import html
import json
import logging
import re
import shlex
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import css_inline
from jinja2 import (
    BaseLoader,
    Environment,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    TemplateRuntimeError,
    TemplateSyntaxError,
)
from jinja2.loaders import split_template_path
from markupsafe import Markup, escape

from approval_mail.errors import TemplateFailed
from approval_mail.events import EVENT_TYPES, ApprovalEvent
from approval_mail.html_to_text import html_to_text
from approval_mail.message import Composer, message_id, one_line

__all__ = ["Content", "Renderer", "message_id"]

logger = logging.getLogger(__name__)

#: Characters. What a mail client shows of a subject is far less; a longer one only hides it.
MAX_SUBJECT = 200
#: Characters of an event's arguments that are shown. Gmail clips a mail at 102 KB of HTML.
MAX_ARGUMENTS = 4_000
#: The language whose templates lie in the folder itself; the others have a folder of their name.
_FIRST_LANGUAGE = "ko"
#: Files without words, which all languages share.
_SHARED = frozenset(("style.css",))
#: Zone abbreviations that mean one offset all over the world; others are shown with the offset.
_CLEAR_ZONES = frozenset(("UTC", "GMT", "KST", "JST", "CET", "CEST"))
#: What a page holds besides its words.
_MARKUP = re.compile(r"<(head|style|script|title)\b.*?</\1>|<!--.*?-->|<[^>]*>", re.DOTALL | re.IGNORECASE)
#: What comes out of a faulty template. Not Exception: Celery's time limit, an Exception, has to pass.
_TEMPLATE_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    TemplateError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Content:
    """One rendered event; the same for all its recipients."""

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
        self._language = language
        self._timezone = timezone
        self._composer = Composer(sender)
        packaged = _packaged_folder()
        #: Sees only packaged files, so that no operator's file can break it.
        self._packaged = _environment(_Loader([packaged], language))
        self._own = _environment(_Loader([folder, packaged], language)) if folder else None
        self._inliner = css_inline.CSSInliner(keep_at_rules=True, load_remote_stylesheets=False)
        self._missing_told = False
        #: The last fault told of each event type's own template, until it renders again.
        self._faults: dict[str, str] = {}

    def render(self, event: ApprovalEvent, now: datetime) -> Content:
        """Render ``event`` as of ``now``, by the operator's templates if they can, else by the packaged ones.

        Raises TemplateFailed if those fail too.
        """
        try:
            values = self._values(event, now)
            return self._render_own(event, values) or self._render(self._packaged, event.type, values)
        except _TEMPLATE_FAULTS as error:
            raise TemplateFailed(f"{event} cannot be rendered: {_fault(error)}") from error

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
        loader = _loader(self._own or self._packaged)
        found = {name: str(loader.find(name)) for name in ("base.html", *_names(".html"), *_names(".txt"))}
        for name in _names(".txt"):
            page = found[f"{name[:-4]}.html"]
            if self._is_own(page) and not self._is_own(found[name]):
                found[name] = page
        return found

    def _render_own(self, event: ApprovalEvent, values: dict[str, Any]) -> Content | None:
        """Render by the operator's templates; None, with the fault logged, if they cannot."""
        if self._own is None:
            return None
        self._tell_missing(_loader(self._own))
        try:
            content = self._render(self._own, event.type, values)
            if not content.text.strip() or _is_blank(content.html):
                raise TemplateRuntimeError(f"{content.template} renders to a blank mail")
        except _TEMPLATE_FAULTS as error:
            fault = _fault(error)
            if self._faults.get(event.type) != fault:
                self._faults[event.type] = fault
                logger.error("Template failed for %s, the packaged one is used: %s", event, fault)
            return None
        self._faults.pop(event.type, None)
        return content

    def _render(self, environment: Environment, type_name: str, values: dict[str, Any]) -> Content:
        page = environment.get_template(f"{type_name}.html")
        plain = environment.get_template(f"{type_name}.txt")
        packaged = self._packaged.get_template(f"{type_name}.html")
        fallback = _subject(packaged.blocks["subject"](packaged.new_context(values)))
        context = page.new_context({**values, "subject": fallback})
        try:
            # Template.render, but the context is kept: it knows the subject block once the page has run.
            markup = "".join(page.root_render_func(context))
            subject = _subject(context.blocks["subject"][0](context)) if "subject" in context.blocks else ""
        except _TEMPLATE_FAULTS:
            environment.handle_exception()
        path = str(page.filename)
        inlined = self._inliner.inline(markup)
        if self._is_own(path) and not self._is_own(str(plain.filename)):
            text = html_to_text(inlined)
        else:
            text = plain.render(values)
        return Content(subject or fallback, inlined, text.strip("\n") + "\n", path)

    def _values(self, event: ApprovalEvent, now: datetime) -> dict[str, Any]:
        """Everything that a template can name; ours win over extra fields of the same name."""
        extra = event.extra or {}
        arguments = extra.get("arguments")
        shown = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, indent=2)
        shown = "" if arguments is None else shown.expandtabs(4).rstrip().lstrip("\n")
        asked, expires = event.requested_at, event.expires_at
        return {
            **extra,
            "event_id": event.event_id,
            "event_type": event.type,
            "request_id": event.request_id,
            "user_id": event.user_id,
            "tool_name": event.tool_name,
            "responder_id": event.responder_id,
            "reason": event.reason,
            "arguments": arguments,
            "arguments_text": shown[:MAX_ARGUMENTS],
            "arguments_more": max(0, len(shown) - MAX_ARGUMENTS),
            "requested_at": self._moment(asked),
            "expires_at": self._moment(expires),
            "occurred_at": self._moment(event.occurred_at),
            "timestamp": self._moment(now),
            "expired": expires is not None and expires <= now,
            "time_left": self._span(expires - now) if expires else "",
            "elapsed": self._span(event.occurred_at - asked) if asked else "",
        }

    def _moment(self, moment: datetime | None) -> str:
        """A time in the configured zone such as ``2025-10-25 15:35:00 KST``; empty for None."""
        if moment is None:
            return ""
        local = moment.astimezone(self._timezone)
        zone, offset = local.tzname() or "", local.strftime("%z")
        offset = f"UTC{offset[:3]}:{offset[3:5]}"
        if not zone.isalpha():
            zone = offset
        elif zone not in _CLEAR_ZONES:
            zone = f"{zone} ({offset})"
        return f"{local:%Y-%m-%d %H:%M:%S} {zone}"

    def _span(self, span: timedelta) -> str:
        """A span in the mail's language such as ``4분 52초``; empty for a negative one."""
        if span < timedelta(0):
            return ""
        minutes, seconds = divmod(span.seconds, 60)
        hours, minutes = divmod(minutes, 60)
        words = self._packaged.get_template("duration.txt")
        return words.render(days=span.days, hours=hours, minutes=minutes, seconds=seconds).strip()

    def _is_own(self, path: str) -> bool:
        return self._folder is not None and Path(path).is_relative_to(self._folder)

    def _tell_missing(self, loader: _Loader) -> None:
        if not self._missing_told:
            self._missing_told = True
            missing = [name for name in ("base.html", *_names(".html")) if not _stamp(loader.places(name)[0])]
            if missing:
                logger.warning("Not in %s, the packaged ones are used: %s", self._folder, ", ".join(missing))


class _Loader(BaseLoader):
    """Finds templates of one language in several folders, earlier ones first, passing over blank files."""

    def __init__(self, folders: list[Path], language: str) -> None:
        self._folders = folders
        self._language = language
        self._blank: set[Path] = set()

    def places(self, name: str) -> list[Path]:
        parts = split_template_path(name)
        if self._language != _FIRST_LANGUAGE and name not in _SHARED:
            parts = [self._language, *parts]
        return [folder.joinpath(*parts) for folder in self._folders]

    def find(self, name: str) -> Path:
        """The file that ``name`` is taken from; raises TemplateNotFound."""
        for path in self.places(name):
            try:
                blank = not path.read_bytes().removeprefix(codecs.BOM_UTF8).strip()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                return path  # It is there: reading it as a template tells why it cannot be.
            if not blank:
                self._blank.discard(path)
                return path
            if path not in self._blank:
                self._blank.add(path)
                logger.warning("Template %s is blank and passed over", path)
        raise TemplateNotFound(name)

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        """Read a template (the interface of jinja2.BaseLoader); an edit to any of its places takes effect."""
        stamps = {path: _stamp(path) for path in self.places(template)}
        path = self.find(template)
        source = path.read_bytes().removeprefix(codecs.BOM_UTF8)
        try:
            text = source.decode("utf-8")
        except UnicodeDecodeError as error:
            line = source.count(b"\n", 0, error.start) + 1
            raise TemplateSyntaxError("is not UTF-8 text; save it as UTF-8", line, template, str(path)) from error
        return text, str(path), lambda: all(_stamp(place) == stamp for place, stamp in stamps.items())


def _packaged_folder() -> Path:
    """templates/emails within the package (a wheel) or beside it (a checkout)."""
    package = Path(__file__).parent
    inside, beside = (folder / "templates" / "emails" for folder in (package, package.parent))
    return inside if inside.is_dir() else beside


def _environment(loader: _Loader) -> Environment:
    environment = Environment(
        loader=loader,
        autoescape=lambda name: not (name or "").endswith(".txt"),  # noqa: S701 - only mail text goes unescaped
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Request ids may hold any printable ASCII, and people paste command lines.
    environment.filters["shell"] = shlex.quote
    environment.filters["lines"] = _lines
    return environment


def _loader(environment: Environment) -> _Loader:
    assert isinstance(environment.loader, _Loader)  # noqa: S101 - what _environment put there
    return environment.loader


def _names(suffix: str) -> list[str]:
    return [f"{name}{suffix}" for name in EVENT_TYPES]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _is_blank(page: str) -> bool:
    """Whether a reader of ``page`` sees nothing. The careful look costs a millisecond and is seldom needed."""
    return not _MARKUP.sub("", page).strip() and not html_to_text(page).strip()


def _lines(text: str) -> Markup:
    """Text as HTML that keeps its lines and indents, also in Outlook, which knows no pre-wrap."""
    return Markup(str(escape(text)).replace("  ", "&nbsp; ").replace("\n", "<br>\n"))  # noqa: S704 - escaped here


def _subject(parts: Any) -> str:
    """A subject block's output, which is HTML, as plain text of one line."""
    subject = one_line(html.unescape("".join(parts)))
    return subject if len(subject) <= MAX_SUBJECT else f"{subject[: MAX_SUBJECT - 1]}…"


def _fault(error: BaseException) -> str:
    """File, line and what is wrong there, without an event's data, which other errors' messages may hold."""
    what = type(error).__name__
    if isinstance(error, TemplateError):
        what = f"{what}: {error.message}"
    if isinstance(error, TemplateSyntaxError):
        return f"{error.filename}:{error.lineno}: {what}"
    if isinstance(error, OSError) and not isinstance(error, TemplateError):
        return f"{error.filename}: {what}: {error.strerror}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.endswith(".py")]
    if not frames:
        return what
    return f'{frames[-1].filename}:{frames[-1].lineno}: {what} in "{frames[-1].line}"'
