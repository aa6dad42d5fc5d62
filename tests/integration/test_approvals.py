"""Approval requests against a real server: every change of status with its event, exactly one winner."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from approval_mail import approvals, services
from approval_mail.addressing import Addressing
from approval_mail.approvals import Approval, NotPending, Status, desks, untold
from approval_mail.approvals.approval_store import ApprovalStore
from approval_mail.approvals.clock import Clock
from approval_mail.approvals.desk import Desk
from approval_mail.approvals.rows import CHUNK, Pace
from approval_mail.errors import InvalidEvent
from approval_mail.events import ApprovalEvent
from approval_mail.gathering import gather
from approval_mail.routing import Routes
from approval_mail.store import EventStore, Verdict
from tests.rig.claims import claims
from tests.rig.proxy import Proxy
from tests.rig.redis_server import RedisServer
from tests.rig.waiting import wait_for

P = "approval_mail:{store}:"
FINANCE = '[[rule]]\nname = "payouts"\ntool_name = "payout*"\nto = "finance@example.com"\n'


@pytest.fixture
def configure(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Desk]:
    """Settings for this process, and a desk by them."""

    def begin(**more: str) -> Desk:
        values = {"NOTIFICATION_ENABLED": "true", "REDIS_URL": redis_server.url, "EMAIL_TO": "kim@example.com", **more}
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        services.configure(None)
        return desks.for_operators()

    return begin


@pytest.fixture
def desk(configure: Callable[..., Desk]) -> Desk:
    return configure()


def ask(desk: Desk, **more: Any) -> Approval:
    return desk.ask(**{"user_id": "agent-7", "tool_name": "git_commit", "arguments": {"message": "fix"}, **more})


def sweep(desk: Desk) -> tuple[Approval, ...]:
    told: list[Approval] = []
    Clock(desk.book).sweep(told.append)
    return tuple(told)


def turn_back(client: redis.Redis, approval: Approval, seconds: float) -> None:
    """Let a request have been asked so many seconds earlier than it was: all its times are Redis's."""
    name, key = approval.request_id, f"{P}approval:{approval.request_id}"
    for field in ("asked", "expires"):
        client.hset(key, field, int(client.hget(key, field) or 0) - round(seconds * 1000))
    for zset in ("deadlines", "unheard"):
        if client.zscore(P + zset, name) is not None:
            client.zincrby(P + zset, -seconds * 1000, name)
    for member in client.zrange(f"{P}reminders", 0, -1):
        if member.endswith(name):
            client.zincrby(f"{P}reminders", -seconds * 1000, member)


def event(client: redis.Redis, event_id: str) -> ApprovalEvent | None:
    record = client.hget(f"{P}event:{event_id}", "record")
    return ApprovalEvent.from_json(record) if record else None


def events(client: redis.Redis) -> list[str]:
    return sorted(key.removeprefix(f"{P}event:").partition(":")[2] for key in client.scan_iter(f"{P}event:*"))


def test_a_request_is_on_record_with_its_event(desk: Desk, client: redis.Redis) -> None:
    approval = ask(desk, timeout=60, team="core")

    assert (approval.status, approval.user_id, approval.tool_name) == ("pending", "agent-7", "git_commit")
    assert (approval.expires_at - approval.requested_at).total_seconds() == 60
    assert not approval
    assert desk.read(approval.request_id) == approval
    told = event(client, f"{approval.request_id}:approval_requested")
    assert told is not None
    assert (told.expires_at, told.requested_at) == (approval.expires_at, approval.requested_at)
    assert told.extra == {"arguments": {"message": "fix"}, "team": "core"}
    assert told.decidable


@pytest.mark.parametrize(
    ("act", "status", "outcome"),
    [("approve", "approved", "approval_approved"), ("reject", "rejected", "approval_rejected")],
)
def test_a_decision_is_on_record_with_its_event(
    desk: Desk, client: redis.Redis, act: str, status: str, outcome: str
) -> None:
    approval = ask(desk, email_to="lee@example.com")

    decided = getattr(desk, act)(approval.request_id, responder_id="kim", reason="looks\x07 good")

    assert (decided.status, decided.responder_id, decided.reason) == (status, "kim", "looks\ufffd good")
    assert decided.ended_at is not None
    assert bool(decided) is (status == "approved")
    told = event(client, f"{approval.request_id}:{outcome}")
    assert told is not None
    assert (told.responder_id, told.reason, told.email_to) == ("kim", "looks\ufffd good", ("lee@example.com",))
    assert client.ttl(f"{P}approval:{approval.request_id}") > 6 * 86400


def test_a_withdrawn_request_has_no_event_and_no_further_mail(
    desk: Desk, client: redis.Redis, store: EventStore
) -> None:
    approval = ask(desk)

    assert desk.cancel(approval.request_id, responder_id="agent-7", reason="not needed").status == "cancelled"

    assert events(client) == ["approval_requested"]
    (claim,) = claims(store, groups=1, size=10, recipients=["kim@example.com"])
    work, suppressed = store.begin(claim.token, claim.event_ids, attempt=0)
    assert (work, list(suppressed.values())) == ([], ["moot: already cancelled"])


@pytest.mark.parametrize("act", ["approve", "reject", "cancel"])
@pytest.mark.parametrize("first", ["approve", "reject", "cancel", "expire"])
def test_what_has_ended_stays_as_it_is(desk: Desk, client: redis.Redis, first: str, act: str) -> None:
    approval = ask(desk, timeout=30)
    if first == "expire":
        turn_back(client, approval, 31)
    else:
        getattr(desk, first)(approval.request_id, responder_id="kim")
    before = desk.read(approval.request_id)
    told = events(client)

    with pytest.raises(NotPending) as refused:
        getattr(desk, act)(approval.request_id, responder_id="lee")

    assert refused.value.approval == desk.read(approval.request_id) == before
    assert before.status is not Status.PENDING
    assert events(client) == told
    assert "lee" not in str(refused.value)


