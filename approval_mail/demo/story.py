"""The four events that the demo fires: three requests, and how each of them ended."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

#: Time that an approver has in the demo, as in the guide.
_TIME_TO_ANSWER = timedelta(minutes=5)

_WORDS = {
    "ko": {
        "message": "결제 한도 검사를 승인 단계 앞으로 옮김",
        "approved": "변경 내용을 확인했습니다",
        "rejected": "테스트가 아직 실패합니다",
    },
    "en": {
        "message": "Check the payout limit before asking for approval",
        "approved": "Looks good to me",
        "rejected": "The tests still fail",
    },
}


@dataclass(frozen=True, slots=True)
class Scene:
    """One event, as the arguments of `hooks.emit`."""

    type: str
    fields: Mapping[str, Any]

    @property
    def event_id(self) -> str:
        return f"{self.fields['request_id']}:{self.type}"


def scenes(language: str, now: datetime) -> tuple[Scene, ...]:
    """A request, its approval, the refusal of another and the timeout of a third.

    Four types, none of them moot: the only approval_requested comes before its own outcome.
    """
    words = _WORDS[language]
    first, second, third = (
        {"request_id": str(uuid.uuid4()), "user_id": user, "tool_name": "git_commit"}
        for user in ("alice", "bora", "chanho")
    )
    arguments = {"message": words["message"], "files": ["payout/limits.py", "tests/test_limits.py"], "push": False}
    answer = {"responder_id": "operator"}
    return (
        Scene(
            "approval_requested",
            {**first, "requested_at": now, "expires_at": now + _TIME_TO_ANSWER, "arguments": arguments},
        ),
        Scene("approval_approved", {**first, **answer, "reason": words["approved"], "requested_at": now}),
        Scene(
            "approval_rejected",
            {**second, **answer, "reason": words["rejected"], "requested_at": now - timedelta(minutes=2)},
        ),
        Scene("approval_timeout", {**third, "requested_at": now - _TIME_TO_ANSWER, "expires_at": now}),
    )
