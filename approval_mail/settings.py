"""Settings from the environment, then ``.env``, then defaults; every problem is told at once."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

from dotenv.parser import Original, parse_stream

from approval_mail import parsers
from approval_mail.errors import InvalidSettings
from approval_mail.redaction import REDACT_KEYS
from approval_mail.timing import MAX_APPROVAL_TIMEOUT, MAX_SMTP_TIMEOUT

#: Languages of mails and pages by code, each under its own name; each but the default has a folder named by its code.
LANGUAGES: Mapping[str, str] = {"ko": "한국어", "en": "English"}
DEFAULT_LANGUAGE = next(iter(LANGUAGES))


def state_folder() -> Path:
    """``approval_mail`` in ``$XDG_STATE_HOME`` or ``~/.local/state`` (XDG Base Directory), else in /var/tmp."""
    base = os.environ.get("XDG_STATE_HOME")
    if base and os.path.isabs(base):
        return Path(base) / "approval_mail"
    try:
        return Path.home() / ".local" / "state" / "approval_mail"
    except RuntimeError:
        return Path(f"/var/tmp/approval_mail-{os.getuid()}")  # noqa: S108 - made with mode 0700


def _spool_folder() -> Path:
    return state_folder() / "spool"


def _setting(name: str, parse: Callable[[str], Any], default: Any = None, *, secret: bool = False, **more: Any) -> Any:
    metadata = {"name": name, "parse": parse, "secret": secret}
    if "default_factory" not in more:
        more["default"] = default
    return field(metadata=metadata, **more)


#: What names begin with that are told to be misspelt; others may be anybody's.
_FAMILIES = ("NOTIFICATION", "APPROVAL")


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting with its default; one row each, and `load` reads them all."""

    enabled: bool = _setting("NOTIFICATION_ENABLED", parsers.boolean, False)
    smtp_host: str = _setting("SMTP_HOST", parsers.host, "localhost")
    smtp_port: int = _setting("SMTP_PORT", parsers.number(1, 65535, int, ""), 587)
    #: True: required. False: none. None: required on 465 and 587, elsewhere when offered.
    smtp_use_tls: bool | None = _setting("SMTP_USE_TLS", parsers.boolean)
    smtp_tls_ca_file: Path | None = _setting("SMTP_TLS_CA_FILE", parsers.existing_file)
    smtp_user: str = _setting("SMTP_USER", parsers.ascii, "")
    smtp_password: str = _setting("SMTP_PASSWORD", parsers.ascii, "", secret=True, repr=False)
    #: Holds or prints an OAuth access token, which is read at each login and not here: it is refreshed meanwhile.
    smtp_oauth_token_file: Path | None = _setting("SMTP_OAUTH_TOKEN_FILE", parsers.existing_file)
    smtp_oauth_token_command: tuple[str, ...] = _setting(
        "SMTP_OAUTH_TOKEN_COMMAND", parsers.command, (), secret=True, repr=False
    )
    #: Seconds; the total deadline of one SMTP step.
    smtp_timeout: float = _setting("SMTP_TIMEOUT", parsers.number(0.1, MAX_SMTP_TIMEOUT, float, " seconds"), 10.0)
    email_from: str = _setting("EMAIL_FROM", parsers.sender, "admin@localhost")
    email_to: tuple[str, ...] = _setting("EMAIL_TO", parsers.recipients, ("operator@localhost",))
    #: Events.
    batch_size: int = _setting("NOTIFICATION_BATCH_SIZE", parsers.number(1, 1000, int, " events"), 10)
    #: Seconds.
    batch_timeout: float = _setting("NOTIFICATION_BATCH_TIMEOUT", parsers.number(0.1, 3600, float, " seconds"), 5.0)
    #: Seconds; the longest that an urgent event waits to be gathered.
    urgent_timeout: float = _setting("NOTIFICATION_URGENT_TIMEOUT", parsers.number(0, 60, float, " seconds"), 1.0)
    #: Seconds until an undelivered event is dead.
    max_age: float = _setting("NOTIFICATION_MAX_AGE", parsers.number(1, 30 * 86400, float, " seconds"), 86400.0)
    #: Days that finished events stay as history.
    history_days: float = _setting("NOTIFICATION_HISTORY_DAYS", parsers.number(0.01, 3650, float, " days"), 7.0)
    #: A recipient of more events than this in one gather gets one mail about them; 0: nobody does.
    digest_threshold: int = _setting("NOTIFICATION_DIGEST_THRESHOLD", parsers.number(0, 1000, int, " events"), 0)
    #: Who gets what; read by workers alone, so that a host need not have it.
    routes: Path | None = _setting("NOTIFICATION_ROUTES", parsers.path)
    template_dir: Path | None = _setting("NOTIFICATION_TEMPLATE_DIR", parsers.path)
    language: str = _setting("NOTIFICATION_LANGUAGE", parsers.one_of(*LANGUAGES), DEFAULT_LANGUAGE)
    #: Zone in which mails show times; None: the system's.
    timezone: tzinfo | None = _setting("NOTIFICATION_TIMEZONE", parsers.zone)
    spool_dir: Path = _setting("NOTIFICATION_SPOOL_DIR", parsers.path, default_factory=_spool_folder)
    #: Seconds that a request of the approvals store waits for an answer unless it says otherwise.
    approval_timeout: float = _setting(
        "APPROVAL_TIMEOUT_SECONDS", parsers.number(1, MAX_APPROVAL_TIMEOUT, float, " seconds"), 300.0
    )
    #: Fractions of a request's window at which the approvers are reminded, as they were written.
    approval_reminders: tuple[str, ...] = _setting("APPROVAL_REMINDERS", parsers.fractions, ())
    #: Who receives the last reminder as well.
    approval_escalate_to: tuple[str, ...] = _setting("APPROVAL_ESCALATE_TO", parsers.recipients, ())
    #: Patterns of keys, as of fnmatch, whose values never leave the application.
    approval_redact_keys: tuple[str, ...] = _setting("APPROVAL_REDACT_KEYS", parsers.words, REDACT_KEYS)
    #: Where approvers reach ``approval-mail api``; without a slash at its end.
    approval_public_url: str = _setting("APPROVAL_PUBLIC_URL", parsers.public_url, "")
    #: The first signs the links in mails, all of them are believed.
    approval_link_secret: tuple[str, ...] = _setting(
        "APPROVAL_LINK_SECRET", parsers.link_secrets, (), secret=True, repr=False
    )
    #: Holds hashed API keys; it need not exist yet.
    approval_api_keys_file: Path | None = _setting("APPROVAL_API_KEYS_FILE", parsers.path)
    #: Whom the API's callers may name in ``email_to``: addresses, and ``@domain`` for all of a domain.
    approval_api_recipients: tuple[str, ...] = _setting("APPROVAL_API_RECIPIENTS", parsers.recipient_patterns, ())
    redis_url: str = _setting("REDIS_URL", parsers.redis_url, "redis://localhost:6379/0", secret=True, repr=False)
    celery_broker_url: str | None = _setting("CELERY_BROKER_URL", parsers.broker_url, secret=True, repr=False)
    celery_result_backend: str | None = _setting("CELERY_RESULT_BACKEND", parsers.broker_url, secret=True, repr=False)

    @property
    def broker_url(self) -> str:
        return self.celery_broker_url or self.redis_url

    @property
    def broker_is_redis(self) -> bool:
        return self.broker_url.startswith(("redis://", "rediss://"))

    @property
    def result_backend(self) -> str:
        return self.celery_result_backend or self.redis_url

    def localise(self, naive: datetime) -> datetime:
        """Read a naive datetime as a time in NOTIFICATION_TIMEZONE."""
        return naive.replace(tzinfo=self.timezone) if self.timezone else naive.astimezone()

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ, folder: Path | None = None) -> Loaded:
        """Read ``environ``, then ``folder/.env`` (the current directory's if None).

        Never raises: what is wrong is in the answer's ``problems``.
        """
        return _Reader(environ, (folder or Path()) / ".env").read()