def test_none_is_approved_after_the_deadline_by_the_clock_of_redis(desk: Desk, client: redis.Redis) -> None:
    approval = ask(desk, timeout=30)
    turn_back(client, approval, 30)

    with pytest.raises(NotPending, match=r"expired at \d{4}-"):
        desk.approve(approval.request_id, responder_id="kim")

    assert events(client) == ["approval_requested", "approval_timeout"]


def test_reading_puts_a_timeout_on_record_once(desk: Desk, client: redis.Redis) -> None:
    approval = ask(desk, timeout=30)
    turn_back(client, approval, 31)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: desk.read(approval.request_id), range(32)))

    assert {(one.status, one.ended_at) for one in found} == {(Status.EXPIRED, found[0].ended_at)}
    assert events(client) == ["approval_requested", "approval_timeout"]
    told = event(client, f"{approval.request_id}:approval_timeout")
    assert told is not None
    assert not told.responder_id
    assert client.zcard(f"{P}pending") == 2


def test_a_sweep_expires_what_ran_out_and_nothing_else(desk: Desk, client: redis.Redis) -> None:
    late = [ask(desk, timeout=30) for _ in range(3)]
    waiting = ask(desk, timeout=300)
    for approval in late:
        turn_back(client, approval, 31)

    sweep(desk)

    assert desk.stats().expired == 3
    assert desk.read(waiting.request_id).status is Status.PENDING
    assert events(client).count("approval_timeout") == 3


def test_a_sweep_ends_however_much_is_due(desk: Desk, client: redis.Redis) -> None:
    for approval in [ask(desk, timeout=30) for _ in range(450)]:
        turn_back(client, approval, 31)

    sweep(desk)

    assert desk.stats().expired == 450


def test_200_racing_decisions_have_one_winner(desk: Desk, client: redis.Redis) -> None:
    approval = ask(desk)
    start = threading.Barrier(50)

    def decide(number: int) -> Approval | None:
        if number < 50:
            start.wait()
        act = (desk.approve, desk.reject, desk.approve, desk.cancel)[number % 4]
        try:
            return act(approval.request_id, responder_id=f"person-{number}")
        except NotPending:
            return None

    with ThreadPoolExecutor(50) as pool:
        won = [one for one in pool.map(decide, range(200)) if one is not None]

    assert len(won) == 1
    assert desk.read(approval.request_id) == won[0]
    outcomes = [name for name in events(client) if name != "approval_requested"]
    assert outcomes == [] if won[0].status is Status.CANCELLED else len(outcomes) == 1


def test_a_call_whose_answer_was_lost_is_done_once(desk: Desk, client: redis.Redis) -> None:
    from approval_mail.approvals import records
    from approval_mail.approvals.rows import Ending

    approval = ask(desk)
    store = desk.book.store
    (kept,) = store.read([approval.request_id])
    ending = Ending(Status.APPROVED, "the same call", "kim")
    told = records.outcome(kept, Status.APPROVED, "kim", "")

    assert [store.finish(kept, told, ending).word for _ in range(2)] == ["done", "done"]
    assert store.finish(kept, told, Ending(Status.APPROVED, "another call", "kim")).word == "ended"


def test_an_id_is_used_once(desk: Desk, client: redis.Redis) -> None:
    ask(desk, request_id="deploy-1")
    with pytest.raises(approvals.ApprovalExists, match="deploy-1"):
        ask(desk, request_id="deploy-1", tool_name="payout")
    assert desk.read("deploy-1").tool_name == "git_commit"


def test_an_id_that_a_hook_told_of_is_refused(desk: Desk, client: redis.Redis) -> None:
    from approval_mail import hooks

    hooks.approval_requested(request_id="deploy-1", user_id="kim", tool_name="deploy")
    with pytest.raises(approvals.ApprovalExists):
        ask(desk, request_id="deploy-1")
    assert desk.find("deploy") == []


@pytest.mark.parametrize("name", ["a/b", "", "-x", ".", "a b", "한글", "a" * 201, 5, "a\n"])
def test_ids_that_no_path_or_command_line_could_hold_are_refused(desk: Desk, name: Any) -> None:
    with pytest.raises(InvalidEvent) as refused:
        ask(desk, request_id=name)
    assert refused.value.field == "request_id"


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "60", 31 * 86400])
def test_spans_that_are_none_are_refused(desk: Desk, seconds: Any) -> None:
    with pytest.raises(InvalidEvent) as refused:
        ask(desk, timeout=seconds)
    assert refused.value.field == "timeout"
    approval = ask(desk)
    with pytest.raises(InvalidEvent):
        desk.extend(approval.request_id, seconds)


def test_nobody_is_no_responder(desk: Desk) -> None:
    approval = ask(desk)
    with pytest.raises(InvalidEvent, match="responder_id"):
        desk.approve(approval.request_id, responder_id=" ")
    assert desk.read(approval.request_id).status is Status.PENDING


