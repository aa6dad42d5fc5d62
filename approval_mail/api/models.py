"""What the API takes and answers, as its OpenAPI document shows it."""

from __future__ import annotations

import inspect
from datetime import datetime, timezone
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from approval_mail.approvals.desk import Desk
from approval_mail.approvals.rows import REQUEST_ID
from approval_mail.approvals.values import Approval, Page, Stats, Status
from approval_mail.fields import MAX_DEPTH, MAX_NAME, MAX_RECIPIENTS, MAX_TEXT
from approval_mail.timing import MAX_APPROVAL_TIMEOUT

#: Characters. Longest cursor: a time in milliseconds, a dot, and a request id.
_MAX_CURSOR = 220
#: Names that further values cannot have: fields of a request have them.
_TAKEN = frozenset(inspect.signature(Desk.ask).parameters) | {
    "arguments",
    "expires_at",
    "reason",
    "requested_at",
    "responder_id",
}


def _shallow(value: Any) -> Any:
    """Refuse what is nested so deep that to walk it would take more stack than there is."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list):
                below += item
        if not below:
            return value
        level = below
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def _free(extra: dict[str, Any]) -> dict[str, Any]:
    taken = sorted(_TAKEN & extra.keys())
    if taken:
        raise ValueError(f"{taken[0]} is a field of the request itself; put it there, or give it another name")
    return extra


def _utf8(value: Any) -> Any:
    """A header as it was meant: servers read bytes as Latin-1, programs such as curl write UTF-8."""
    if not isinstance(value, str):
        return value
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


Json = Annotated[Any, AfterValidator(_shallow)]
RequestId = Annotated[str, Field(pattern=f"^{REQUEST_ID.pattern}$", max_length=200, examples=["3f2b81c4-deploy"])]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Prose = Annotated[str, Field(max_length=MAX_TEXT)]
Cursor = Annotated[str, Field(min_length=1, max_length=_MAX_CURSOR)]
Seconds = Annotated[float, Field(ge=0.001, le=MAX_APPROVAL_TIMEOUT, allow_inf_nan=False)]
#: Text of a header.
HeaderName = Annotated[str, BeforeValidator(_utf8), Field(min_length=1, max_length=MAX_NAME, pattern=r"\S")]
#: Already text when it comes here; the format is for readers of the document.
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2025-10-25T06:30:00.000+00:00"])]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Ask(_Body):
    """A request for permission."""

    tool_name: Name = Field(examples=["git_commit"])
    arguments: Json = Field(None, description="JSON that the approver is shown; what is secret in it is redacted.")
    timeout_seconds: Seconds | None = Field(
        None, description="Until the deadline; without it, APPROVAL_TIMEOUT_SECONDS.", examples=[300]
    )
    email_to: list[str] | None = Field(
        None,
        max_length=MAX_RECIPIENTS,
        description="Recipients in place of EMAIL_TO, of those that APPROVAL_API_RECIPIENTS lets callers name.",
        examples=[["kim@example.com"]],
    )
    request_id: RequestId | None = Field(None, description="Of your own making, used once; without it, one is made.")
    extra: Annotated[dict[str, Json], AfterValidator(_free)] = Field(
        default_factory=dict, description="Further JSON values for templates.", examples=[{"project_path": "/srv/app"}]
    )


class Reason(_Body):
    """Why; shown to whoever asked."""

    reason: Prose = Field("", examples=["Approved for testing"])


class Extend(_Body):
    """More time."""

    seconds: Seconds = Field(description="Added to the deadline.", examples=[300])


class ApprovalOut(BaseModel):
    """An approval request."""

    request_id: str
    status: Status
    user_id: str
    tool_name: str
    arguments: Any = Field(description="JSON, redacted.")
    requested_at: Time
    expires_at: Time
    ended_at: Time | None = Field(description="When it was decided, withdrawn or found to have expired.")
    responder_id: str = Field(description="Who decided or withdrew it; empty while pending and once expired.")
    reason: str
    told_at: Time | None = Field(description="When a mail server first accepted a mail about it.")
    untold: bool = Field(description="Half of its time passed before any mail about it was accepted.")

    @classmethod
    def of(cls, approval: Approval) -> ApprovalOut:
        return cls(**approval.as_json())


class StatusOut(BaseModel):
    """Where an approval request stands, in short."""

    request_id: str
    status: Status
    expires_at: Time
    seconds_left: float = Field(ge=0, description="Until the deadline; 0 once the request has ended.")
    responder_id: str
    reason: str
    ended_at: Time | None

    @classmethod
    def of(cls, approval: Approval) -> StatusOut:
        found = approval.as_json()
        left = (approval.expires_at - (approval.read_at or datetime.now(timezone.utc))).total_seconds()
        pending = approval.status is Status.PENDING
        return cls(
            **{name: found[name] for name in cls.model_fields if name in found},
            seconds_left=round(max(0.0, left), 3) if pending else 0,
        )


class PageOut(BaseModel):
    """Some requests of a list, newest first."""

    approvals: list[ApprovalOut]
    cursor: str | None = Field(description="Pass it to get what follows; null: this is the end.")

    @classmethod
    def of(cls, page: Page) -> PageOut:
        return cls(approvals=[ApprovalOut.of(approval) for approval in page.approvals], cursor=page.cursor)


class StatsOut(BaseModel):
    """How many requests there are of each status, as long as history holds them."""

    pending: int
    approved: int
    rejected: int
    expired: int
    cancelled: int
    untold: int = Field(description="Of those pending, past half of their time without any mail about them accepted.")

    @classmethod
    def of(cls, stats: Stats) -> StatsOut:
        return cls(**{name: getattr(stats, name) for name in cls.model_fields})


class Health(BaseModel):
    """The server answers, and Redis does."""

    status: Literal["ok"] = "ok"


class ErrorOut(BaseModel):
    """What was not done, and why."""

    code: str = Field(description="One word for programs.", examples=["invalid"])
    field: str | None = Field(description="What is at fault, if it is one thing.", examples=["tool_name"])
    message: str = Field(description="One sentence for people.")


class ConflictOut(ErrorOut):
    """The request is not in a state for this; `approval` is how it stands."""

    approval: ApprovalOut | None
