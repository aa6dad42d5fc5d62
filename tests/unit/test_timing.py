from __future__ import annotations

import pytest

from approval_mail import timing

GOOD = {
    "smtp_timeout": 10.0,
    "soft_time_limit": timing.SOFT_TIME_LIMIT,
    "hard_time_limit": timing.HARD_TIME_LIMIT,
    "visibility_timeout": timing.VISIBILITY_TIMEOUT,
}


def test_the_shipped_times_stand_in_order() -> None:
    assert timing.order_faults(**GOOD) == []
    assert timing.order_faults(**{**GOOD, "smtp_timeout": timing.MAX_SMTP_TIMEOUT}) == []


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("smtp_timeout", 40, "must be shorter than the lease"),
        ("soft_time_limit", 60, "send_batch's budget (60 s) must be shorter"),
        ("hard_time_limit", 100, "the soft time limit (120 s) must be shorter"),
        ("visibility_timeout", 150, "must be shorter than the broker's visibility_timeout (150 s)"),
    ],
)
def test_a_time_out_of_order_is_named(name: str, value: float, says: str) -> None:
    assert any(says in fault for fault in timing.order_faults(**{**GOOD, name: value}))


def test_waits_grow_as_documented() -> None:
    assert [timing.quick_wait(n) for n in range(3)] == [2, 4, 8]
    assert [timing.round_wait(n) for n in range(7)] == [30, 60, 120, 240, 480, 600, 600]