def test_secrets_among_the_arguments_do_not_reach_redis(desk: Desk, redis_server: RedisServer) -> None:
    arguments = {
        "url": "https://example.com",
        "Password": "hunter2-a",
        "headers": [{"Authorization": "hunter2-b", "X-API-Key": "hunter2-c"}],
        "body": '{"client_secret": "hunter2-d", "amount": 5}',
    }
    approval = ask(desk, arguments=arguments, access_token="hunter2-e")

    assert approval.arguments == {
        "url": "https://example.com",
        "Password": "[redacted]",
        "headers": [{"Authorization": "[redacted]", "X-API-Key": "[redacted]"}],
        "body": '{"client_secret": "[redacted]", "amount": 5}',
    }
    assert (
        b"hunter2"
        not in (redis_server.folder / "appendonlydir")
        .joinpath(
            next(path.name for path in (redis_server.folder / "appendonlydir").iterdir() if ".incr." in path.name)
        )
        .read_bytes()
        .split(approval.request_id.encode(), 1)[1]
    )


def test_an_extension_moves_everything(configure: Callable[..., Desk], client: redis.Redis) -> None:
    desk = configure(APPROVAL_REMINDERS="0.5,0.8")
    approval = ask(desk, timeout=100)
    turn_back(client, approval, 60)
    sweep(desk)
    assert "approval_reminder:0.5" in events(client)

    extended = desk.extend(approval.request_id, 100)

    asked = int(client.hget(f"{P}approval:{approval.request_id}", "asked") or 0)
    assert round(extended.expires_at.timestamp() * 1000) == asked + 200_000
    assert client.zrange(f"{P}reminders", 0, -1, withscores=True) == [(f"0.8 {approval.request_id}", asked + 160_000)]
    assert client.zscore(f"{P}deadlines", approval.request_id) == asked + 200_000
    for name in ("approval_requested", "approval_reminder:0.5"):
        told = event(client, f"{approval.request_id}:{name}")
        assert told is not None
        assert told.expires_at == extended.expires_at
    turn_back(client, approval, 60)
    assert desk.read(approval.request_id).status is Status.PENDING
    turn_back(client, approval, 90)
    with pytest.raises(NotPending, match="expired"):
        desk.extend(approval.request_id, 100)


def test_reminders_come_at_their_fractions_while_pending(configure: Callable[..., Desk], client: redis.Redis) -> None:
    desk = configure(APPROVAL_REMINDERS="0.8,0.5", APPROVAL_ESCALATE_TO="boss@example.com,kim@example.com")
    approval = ask(desk, timeout=100)
    decided = ask(desk, timeout=100)
    desk.approve(decided.request_id, responder_id="kim")
    sweep(desk)
    assert not [name for name in events(client) if "reminder" in name]

    turn_back(client, approval, 51)
    sweep(desk)
    sweep(desk)

    assert [name for name in events(client) if "reminder" in name] == ["approval_reminder:0.5"]
    first = event(client, f"{approval.request_id}:approval_reminder:0.5")
    assert first is not None
    assert (first.fraction, first.email_to, first.expires_at) == ("0.5", (), desk.read(approval.request_id).expires_at)

    turn_back(client, approval, 30)
    sweep(desk)
    last = event(client, f"{approval.request_id}:approval_reminder:0.8")
    assert last is not None
    assert (last.email_to, last.also_to) == ((), ("boss@example.com", "kim@example.com"))


def test_of_reminders_that_are_due_together_the_last_is_sent(
    configure: Callable[..., Desk], client: redis.Redis
) -> None:
    desk = configure(APPROVAL_REMINDERS="0.2,0.5,0.8")
    approval = ask(desk, timeout=100)
    turn_back(client, approval, 60)
    sweep(desk)
    assert [name for name in events(client) if "reminder" in name] == ["approval_reminder:0.5"]
    assert client.zrange(f"{P}reminders", 0, -1) == [f"0.8 {approval.request_id}"]


def test_a_mail_is_moot_from_the_first_try_once_the_request_has_ended(
    configure: Callable[..., Desk], client: redis.Redis, store: EventStore
) -> None:
    desk = configure(APPROVAL_REMINDERS="0.5")
    expired, decided, pending = (ask(desk, timeout=100) for _ in range(3))
    for approval in (expired, decided, pending):
        turn_back(client, approval, 60)
    sweep(desk)
    turn_back(client, expired, 60)
    desk.reject(decided.request_id, responder_id="kim")

    made = claims(store, groups=5, size=10, recipients=["kim@example.com"])
    suppressed: dict[str, str] = {}
    open_ones: list[str] = []
    for claim in made:
        work, found = store.begin(claim.token, claim.event_ids, attempt=0)
        suppressed |= found
        open_ones += [item.event_id for item in work]

    assert {(name.partition(":")[0], reason) for name, reason in suppressed.items()} == {
        (expired.request_id, "moot: expired"),
        (decided.request_id, "moot: already rejected"),
    }
    assert len(suppressed) == 4
    assert sorted(name.partition(":")[2] for name in open_ones) == [
        "approval_rejected",
        "approval_reminder:0.5",
        "approval_requested",
    ]
    traced = store.history.trace(decided.request_id)
    assert {(c.event_id.partition(":")[2], c.state, c.reason) for c in traced} >= {
        ("approval_requested", "suppressed", "moot: already rejected"),
        ("approval_reminder:0.5", "suppressed", "moot: already rejected"),
    }
    assert store.history.requests(decided.request_id[:8]) == [decided.request_id]


