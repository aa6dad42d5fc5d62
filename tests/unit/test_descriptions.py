"""What is shown of a task in place of its arguments."""

from __future__ import annotations

from typing import Any

import pytest

from approval_mail import descriptions
from approval_mail.descriptions import describe

DATA = {"request_id": "abc12345-6789", "tool_name": "git_commit", "user_id": "kim", "reason": "hush"}


@pytest.mark.parametrize(
    ("task", "args", "kwargs", "shown"),
    [
        ("notify", ["approval_requested", DATA], {}, "approval_requested abc12345 git_commit"),
        ("notify", [], {"event_type": "approval_timeout", "data": DATA}, "approval_timeout abc12345 git_commit"),
        ("notify", ["approval_approved", {"request_id": 7}], {}, "approval_approved 7"),
        ("notify", ["approval_approved", {"tool_name": "a\nb\u202e" + "c" * 500}], {}, None),
        ("gather", [], {"by_beat": True}, "by beat"),
        ("gather", [], {"due": 17}, "woken"),
        (
            "notify",
            ["approval_approved", {"tool_name": {"key": "secret"}, "request_id": ["secret"]}],
            {},
            "approval_approved",
        ),
        ("conclude", [[{"sent": 1}], 1.0, 3], {}, "3 batches"),
        ("conclude", [{"sent": 1}, 1.0, 1], {}, "1 batch"),
    ],
)
def test_a_call_is_described_by_what_it_is_about(
    task: str, args: list[Any], kwargs: dict[str, Any], shown: str | None
) -> None:
    text = describe(f"approval_mail.{task}", args, kwargs)
    assert text == shown if shown else text
    assert "\n" not in text
    assert "\u202e" not in text
    assert len(text) < 120


@pytest.mark.parametrize(
    ("task", "args"),
    [
        ("approval_mail.notify", []),
        ("approval_mail.notify", ["secret", {"request_id": "secret"}]),
        ("approval_mail.notify", ["approval_requested", "secret"]),
        ("approval_mail.notify", ["approval_requested", {}, "secret"]),
        ("approval_mail.notify", [["secret"], {}]),
        ("approval_mail.send_batch", ["token", ["secret"]]),
        ("celery.chord", ["secret"]),
    ],
)
def test_a_call_that_is_not_as_it_should_be_shows_nothing(task: str, args: list[Any]) -> None:
    assert describe(task, args, {}) == ""


def test_several_events_are_described_by_the_first() -> None:
    assert descriptions.of_events("approval_requested r1 git_commit", 1) == "approval_requested r1 git_commit"
    assert (
        descriptions.of_events("approval_requested r1 git_commit", 3) == "approval_requested r1 git_commit and 2 more"
    )
