"""Events to try templates and the transport with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any, TypedDict

from approval_mail import services
from approval_mail.events import EVENT_TYPES, ApprovalEvent
from approval_mail.links import Links
from approval_mail.rendering import DIGEST, Content, Entry

#: Time that an approver has, as in the guide.
_TIME_TO_ANSWER = timedelta(minutes=5)
#: Of that, what has passed when the answer comes, and at the reminder.
_ANSWERED_AFTER = timedelta(minutes=2)
_FRACTION = "0.5"

#: Who asks in an example, if not alice.
_USERS = {"approval_rejected": "bora", "approval_timeout": "chanho"}
_WORDS = {
    "ko": {
        "message": "결제 한도 검사를 승인 단계 앞으로 옮김",
        "approval_approved": "변경 내용을 확인했습니다",
        "approval_rejected": "테스트가 아직 실패합니다",
        "refund": "중복 결제된 주문",
        "window": "업무 시간이 지난 뒤에 다시 요청하세요",
    },
    "en": {
        "message": "Check the payout limit before asking for approval",
        "approval_approved": "Looks good to me",
        "approval_rejected": "The tests still fail",
        "refund": "Order was charged twice",
        "window": "Please ask again after office hours",
    },
}

#: Stand in where APPROVAL_PUBLIC_URL is unset, so that the mail's buttons are seen; they lead nowhere.
_LINKS = Links("https://approve.example.com", ("an example, not a secret that anything believes",))


def trial(request_id: str, tool_name: str) -> ApprovalEvent:
    """A request as of now, to try the transport with; it says that it is a test."""
    now = datetime.now(timezone.utc)
    data = {
        "request_id": request_id,
        "user_id": "agent-7",
        "tool_name": tool_name,
        "requested_at": now - timedelta(seconds=12),
        "expires_at": now + _TIME_TO_ANSWER,
        "arguments": {"message": "approval-mail test"},
    }
    return _event("approval_requested", data, now)


def render_example(name: str, language: str, given: Mapping[str, Any]) -> Content:
    """The mail of an event type, or the digest, with example data; ``given`` replaces or adds fields."""
    now, renderer = datetime.now(timezone.utc), services.renderer(language)
    if name == DIGEST:
        return renderer.render_digest(example_digest(language, now, given), now)
    event = example(name, language, now, given)
    return renderer.render(event, now, **_links(event))


def example(event_type: str, language: str, now: datetime, given: Mapping[str, Any]) -> ApprovalEvent:
    """An event of this type as a story tells it in one of settings.LANGUAGES; ``given`` replaces or adds fields."""
    words = _words(language)
    asked = now - _passed(event_type)
    data: dict[str, Any] = {
        "request_id": "3f2b81c4-5a0e-4c1d-9b7e-6d2f8a4e9c10",
        "user_id": _USERS.get(event_type, "alice"),
        "tool_name": "git_commit",
        "requested_at": asked,
        "expires_at": asked + _TIME_TO_ANSWER,
    }
    if event_type in words:
        data |= {"responder_id": "operator", "reason": words[event_type]}
    elif EVENT_TYPES[event_type].asks:
        files = ["payout/limits.py", "tests/test_limits.py"]
        data["arguments"] = {"message": words["message"], "files": files, "push": False}
    return _event(event_type, {**data, **given}, now)


def example_digest(language: str, now: datetime, given: Mapping[str, Any]) -> list[Entry]:
    """Events of every type that one mail tells; ``given`` replaces or adds fields of each."""
    words = _words(language)
    refund = {"order": "2025-1025-0417", "amount": 128_000, "reason": words["refund"]}
    deploy = {"service": "payout", "version": "2.4.1", "region": "ap-northeast-2"}
    restart = {"unit": "payout-worker@2", "graceful": True}
    mine = [
        ("approval_requested", {}),
        ("approval_requested", _about("b81d", "deploy_service", "bora", now, minutes=14) | {"arguments": deploy}),
        ("approval_reminder", _about("a06c", "refund_order", "chanho", now, minutes=1.2) | {"arguments": refund}),
        (
            "approval_requested",
            _about("d4f7", "restart_worker", "agent-7", now) | {"expires_at": None, "arguments": restart},
        ),
        ("approval_timeout", _about("58e2", "rotate_keys", "agent-7", now, minutes=-1)),
        ("approval_approved", _about("9c31", "merge_branch", "dana", now)),
        ("approval_rejected", _about("e7a4", "drop_index", "bora", now) | {"reason": words["window"]}),
    ]
    events = [example(event_type, language, now, {**fields, **given}) for event_type, fields in mine]
    # One that is told of without a deadline is another system's to decide.
    events = [event if event.expires_at else replace(event, decidable=False) for event in events]
    return [Entry(event, **_links(event)) for event in events]


class _Urls(TypedDict, total=False):
    approve_url: str
    reject_url: str


def _links(event: ApprovalEvent) -> _Urls:
    """The links of the event's first recipient, as `Renderer.render` takes them; none where there are none."""
    if not event.decidable:
        return {}
    recipient = (event.email_to or services.settings().email_to)[0]
    urls = (services.links() or _LINKS).urls(event.request_id, recipient, event.requested_at)
    return {"approve_url": urls["approve_url"], "reject_url": urls["reject_url"]}


def _words(language: str) -> Mapping[str, str]:
    """English ones for a language that has none here: an example is no reason to fail."""
    return _WORDS.get(language, _WORDS["en"])


def _about(beginning: str, tool_name: str, user_id: str, now: datetime, *, minutes: float = 5) -> dict[str, Any]:
    """What differs from one example's request to the next; ``minutes`` are left of its time."""
    return {
        "request_id": f"{beginning}0b6e-3d27-4f58-8a91-0c7e5d2b4f63",
        "tool_name": tool_name,
        "user_id": user_id,
        "expires_at": now + timedelta(minutes=minutes),
    }


def _passed(event_type: str) -> timedelta:
    """How long ago the request was made that an example tells of."""
    if EVENT_TYPES[event_type].unanswered:
        return _TIME_TO_ANSWER
    return _TIME_TO_ANSWER * float(_FRACTION) if EVENT_TYPES[event_type].recurs else _ANSWERED_AFTER


def _event(event_type: str, data: Mapping[str, Any], now: datetime) -> ApprovalEvent:
    """An event of a request that is in the approvals store, as far as its mail can tell."""
    if EVENT_TYPES[event_type].recurs:
        data = {"fraction": _FRACTION, **data}
    event = ApprovalEvent.from_dict(event_type, data, now=now, localise=services.settings().localise)
    return replace(event, decidable=event.kind.asks)