def test_a_mail_is_moot_when_the_decision_comes_after_the_try_began(
    desk: Desk, client: redis.Redis, store: EventStore
) -> None:
    first, second = ask(desk), ask(desk)
    (claim,) = claims(store, groups=1, size=10, recipients=["kim@example.com"])
    store.begin(claim.token, claim.event_ids, attempt=0)
    mails = [(f"{approval.request_id}:approval_requested", "kim@example.com") for approval in (first, second)]
    assert store.settle(claim.token, upcoming=mails[0]) == ("", "go")
    desk.approve(second.request_id, responder_id="kim")

    answer = store.settle(claim.token, settled=(*mails[0], Verdict("sent", 250)), upcoming=mails[1])

    assert answer == ("sent", "moot: already approved")
    assert store.count().suppressed == 1


def test_nobody_was_told(
    configure: Callable[..., Desk], client: redis.Redis, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    desk = configure()
    heard, unheard, late = (ask(desk, timeout=100) for _ in range(3))
    (claim,) = claims(store, groups=1, size=10, recipients=["kim@example.com"])
    store.begin(claim.token, claim.event_ids, attempt=0)
    mail = (f"{heard.request_id}:approval_requested", "kim@example.com")
    store.settle(claim.token, upcoming=mail)
    store.settle(claim.token, settled=(*mail, Verdict("sent", 250)))
    for approval in (heard, unheard, late):
        turn_back(client, approval, 51)

    assert (desk.stats().untold, store.count().untold) == (2, 2), "without a worker to find them, too"
    assert {one.request_id for one in sweep(desk)} == {unheard.request_id, late.request_id}
    assert sweep(desk) == ()

    lines = [record for record in caplog.records if record.levelname == "ERROR"]
    assert sorted(line.getMessage()[:38] for line in lines) == sorted(
        f"Nobody was told of approval {one.request_id[:8]}: " for one in (unheard, late)
    )
    assert desk.read(heard.request_id).told_at is not None
    assert not desk.read(heard.request_id).untold
    assert desk.read(unheard.request_id).untold
    assert (desk.stats().untold, store.count().untold) == (2, 2)

    mail = (f"{late.request_id}:approval_requested", "kim@example.com")
    store.settle(claim.token, upcoming=mail)
    store.settle(claim.token, settled=(*mail, Verdict("sent", 250)))
    assert not desk.read(late.request_id).untold
    desk.approve(unheard.request_id, responder_id="kim")
    assert desk.stats().untold == 0


@pytest.fixture
def callbacks() -> Iterator[None]:
    before = list(untold._callbacks)
    yield
    untold._callbacks[:] = before


@pytest.mark.usefixtures("callbacks")
def test_a_host_that_waits_is_called_when_nobody_was_told(desk: Desk, client: redis.Redis) -> None:
    called: list[Approval] = []

    @approvals.on_untold
    def fail(approval: Approval) -> None:
        called.append(approval)
        desk.cancel(approval.request_id, reason="nobody can be reached")

    @approvals.on_untold
    def broken(approval: Approval) -> None:
        raise RuntimeError("the host's own fault")

    handle = approvals.require(user_id="agent-7", tool_name="deploy", timeout=100)
    turn_back(client, handle.approval, 51)
    handle = approvals.resume(handle.request_id)

    ended = handle.wait(10)

    assert (ended.status, ended.reason) == ("cancelled", "nobody can be reached")
    assert [one.request_id for one in called] == [handle.request_id]


def test_a_handle_is_not_for_a_later_request_of_the_same_id(desk: Desk, client: redis.Redis) -> None:
    handle = approvals.require(user_id="agent-7", tool_name="deploy", timeout=100)
    turn_back(client, handle.approval, 10)  # So it was asked at another time, and is another.
    uses = (lambda: handle.wait(0), lambda: asyncio.run(handle.wait_async(0)), handle.cancel, lambda: handle.extend(5))
    for use in uses:
        with pytest.raises(approvals.UnknownApproval):
            use()
    assert desk.read(handle.request_id).status is Status.PENDING


def test_without_notifications_requests_are_kept_and_no_event_is_recorded(
    configure: Callable[..., Desk], client: redis.Redis
) -> None:
    desk = configure(NOTIFICATION_ENABLED="false")
    approval = ask(desk, timeout=100)
    turn_back(client, approval, 60)
    assert sweep(desk) == ()
    assert desk.approve(approval.request_id, responder_id="kim")
    assert events(client) == []


def test_lists_are_newest_first_in_pages(desk: Desk, client: redis.Redis) -> None:
    names = [ask(desk, user_id=f"user-{number % 2}", tool_name="deploy").request_id for number in range(25)]
    for name in names[:5]:
        desk.approve(name, responder_id="kim")
    expected = sorted(names, key=lambda name: (client.zscore(f"{P}approvals", name), name), reverse=True)

    def all_pages(**filters: Any) -> list[str]:
        found: list[str] = []
        cursor = None
        while True:
            page = desk.page(limit=4, cursor=cursor, **filters)
            assert len(page.approvals) <= 4
            found += [one.request_id for one in page.approvals]
            cursor = page.cursor
            if cursor is None:
                return found

    assert all_pages() == expected
    assert sorted(all_pages(status="approved")) == sorted(names[:5])
    assert set(all_pages(user_id="user-1")) == set(names[1::2])
    assert all_pages(tool_name="payout") == []
    assert len(all_pages(status="pending")) == 20
    for bad in ("x", "1.", ".a", "²." + names[0]):
        with pytest.raises(ValueError, match="cursor"):
            desk.page(cursor=bad)


def test_ids_are_found_by_their_beginning(desk: Desk) -> None:
    for name in ("deploy-1", "deploy-2", "deploy-20"):
        ask(desk, request_id=name)
    assert desk.find("deploy-2") == ["deploy-2", "deploy-20"]
    assert desk.find("deploy-1") == ["deploy-1"]
    assert desk.find("deploy") == ["deploy-1", "deploy-2", "deploy-20"]
    assert desk.find("payout") == []


def test_what_is_older_than_history_is_forgotten(configure: Callable[..., Desk], client: redis.Redis) -> None:
    desk = configure(NOTIFICATION_HISTORY_DAYS="1")
    approval = ask(desk)
    pending = ask(desk)
    desk.approve(approval.request_id, responder_id="kim")
    client.zincrby(f"{P}finished", -2 * 86400 * 1000, approval.request_id)
    client.delete(f"{P}approval:{approval.request_id}")

    sweep(desk)

    assert [one.request_id for one in desk.page().approvals] == [pending.request_id]
    assert desk.find(approval.request_id) == []
    assert desk.stats().approved == 0


_DAMAGE: dict[str, Callable[[redis.Redis, str], object]] = {
    "record": lambda client, key: client.hset(key, "record", "{"),
    "record of other types": lambda client, key: client.hset(key, "record", '{"type": "approval_requested"}'),
    "no record": lambda client, key: client.hdel(key, "record"),
    "expires": lambda client, key: client.hset(key, "expires", "soon"),
    "expires far off": lambda client, key: client.hset(key, "expires", "9" * 30),
    "expires with a zero": lambda client, key: client.hset(key, "expires", "0" + (client.hget(key, "expires") or "")),
    "no asked": lambda client, key: client.hdel(key, "asked"),
    "status": lambda client, key: client.hset(key, "status", "maybe"),
    "no status": lambda client, key: client.hdel(key, "status"),
    "told": lambda client, key: client.hset(key, "told", "yes"),
    "another type of key": lambda client, key: (client.delete(key), client.set(key, "x")),
    "gone": lambda client, key: client.delete(key),
}


@pytest.mark.parametrize("damage", _DAMAGE.values(), ids=_DAMAGE)
def test_a_damaged_request_disturbs_no_other_and_is_approved_by_nobody(
    configure: Callable[..., Desk], client: redis.Redis, damage: Callable[[redis.Redis, str], object]
) -> None:
    desk = configure(APPROVAL_REMINDERS="0.5")
    damaged, sound = ask(desk, timeout=30), ask(desk, timeout=30)
    waiting = approvals.resume(damaged.request_id), approvals.require(user_id="agent-7", tool_name="deploy")
    damage(client, f"{P}approval:{damaged.request_id}")
    for approval in (damaged, sound):
        for zset in ("deadlines", "unheard"):
            client.zadd(f"{P}{zset}", {approval.request_id: 1})
        client.zadd(f"{P}reminders", {f"0.5 {approval.request_id}": 1})
    if client.hget(f"{P}approval:{sound.request_id}", "expires"):
        turn_back(client, sound, 31)

    for _ in range(2):
        sweep(desk)

    assert desk.read(sound.request_id).status is Status.EXPIRED
    assert [one.request_id for one in desk.page().approvals] == [waiting[1].request_id, sound.request_id]
    for act in (
        desk.read,
        functools.partial(desk.approve, responder_id="kim"),
        functools.partial(desk.extend, seconds=9),
    ):
        with pytest.raises(approvals.UnknownApproval):
            act(damaged.request_id)
    due = client.zscore(f"{P}deadlines", damaged.request_id) is not None
    assert due is bool(desk.book.store.read([damaged.request_id])), "nobody looks again at what nobody can read"
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(handle.wait, 10) for handle in waiting]
        desk.approve(waiting[1].request_id, responder_id="kim")
        assert answers[1].result()
        with pytest.raises(approvals.UnknownApproval):
            answers[0].result()


