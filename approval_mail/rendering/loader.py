"""Where templates come from: the operator's folder, then the packaged one."""

from __future__ import annotations

import codecs
import logging
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from jinja2 import BaseLoader, Environment, StrictUndefined, TemplateNotFound, TemplateSyntaxError
from jinja2.loaders import split_template_path
from markupsafe import Markup, escape

from approval_mail.events import EVENT_TYPES
from approval_mail.rendering.message import one_line
from approval_mail.settings import DEFAULT_LANGUAGE

logger = logging.getLogger(__name__)

#: Files without words, which all languages share.
_SHARED = frozenset(("style.css", "digest.css", "countdown.js"))
#: A space that HTML drops: at the beginning of a line, or before another one. The last of several may end a line.
_COLLAPSING = re.compile(r"^ | (?= )", re.MULTILINE)
#: Name of the mail that tells of several events; the others have their event type's.
DIGEST = "digest"


class Loader(BaseLoader):
    """Finds templates of one language in several folders, earlier ones first, passing over blank files."""

    def __init__(self, folders: list[Path], language: str) -> None:
        self._folders = folders
        self._language = language
        self._blank: set[Path] = set()

    def places(self, name: str) -> list[Path]:
        """Where a template may be, the first place first; another language's are in a folder of its code."""
        parts = split_template_path(name)
        if self._language != DEFAULT_LANGUAGE and name not in _SHARED:
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
        stamps = {path: stamp(path) for path in self.places(template)}
        path = self.find(template)
        source = path.read_bytes().removeprefix(codecs.BOM_UTF8)
        try:
            text = source.decode("utf-8")
        except UnicodeDecodeError as error:
            line = source.count(b"\n", 0, error.start) + 1
            raise TemplateSyntaxError("is not UTF-8 text; save it as UTF-8", line, template, str(path)) from error
        return text, str(path), lambda: all(stamp(place) == seen for place, seen in stamps.items())


def packaged_folder() -> Path:
    """templates/emails within the package (a wheel) or beside it (a checkout)."""
    package = Path(__file__).parent.parent
    inside, beside = (folder / "templates" / "emails" for folder in (package, package.parent))
    return inside if inside.is_dir() else beside


def make_environment(loader: Loader) -> Environment:
    """Jinja2 as mails and pages are written for it: HTML is escaped, an unknown variable is an error."""
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
    environment.filters["one_line"] = one_line
    return environment


def loader_of(environment: Environment) -> Loader:
    """The loader that `make_environment` was given."""
    assert isinstance(environment.loader, Loader)  # noqa: S101 - what make_environment put there
    return environment.loader


def template_names(suffix: str) -> list[str]:
    """Of every mail, its template with that suffix, such as ``.html``."""
    return [f"{name}{suffix}" for name in (*EVENT_TYPES, DIGEST)]


def stamp(path: Path) -> tuple[int, int] | None:
    """What tells one version of a file from another: when it was written (ns) and its bytes; None: it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _lines(text: str) -> Markup:
    """Text as HTML that keeps its lines and indents, also in Outlook, which knows no pre-wrap."""
    kept = _COLLAPSING.sub("&nbsp;", str(escape(text)))
    return Markup(kept.replace("\n", "<br>\n"))  # noqa: S704 - escaped here
