"""The three requests that the demo makes, each for one way to end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Scene:
    """A request as it is asked, and the reason with which it is decided."""

    user_id: str
    tool_name: str
    arguments: Mapping[str, Any]
    #: Seconds; None: as the settings have it.
    timeout: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """One request for each way to end."""

    #: By the two clicks of whoever watches.
    approved: Scene
    #: On the command line.
    rejected: Scene
    expired: Scene


#: Seconds. Long enough for its mail to be read, short enough for whoever watches to see it expire.
_SHORT = 4.0

_WORDS = {
    "ko": {
        "message": "결제 한도 검사를 승인 단계 앞으로 옮김",
        "approved": "변경 내용을 확인했습니다",
        "rejected": "백업을 먼저 받아 주세요",
    },
    "en": {
        "message": "Check the payout limit before asking for approval",
        "approved": "Looks good to me",
        "rejected": "Take a backup first",
    },
}


def story(language: str) -> Story:
    """The requests in one of settings.LANGUAGES; in English where that has no words here."""
    words = _WORDS.get(language, _WORDS["en"])
    files = ["payout/limits.py", "tests/test_limits.py"]
    return Story(
        approved=Scene(
            "alice",
            "git_commit",
            {"message": words["message"], "files": files, "push": False},
            reason=words["approved"],
        ),
        rejected=Scene(
            "bora", "run_migration", {"database": "payouts", "password": "hunter2"}, reason=words["rejected"]
        ),
        expired=Scene("chanho", "restart_service", {"service": "payout-worker"}, timeout=_SHORT),
    )