def test_a_finish_with_a_field_missing_is_done_as_a_whole(desk: Desk, client: redis.Redis) -> None:
    approval = ask(desk)
    client.hdel(f"{P}approval:{approval.request_id}", "fractions")
    assert desk.approve(approval.request_id, responder_id="kim")
    assert client.ttl(f"{P}approval:{approval.request_id}") > 0


def test_many_reminders_that_are_due_together_are_one_for_each_request(
    configure: Callable[..., Desk], client: redis.Redis
) -> None:
    desk = configure(APPROVAL_REMINDERS="0.5,0.75")
    for approval in [ask(desk, timeout=100) for _ in range(250)]:
        turn_back(client, approval, 80)
    sweep(desk)
    sweep(desk)
    assert sorted(name for name in events(client) if "reminder" in name) == ["approval_reminder:0.75"] * 250


def test_an_id_is_used_again_after_history(desk: Desk, client: redis.Redis) -> None:
    ask(desk, request_id="deploy-1")
    desk.cancel("deploy-1")
    client.delete(f"{P}approval:deploy-1", f"{P}event:deploy-1:approval_requested")
    client.zadd(f"{P}finished", {"deploy-1": 1})
    ask(desk, request_id="deploy-1")
    sweep(desk)
    assert [one.request_id for one in desk.page().approvals] == desk.find("deploy") == ["deploy-1"]
    assert desk.stats().cancelled == 0


def test_a_mail_about_a_request_that_was_deleted_leaves_nothing(
    desk: Desk, client: redis.Redis, store: EventStore
) -> None:
    approval = ask(desk)
    (claim,) = claims(store, groups=1, size=10, recipients=["kim@example.com"])
    store.begin(claim.token, claim.event_ids, attempt=0)
    mail = (f"{approval.request_id}:approval_requested", "kim@example.com")
    store.settle(claim.token, upcoming=mail)
    client.delete(f"{P}approval:{approval.request_id}")
    store.settle(claim.token, settled=(*mail, Verdict("sent", 250)))
    assert not client.exists(f"{P}approval:{approval.request_id}")


