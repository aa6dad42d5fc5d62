"""The pages on which a person who followed a link from a mail decides, in every language."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Any, Literal, Protocol

from approval_mail.fields import MAX_TEXT
from approval_mail.moments import word_moment
from approval_mail.rendering.loader import Loader, make_environment, packaged_folder
from approval_mail.rendering.wording import word_arguments, word_span

#: Why there is neither a form nor an outcome to show: the link is not ours; its request is not on record; the form
#: was not made for this browser; too much was sent; the store cannot be reached; it was lost in the middle of deciding.
Trouble = Literal["damaged", "unknown", "refused", "too_long", "unreachable", "unsure"]


class Shown(Protocol):
    """What is shown of an approval request."""

    @property
    def request_id(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def tool_name(self) -> str: ...
    @property
    def arguments(self) -> Any: ...
    @property
    def requested_at(self) -> datetime: ...
    @property
    def expires_at(self) -> datetime: ...
    @property
    def status(self) -> str: ...
    @property
    def responder_id(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def ended_at(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class Form:
    """What a person is asked on a page, and what became of an earlier answer."""

    #: ``approve`` or ``reject``.
    action: str
    #: As whom the person decides.
    recipient: str
    #: Shows that this form was made for this browser and this link.
    seal: str
    #: Of the page with the other action, relative to this one.
    other_url: str
    #: What is wrong with the earlier answer, by field (``seen`` or ``reason``): ``missing`` or ``refused``.
    faults: Mapping[str, str] = field(default_factory=dict)
    #: The reason as it was typed.
    typed: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """One HTML document and the nonce that its own style and script carry."""

    html: str
    #: Fresh for each document, so that no markup out of a request or a mail can know it.
    nonce: str


class Pages:
    """Makes the documents of one installation: ``language`` unless a reader asks for another of ``languages``.

    ``languages`` holds names by code; each document links to itself in the others.
    """

    def __init__(self, *, language: str, languages: Mapping[str, str], timezone: tzinfo | None) -> None:
        folder = packaged_folder()
        self._language = language
        self._languages = languages
        self._timezone = timezone
        self._pages = {name: make_environment(Loader([folder.parent / "pages"], name)) for name in languages}
        self._durations = {
            name: make_environment(Loader([folder], name)).get_template("duration.txt") for name in languages
        }

    def language(self, asked: str | None) -> str:
        """The language to answer in: the one asked for if there is one, else the installation's."""
        return asked if asked in self._pages else self._language

    def form(self, language: str, shown: Shown, form: Form, now: datetime) -> Page:
        """A pending request with what its reader may do: read, tick, give a reason, decide."""
        left = max(timedelta(0), shown.expires_at - now)
        return self._page(
            language,
            "form.html",
            "pending",
            **self._request(shown),
            action=form.action,
            recipient=form.recipient,
            seal=form.seal,
            other_url=form.other_url,
            faults={"seen": "", "reason": "", **form.faults},
            typed=form.typed,
            seconds_left=round(left.total_seconds(), 1),
            time_left=word_span(left, self._durations[language]),
        )

    def outcome(self, language: str, shown: Shown, *, recipient: str) -> Page:
        """How a request ended: who decided what and when, or that it ran out."""
        return self._page(
            language,
            "outcome.html",
            str(shown.status),
            **self._request(shown),
            own=shown.responder_id == recipient,
            responder_id=shown.responder_id,
            reason=shown.reason,
            ended_at=word_moment(shown.ended_at, self._timezone),
        )

    def trouble(self, language: str, trouble: Trouble) -> Page:
        """Why nothing can be shown or decided; says nothing of any request."""
        return self._page(language, "trouble.html", "trouble", trouble=trouble)

    def _request(self, shown: Shown) -> dict[str, Any]:
        arguments_text, arguments_more = word_arguments(shown.arguments)
        return {
            "request_id": shown.request_id,
            "user_id": shown.user_id,
            "tool_name": shown.tool_name,
            "arguments_text": arguments_text,
            "arguments_more": arguments_more,
            "requested_at": word_moment(shown.requested_at, self._timezone),
            "expires_at": word_moment(shown.expires_at, self._timezone),
        }

    def _page(self, language: str, name: str, kind: str, **values: Any) -> Page:
        nonce = secrets.token_urlsafe(16)
        template = self._pages[language].get_template(name)
        others = [(code, own_name) for code, own_name in self._languages.items() if code != language]
        return Page(template.render(nonce=nonce, kind=kind, others=others, max_reason=MAX_TEXT, **values), nonce)
