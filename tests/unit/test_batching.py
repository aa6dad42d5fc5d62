from __future__ import annotations

import pytest

from approval_mail.batching import MAX_CLAIMED, Plan, count, plan, room_from


@pytest.mark.parametrize(
    ("due", "claimed", "lately", "size", "wanted"),
    [
        (0, 0, 0, 10, Plan(0, 10)),
        (1, 0, 0, 10, Plan(1, 10)),
        (10, 0, 0, 10, Plan(1, 10)),
        (25, 0, 0, 10, Plan(3, 10)),
        pytest.param(5000, 0, 0, 10, Plan(10, 10), id="nothing is known of the mail server yet"),
        pytest.param(5000, 0, 30, 10, Plan(10, 10), id="a slow mail server"),
        pytest.param(5000, 0, 200, 10, Plan(8, 50), id="a faster one"),
        pytest.param(5000, 0, 9000, 10, Plan(10, 100), id="a fast one"),
        (5000, MAX_CLAIMED, 9000, 10, Plan(0, 10)),
        pytest.param(5000, MAX_CLAIMED // 2 + 1, 9000, 10, Plan(0, 10), id="not half of the bound is free"),
        pytest.param(5000, MAX_CLAIMED // 2, 9000, 10, Plan(9, 60), id="half of the bound is free"),
        pytest.param(5, MAX_CLAIMED - 5, 9000, 10, Plan(1, 10), id="all that is due fits"),
        (5000, 100, 0, 10, Plan(0, 10)),
        (160, 0, 9000, 10, Plan(8, 20)),
    ],
)
def test_due_events_are_cut_into_tasks(due: int, claimed: int, lately: int, size: int, wanted: Plan) -> None:
    assert plan(due=due, claimed=claimed, lately=lately, batch_size=size) == wanted


@pytest.mark.parametrize(
    ("due", "claimed", "wanted"),
    [
        pytest.param(1, MAX_CLAIMED, Plan(1, 10), id="one beside a backlog"),
        pytest.param(300, MAX_CLAIMED, Plan(10, 30), id="some beside a backlog"),
        pytest.param(5000, MAX_CLAIMED, Plan(9, 60), id="as many as there is room for beside a backlog"),
        pytest.param(5000, MAX_CLAIMED + 1, Plan(0, 10), id="more when half of the bound is free"),
        pytest.param(49_000, 0, Plan(15, 100), id="never all at once"),
    ],
)
def test_urgent_events_find_room_beside_a_backlog_and_have_a_bound_too(due: int, claimed: int, wanted: Plan) -> None:
    assert plan(due=due, claimed=claimed, lately=9000, batch_size=10, urgent=True) == wanted


@pytest.mark.parametrize("due", range(1, 3000, 37))
@pytest.mark.parametrize("size", [1, 7, 10, 1000])
def test_a_plan_covers_what_is_due_up_to_the_bound(due: int, size: int) -> None:
    wanted = plan(due=due, claimed=0, lately=9000, batch_size=size)
    assert wanted.tasks * wanted.events_per_task >= min(due, MAX_CLAIMED)
    assert wanted.events_per_task % size == 0


def test_batches_are_counted() -> None:
    assert [count(n, 10) for n in (1, 10, 11)] == [1, 1, 2]


@pytest.mark.parametrize("urgent", [False, True])
@pytest.mark.parametrize("due", [1, 49, 300, 5000])
@pytest.mark.parametrize("lately", [0, 200, 9000])
def test_a_plan_finds_room_from_where_it_is_said_on(due: int, lately: int, urgent: bool) -> None:
    most = room_from(due=due, lately=lately, batch_size=10, urgent=urgent)
    assert plan(due=due, claimed=most, lately=lately, batch_size=10, urgent=urgent).tasks > 0
    assert plan(due=due, claimed=most + 1, lately=lately, batch_size=10, urgent=urgent).tasks == 0