def test_the_scripts_run_on_a_cluster(configure: Callable[..., Desk], tmp_path: Path) -> None:
    """A node that owns every slot refuses a script that touches two of them."""
    server = RedisServer(tmp_path, "--cluster-enabled", "yes").start()
    try:
        with server.client as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_for(lambda: "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO")))
            desk = configure(REDIS_URL=server.url, APPROVAL_REMINDERS="0.5")
            late, decided = ask(desk, timeout=100), ask(desk)
            turn_back(client, late, 60)
            sweep(desk)
            desk.extend(late.request_id, 10)
            turn_back(client, late, 60)
            sweep(desk)
            desk.approve(decided.request_id, responder_id="kim")
            assert (desk.stats().expired, desk.stats().approved) == (1, 1)
    finally:
        server.kill()


class TestWaiting:
    def test_a_decision_wakes_who_waits(self, desk: Desk) -> None:
        handle = approvals.require(user_id="agent-7", tool_name="deploy")
        decided: list[float] = []

        def decide() -> None:
            time.sleep(0.3)  # Until the waiter listens.
            desk.approve(handle.request_id, responder_id="kim")
            decided.append(time.monotonic())

        thread = threading.Thread(target=decide)
        thread.start()
        approval = handle.wait(10)
        waited = time.monotonic()
        thread.join()

        assert approval
        assert approval.responder_id == "kim"
        assert waited - decided[0] < 0.5

    def test_what_was_decided_before_is_answered_at_once(self, desk: Desk) -> None:
        handle = approvals.require(user_id="agent-7", tool_name="deploy")
        desk.reject(handle.request_id, responder_id="kim")
        started = time.monotonic()
        assert handle.wait().status is Status.REJECTED
        assert asyncio.run(handle.wait_async()).status is Status.REJECTED
        assert time.monotonic() - started < 0.5

    def test_a_wait_that_ends_first_has_no_permission(self, desk: Desk) -> None:
        handle = approvals.require(user_id="agent-7", tool_name="deploy")
        assert not handle.wait(0.05)
        assert not asyncio.run(handle.wait_async(0.05))
        assert handle.wait(0).status is Status.PENDING

    def test_a_lost_notification_costs_a_second(self, desk: Desk, client: redis.Redis) -> None:
        handle = approvals.require(user_id="agent-7", tool_name="deploy")
        thread = threading.Thread(target=lambda: client.client_kill_filter(_type="pubsub"))
        timer = threading.Timer(0.3, thread.start)
        timer.start()
        threading.Timer(0.35, lambda: desk.approve(handle.request_id, responder_id="kim")).start()
        started = time.monotonic()
        assert handle.wait(10)
        assert time.monotonic() - started < 3

    def test_a_deadline_that_passes_ends_the_wait_though_nobody_sweeps(self, desk: Desk) -> None:
        handle = approvals.require(user_id="agent-7", tool_name="deploy", timeout=0.3)
        assert handle.wait(10).status is Status.EXPIRED

    def test_who_is_told_that_nobody_was_is_told_once_however_often_it_waits(
        self, desk: Desk, client: redis.Redis, callbacks: None
    ) -> None:
        called: list[str] = []
        approvals.on_untold(lambda approval: called.append(approval.request_id))
        handle = approvals.require(user_id="agent-7", tool_name="deploy", timeout=100)
        turn_back(client, handle.approval, 51)
        handle = approvals.resume(handle.request_id)
        for _ in range(4):
            handle.wait(0.3)
        assert called == [handle.request_id]

    def test_many_coroutines_wait_over_one_connection(self, desk: Desk, client: redis.Redis) -> None:
        wait_for(lambda: all(row["sub"] == "0" for row in client.client_list()), saying="earlier waiters gone")

        async def wait_for_all() -> list[Approval]:
            handles = [approvals.require(user_id="agent-7", tool_name="deploy") for _ in range(50)]
            waits = [asyncio.create_task(handle.wait_async(20)) for handle in handles]
            await asyncio.to_thread(
                wait_for,
                lambda: any(row["sub"] == "1" for row in client.client_list()),
                saying="the watcher listening",
            )
            assert sum(row["sub"] == "1" for row in client.client_list()) == 1
            for handle in handles:
                await asyncio.to_thread(desk.approve, handle.request_id, responder_id="kim")
            return await asyncio.gather(*waits)

        assert all(asyncio.run(wait_for_all()))

    def test_a_handle_is_taken_up_again(self, desk: Desk) -> None:
        approval = ask(desk)
        desk.approve(approval.request_id, responder_id="kim")
        assert approvals.resume(approval.request_id).wait(5)
        with pytest.raises(approvals.UnknownApproval):
            approvals.resume("no-such-request")

    def test_who_waits_outlasts_a_restart_of_redis(
        self, own_redis: RedisServer, configure: Callable[..., Desk]
    ) -> None:
        desk = configure(REDIS_URL=own_redis.url)
        handle = approvals.require(user_id="agent-7", tool_name="deploy")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(handle.wait, 30)
            time.sleep(0.2)
            own_redis.kill()
            time.sleep(0.3)
            with pytest.raises(approvals.ApprovalsUnavailable):
                desks.for_hosts().approve(handle.request_id, responder_id="kim")
            assert not waiting.done()
            own_redis.start()
            desk.approve(handle.request_id, responder_id="kim")
            assert waiting.result(20)

    def test_nothing_is_approved_while_redis_is_out_of_reach(
        self, own_redis: RedisServer, configure: Callable[..., Desk]
    ) -> None:
        configure(REDIS_URL=own_redis.url)
        handle = approvals.require(user_id="agent-7", tool_name="deploy")
        own_redis.kill()
        started = time.monotonic()
        with pytest.raises(approvals.ApprovalsUnavailable):
            approvals.require(user_id="agent-7", tool_name="deploy")
        assert time.monotonic() - started < 0.5
        with pytest.raises(approvals.ApprovalsUnavailable):
            handle.wait(0.2)