@dataclass(frozen=True, slots=True)
class Loaded:
    """What `Settings.load` found: usable values, and what is wrong with the others."""

    #: Settings in which each faulty value is replaced by its default.
    usable: Settings
    #: Names of the settings that are faulty.
    faulty: frozenset[str]
    #: One sentence per problem.
    problems: tuple[str, ...]
    #: One sentence per name that looks misspelt.
    warnings: tuple[str, ...]

    def blame(self, name: str, sentence: str) -> Loaded:
        """The same with one more problem, found by whoever tried a value out."""
        default: dict[str, Any] = {row.name: row.default for row in fields(Settings) if row.metadata["name"] == name}
        usable = replace(self.usable, **default)
        return replace(self, usable=usable, faulty=self.faulty | {name}, problems=(*self.problems, sentence))

    def require(self) -> Settings:
        """The settings; raises InvalidSettings listing every problem."""
        if self.problems:
            raise InvalidSettings(self.problems)
        return self.usable


class _Reader:
    """One reading of the two sources."""

    def __init__(self, environ: Mapping[str, str], dotenv: Path) -> None:
        self._problems: list[str] = []
        self._warnings: list[str] = []
        self._faulty: set[str] = set()
        self._sources: list[tuple[str, Mapping[str, str | None]]] = [("the environment", environ)]
        try:
            self._sources.append((str(dotenv), self._assignments(dotenv)))
        except (OSError, UnicodeDecodeError) as error:
            if not environ.get("NOTIFICATION_ENABLED"):
                self._faulty.add("NOTIFICATION_ENABLED")  # It may be on: events are spooled rather than dropped.
            self._problems.append(f"{dotenv} cannot be read: {error}; save it as UTF-8 text that this user may read")

    def read(self) -> Loaded:
        values = {}
        for row in fields(Settings):
            name, parse, secret = (row.metadata[key] for key in ("name", "parse", "secret"))
            text, source = self._find(name)
            if text is None:
                continue
            try:
                values[row.name] = parse(text)
            except (ValueError, RuntimeError, OSError) as error:  # Path.expanduser raises RuntimeError.
                self._problem(name, f"{name}={_masked(text, secret)} ({source}): {error}")
        usable = Settings(**values)
        self._check_together(usable)
        return Loaded(usable, frozenset(self._faulty), tuple(self._problems), (*self._warnings, *self._misspelt()))

    def _assignments(self, dotenv: Path) -> dict[str, str | None]:
        """What the file assigns; python-dotenv alone would pass over a line that it cannot read."""
        try:
            with dotenv.open(encoding="utf-8-sig") as file:
                bindings = list(parse_stream(file))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):  # Some have an environment of that name.
            return {}
        for binding in bindings:
            if binding.error:
                self._tell_unread(dotenv, binding.original)
        return {binding.key: binding.value for binding in bindings if binding.key is not None}

    def _tell_unread(self, dotenv: Path, original: Original) -> None:
        """A quote that is not closed swallows lines up to the next one: each setting among them is at fault."""
        at_fault = False
        for number, line in enumerate(original.string.splitlines(), original.line):
            found = _ASSIGNED.match(line)
            name = _SETTING_OF.get(found[1]) if found else None
            if name and not self._lookup(name)[0]:
                at_fault = True
                self._problem(
                    name,
                    f"{dotenv}, line {number}: {name} cannot be read: quote the whole value or none of it, and put "
                    "nothing but a comment behind it",
                )
        if not at_fault:
            self._warnings.append(f"{dotenv}, line {original.line}, cannot be read and is passed over")

    def _find(self, name: str) -> tuple[str | None, str]:
        direct, direct_source = self._lookup(name)
        path, path_source = self._lookup(f"{name}_FILE")
        if direct is not None and path is not None:
            self._problem(
                name, f"{name} ({direct_source}) and {name}_FILE ({path_source}) both have a value: remove one"
            )
            return None, ""
        if path is None:
            return direct, direct_source
        source = f"{name}_FILE={path}, {path_source}"
        try:
            text = Path(path).expanduser().read_text("utf-8").strip()
        except (OSError, ValueError, RuntimeError) as error:  # Path.expanduser raises RuntimeError.
            self._problem(
                name, f"{name}_FILE={path} ({path_source}) cannot be read: {_why(error)}; name a readable file"
            )
            return None, ""
        if not text:
            self._problem(name, f"{name}_FILE={path} ({path_source}) is empty: put the value into the file")
            return None, ""
        return text, source

    def _lookup(self, name: str) -> tuple[str | None, str]:
        for source, values in self._sources:
            text = (values.get(name) or "").strip()
            if text:
                return text, source
        return None, ""

    def _problem(self, name: str, sentence: str) -> None:
        self._faulty.add(name)
        self._problems.append(sentence)

    def _check_together(self, usable: Settings) -> None:
        values = {
            "SMTP_USER": usable.smtp_user,
            "SMTP_PASSWORD": usable.smtp_password,
            "SMTP_OAUTH_TOKEN_FILE": usable.smtp_oauth_token_file,
            "SMTP_OAUTH_TOKEN_COMMAND": usable.smtp_oauth_token_command,
        }
        # A faulty value was replaced by its default, and yet it was given.
        given = [name for name, value in values.items() if value or name in self._faulty]
        credentials = [name for name in given if name != "SMTP_USER"]
        if len(credentials) > 1:
            self._problem(credentials[-1], f"{' and '.join(credentials)} have a value each: keep one of them")
        if credentials and "SMTP_USER" not in given:
            self._problem("SMTP_USER", f"SMTP_USER is unset while {credentials[0]} has a value: set both, or neither")
        if given == ["SMTP_USER"]:
            self._problem(
                "SMTP_PASSWORD",
                "SMTP_PASSWORD is unset while SMTP_USER has a value: set both, or neither; "
                "SMTP_OAUTH_TOKEN_FILE or SMTP_OAUTH_TOKEN_COMMAND may stand in its place",
            )

        if bool(usable.approval_public_url) != bool(usable.approval_link_secret):
            present, absent = "APPROVAL_PUBLIC_URL", "APPROVAL_LINK_SECRET"
            if usable.approval_link_secret:
                present, absent = absent, present
            if not {present, absent} & self._faulty:
                self._problem(absent, f"{absent} is unset while {present} has a value: links in mails need both")

    def _misspelt(self) -> Iterator[str]:
        for source, values in self._sources:
            for name in values:
                family = difflib.get_close_matches(name.partition("_")[0], _FAMILIES, n=1, cutoff=0.8)
                if not family or name in _SETTING_OF:
                    continue
                close = difflib.get_close_matches(name, sorted(_SETTING_OF), n=1, cutoff=0.8)
                if close:
                    yield f"{name} ({source}) is not a setting: did you mean {close[0]}?"


#: The name that a line of .env assigns to.
_ASSIGNED = re.compile(r"\s*(?:export\s+)?'?(\w+)")
#: By what may be assigned to, the setting that it is about.
_SETTING_OF = {
    f"{row.metadata['name']}{suffix}": row.metadata["name"] for row in fields(Settings) for suffix in ("", "_FILE")
}
#: The login in a URL.
_LOGIN = re.compile(r"(?<=//)[^/@\s]*(?=@)")


def _masked(text: str, secret: bool) -> str:
    shown = text if text.isprintable() else ascii(text)
    return "****" if secret else _LOGIN.sub("****", shown)


def _why(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