class TestGuard:
    @staticmethod
    def answer(desk: Desk, act: str) -> threading.Thread:
        """Decide the next request, as a person would."""

        def decide() -> None:
            wait_for(lambda: desk.stats().pending == 1, saying="a request")
            (approval,) = desk.page(status="pending").approvals
            getattr(desk, act)(approval.request_id, responder_id="kim", reason="because")

        thread = threading.Thread(target=decide)
        thread.start()
        return thread

    @pytest.mark.parametrize("act", ["approve", "reject", "cancel"])
    def test_a_function_runs_only_if_approved(self, desk: Desk, act: str) -> None:
        ran: list[int] = []

        @approvals.requires_approval(tool_name="payout", timeout=60, user_id=lambda call: f"agent-{call['amount']}")
        def pay(amount: int, *, to: object = None, password: str = "x") -> int:
            """Pay somebody."""
            ran.append(amount)
            return amount

        thread = self.answer(desk, act)
        if act == "approve":
            assert pay(5, to=object()) == 5
        else:
            with pytest.raises(approvals.NotApproved, match=r"payout was not run.*because") as refused:
                pay(5)
            assert isinstance(refused.value, PermissionError)
        thread.join()

        assert ran == ([5] if act == "approve" else [])
        assert pay.__doc__ == "Pay somebody."
        (approval,) = desk.page().approvals
        assert (approval.tool_name, approval.user_id) == ("payout", "agent-5")
        shown = {"amount": 5, "to": "<object>" if act == "approve" else None, "password": "[redacted]"}
        assert approval.arguments == shown

    @pytest.mark.parametrize("act", ["approve", "reject"])
    def test_a_coroutine_runs_only_if_approved(self, desk: Desk, act: str) -> None:
        @approvals.requires_approval()
        async def deploy(version: str) -> str:
            return f"deployed {version}"

        thread = self.answer(desk, act)
        if act == "approve":
            assert asyncio.run(deploy("1.2")) == "deployed 1.2"
        else:
            with pytest.raises(approvals.NotApproved):
                asyncio.run(deploy("1.2"))
        thread.join()
        assert desk.page().approvals[0].tool_name == "deploy"

    def test_what_changed_while_it_was_waited_for_does_not_run(self, desk: Desk) -> None:
        files = ["a"]

        @approvals.requires_approval(tool_name="delete")
        def delete(files: list[str]) -> None:
            raise AssertionError("somebody approved something else")

        def decide() -> None:
            wait_for(lambda: desk.stats().pending == 1, saying="a request")
            files.append("/etc")
            desk.approve(desk.page(status="pending").approvals[0].request_id, responder_id="kim")

        thread = threading.Thread(target=decide)
        thread.start()
        with pytest.raises(approvals.NotApproved, match="arguments changed"):
            delete(files)
        thread.join()

    def test_keys_that_read_the_same_are_refused(self, desk: Desk) -> None:
        @approvals.requires_approval(tool_name="delete")
        def delete(files: dict[Any, str]) -> None: ...

        with pytest.raises(InvalidEvent, match="read the same"):
            delete({1: "safe", "1": "rm -rf"})
        for key in ("run\u200e.sh", "a\rb", "x" * 300 + "1"):
            with pytest.raises(InvalidEvent, match="read the same"):
                delete({key: "rm -rf", key.replace("\u200e", "\u200f").replace("\r", "\n").replace("x1", "x2"): "safe"})
        with pytest.raises(InvalidEvent, match="read the same"):
            approvals.require(user_id="agent-7", tool_name="x", **{"a\u200eb": 1, "a\u200fb": 2})
        assert desk.stats().pending == 0

    def test_an_object_that_is_called_asynchronously_leaves_the_loop_free(self, desk: Desk) -> None:
        class Deploy:
            async def __call__(self) -> str:
                return "deployed"

        thread = self.answer(desk, "approve")
        assert asyncio.run(approvals.requires_approval(tool_name="deploy")(Deploy())()) == "deployed"
        thread.join()
        assert callable(approvals.requires_approval(lambda: None))
        with pytest.raises(TypeError, match="tool_name"):
            approvals.requires_approval()(functools.partial(print))

    def test_a_coroutine_that_is_cancelled_while_it_asks_leaves_no_request(self, desk: Desk) -> None:
        @approvals.requires_approval(tool_name="deploy")
        async def deploy() -> None: ...

        async def cancel_at_once(delay: float) -> None:
            task = asyncio.create_task(deploy())
            await asyncio.sleep(delay)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        for delay in (0, 0, 0.0005, 0.001, 0.002):
            asyncio.run(cancel_at_once(delay))
        assert desk.stats().pending == 0

    def test_a_handle_is_neither_yes_nor_no(self, desk: Desk) -> None:
        with pytest.raises(TypeError, match="wait"):
            bool(approvals.require(user_id="agent-7", tool_name="deploy"))

    def test_nor_is_waiting_for_it_without_await(self, desk: Desk) -> None:
        handle = approvals.require(user_id="agent-7", tool_name="deploy")
        waiting = handle.wait_async()
        with pytest.raises(TypeError, match="await"):
            bool(waiting)
        waiting.close()
        desk.approve(handle.request_id, responder_id="kim")

        async def wait() -> tuple[Approval, ...]:
            return await handle.wait_async(), await asyncio.create_task(handle.wait_async(1))

        assert all(asyncio.run(wait()))
        assert asyncio.run(handle.wait_async())

    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_nothing_is_run_long_after_the_deadline_because_redis_was_away(
        self,
        configure: Callable[..., Desk],
        redis_server: RedisServer,
        monkeypatch: pytest.MonkeyPatch,
        asynchronous: bool,
    ) -> None:
        """It was approved in time, and nobody here can know."""
        monkeypatch.setattr("approval_mail.approvals.guard._GRACE", 0.5)
        with Proxy(redis_server.port) as proxy:
            configure(REDIS_URL=proxy.redis_url)
            there = ApprovalStore(redis_server.client, pace=Pace(10, 5, 1))

            @approvals.requires_approval(tool_name="payout", timeout=1.5)
            def pay() -> None:
                raise AssertionError("nobody knew that it was approved")

            @approvals.requires_approval(tool_name="payout", timeout=1.5)
            async def pay_async() -> None:
                raise AssertionError("nobody knew that it was approved")

            def lose_redis() -> None:
                wait_for(lambda: there.stats().pending == 1, saying="a request")
                proxy.refuse()

            thread = threading.Thread(target=lose_redis)
            thread.start()
            began = time.monotonic()
            with pytest.raises(approvals.ApprovalsUnavailable):
                asyncio.run(pay_async()) if asynchronous else pay()
            assert time.monotonic() - began < 4
            thread.join()
            services.forget_connections()

    def test_a_caller_that_gives_up_withdraws_its_request(self, desk: Desk) -> None:
        @approvals.requires_approval(tool_name="deploy")
        async def deploy() -> None:
            raise AssertionError("nobody approved it")

        async def give_up() -> None:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(deploy(), 0.3)

        asyncio.run(give_up())
        assert desk.stats().cancelled == 1

    def test_a_call_with_wrong_arguments_asks_nobody(self, desk: Desk) -> None:
        @approvals.requires_approval(tool_name="deploy")
        def deploy(version: str) -> None: ...

        with pytest.raises(TypeError):
            deploy()  # type: ignore[call-arg]
        assert desk.stats().pending == 0

    def test_a_generator_cannot_be_guarded(self) -> None:
        with pytest.raises(TypeError, match="generator"):

            @approvals.requires_approval(tool_name="deploy")
            def deploy() -> Iterator[int]:
                yield 1


def test_a_list_that_changes_while_it_is_read_leaves_out_nothing_and_repeats_nothing(
    desk: Desk, client: redis.Redis
) -> None:
    old = []
    for _ in range(3):
        old.append(ask(desk).request_id)
        time.sleep(0.002)  # Of those that were asked in one millisecond none is newer.
    late = [ask(desk, timeout=0.001).request_id for _ in range(2 * CHUNK)]
    wait_for(lambda: desk.read(late[-1]).status is Status.EXPIRED)
    assert [one.request_id for one in desk.page(status="pending").approvals] == old[::-1], (
        "the late ones expire on the way"
    )
    rows = desk.book.store.listing(None, None)
    seen = [next(rows).request_id]
    for _ in range(5):
        ask(desk)
    seen += [row.request_id for row in rows]
    assert len(seen) == len(set(seen))
    assert set(seen) == {*old, *late}


@pytest.mark.parametrize(("rules", "told"), [("", "kim@example.com"), (FINANCE, "finance@example.com")])
@pytest.mark.parametrize("extended", [False, True])
def test_who_hears_of_a_request_last_hears_of_it_besides_those_who_were_told(
    configure: Callable[..., Desk], client: redis.Redis, rules: str, told: str, extended: bool
) -> None:
    """The rules alone choose who else decides."""
    desk = configure(APPROVAL_REMINDERS="0.5,0.8", APPROVAL_ESCALATE_TO="boss@example.com")
    approval = ask(desk, tool_name="payout", timeout=100)
    turn_back(client, approval, 81)
    sweep(desk)
    if extended:
        desk.extend(approval.request_id, 60)
    store = EventStore(client)
    addressing = Addressing(["kim@example.com"], Routes.parse(rules, "routes.toml"))
    (claim,) = gather(store, addressing, batch_size=10)
    work, _ = store.begin(claim.token, claim.event_ids, attempt=0)
    heard = {one.event_id.partition(":")[2]: [each.address for each in one.recipients] for one in work}
    assert sorted(heard["approval_reminder:0.8"]) == sorted(["boss@example.com", told])
    assert heard["approval_requested"] == [told]


@pytest.mark.parametrize("expires", ["soon", None])
def test_a_damaged_deadline_stops_nobody_elses_mail(desk: Desk, client: redis.Redis, expires: str | None) -> None:
    damaged, sound = ask(desk), ask(desk)
    store = EventStore(client)
    [claim] = claims(store, groups=1, size=10, recipients=["kim@example.com"])
    if expires:
        client.hset(f"{P}approval:{damaged.request_id}", "expires", expires)
    else:
        client.hdel(f"{P}approval:{damaged.request_id}", "expires")
    work, suppressed = store.begin(claim.token, claim.event_ids, attempt=0)
    assert suppressed == {f"{damaged.request_id}:approval_requested": "moot: expired"}
    assert [one.event_id for one in work] == [f"{sound.request_id}:approval_requested"]
