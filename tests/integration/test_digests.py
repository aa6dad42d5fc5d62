"""Digests and routed mails on their way out: real store, real templates, real SMTP."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from approval_mail import timing
from approval_mail.errors import TryAgain
from approval_mail.store import EventStore
from tests.integration.test_delivery import Rig
from tests.integration.test_store import event, lapse, record, states
from tests.rig.smtp_server import Connection, Mail, SMTPServer

OP = "op@example.com"
Make = Callable[..., Rig]


@pytest.fixture
def make(store: EventStore, smtp: SMTPServer) -> Iterator[Make]:
    made: list[Rig] = []

    def rig(**more: Any) -> Rig:
        made.append(Rig(store, smtp, None, **more))
        return made[-1]

    yield rig
    for one in made:
        one.mailer.close()


def tell(rig: Rig, count: int, event_type: str = "approval_requested", **data: Any) -> None:
    for n in range(count):
        record(rig.store, event(f"{event_type[9:12]}{n}", event_type, **data))


def body(mail: Mail) -> str:
    part = mail.message.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def test_more_than_the_threshold_for_one_recipient_is_one_mail_that_settles_them_all(
    make: Make, smtp: SMTPServer, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make(digest_threshold=3)
    tell(rig, 2)
    tell(rig, 2, "approval_approved")
    with caplog.at_level(logging.INFO):
        assert rig.send() == {"sent": 4, "deferred": 0, "dead": 0, "suppressed": 0}
    [mail] = smtp.mails
    assert all(request in body(mail) for request in ("req0", "req1", "app0", "app1"))
    assert body(mail).index("req1") < body(mail).index("app0"), "requests come first"
    assert states(rig.store) == {"sent": 4}
    assert caplog.text.count("Notification sent for") == 4
    for n in range(2):
        changes = [change for change in rig.store.history.trace(f"req{n}") if change.recipient == OP]
        assert [(change.state, change.code, change.attempt) for change in changes] == [("sent", 250, 1)]
        assert changes[0].reason.endswith(" (in a digest of 4)")


def test_as_many_as_the_threshold_and_fewer_go_one_by_one(make: Make, smtp: SMTPServer) -> None:
    rig = make(digest_threshold=3)
    tell(rig, 3)
    assert rig.send()["sent"] == 3
    assert len(smtp.mails) == 3


def test_without_a_threshold_there_is_no_digest(make: Make, smtp: SMTPServer) -> None:
    rig = make()
    tell(rig, 10)
    assert rig.send()["sent"] == 10
    assert len(smtp.mails) == 10


def test_each_recipient_is_counted_alone(make: Make, smtp: SMTPServer) -> None:
    rig = make(digest_threshold=2)
    tell(rig, 3, email_to="a@example.com,b@example.com")
    record(rig.store, event("own", email_to="b@example.com"))
    record(rig.store, event("other", email_to="c@example.com"))
    together, apart = rig.gather()
    assert len(together.event_ids) == 4, "all of a digest's events are in one claim"
    assert rig.delivery.send(together, attempt=0)["sent"] == 7
    assert rig.delivery.send(apart, attempt=0)["sent"] == 1
    assert [len(smtp.to(f"{who}@example.com")) for who in "abc"] == [1, 1, 1]
    assert "own" in body(smtp.to("b@example.com")[0])
    assert "own" not in body(smtp.to("a@example.com")[0])


def test_what_is_urgent_and_what_is_not_share_a_digest_of_one_gather(make: Make, smtp: SMTPServer) -> None:
    rig = make(digest_threshold=5)
    tell(rig, 14, "approval_approved")
    tell(rig, 3)
    [claim] = rig.gather()
    assert claim.urgent, "it overtakes, as its requests would"
    assert rig.delivery.send(claim, attempt=0)["sent"] == 17
    assert len(smtp.mails) == 1


def test_a_digest_holds_a_hundred_events_at_the_most(make: Make, smtp: SMTPServer) -> None:
    rig = make(digest_threshold=5)
    tell(rig, 100, "approval_approved")
    tell(rig, 30, "approval_rejected")
    while claims := rig.gather():
        for claim in claims:
            rig.delivery.send(claim, attempt=0)
    assert states(rig.store) == {"sent": 130}
    assert len(smtp.mails) == 2


def test_what_else_a_digests_events_send_is_spread_over_claims(make: Make, smtp: SMTPServer) -> None:
    """A person whom every mail goes to must not have one process send everybody else's."""
    rig = make(digest_threshold=5)
    for n in range(80):
        record(rig.store, event(f"r{n}", "approval_approved", email_to=f"{OP},person{n}@example.com"))
    [claim] = rig.gather()
    assert len(claim.event_ids) == 80
    assert rig.delivery.send(claim, attempt=0)["sent"] == 80 + 50
    rest = rig.gather()
    assert [len(claim.event_ids) for claim in rest] == [10, 10, 10]
    for claim in rest:
        rig.delivery.send(claim, attempt=0)
    assert states(rig.store) == {"sent": 80}
    assert [len(smtp.to(f"person{n}@example.com")) for n in range(80)] == [1] * 80


def test_a_digest_that_may_pass_is_tried_again_as_a_digest(make: Make, smtp: SMTPServer) -> None:
    rig = make(digest_threshold=2)
    smtp.on("dot", "451 later", times=1)
    tell(rig, 4)
    [claim] = rig.gather()
    with pytest.raises(TryAgain):
        rig.delivery.send(claim, attempt=0)
    assert states(rig.store) == {"claimed": 4}
    assert rig.delivery.send(claim, attempt=1)["sent"] == 4
    assert len(smtp.mails) == 1
    changes = [change for change in rig.store.history.trace("req2") if change.recipient]
    assert [(change.state, change.code, change.attempt) for change in changes] == [
        ("claimed", 451, 1),
        ("sent", 250, 2),
    ]


@pytest.mark.parametrize(
    ("step", "reply"), [("mail", "552 5.3.4 too large"), ("data", "554 5.7.1 no"), ("dot", "554 no")]
)
def test_a_digest_that_is_refused_as_a_whole_goes_one_by_one(
    step: str, reply: str, make: Make, smtp: SMTPServer
) -> None:
    rig = make(digest_threshold=2)
    smtp.on(step, reply, times=1)
    tell(rig, 5)
    assert rig.send()["sent"] == 5
    assert len(smtp.mails) == 5


def test_what_a_whole_round_failed_is_spread_over_claims_again(
    make: Make, smtp: SMTPServer, client: redis.Redis
) -> None:
    rig = make(digest_threshold=2)
    smtp.on("dot", "451 later")
    tell(rig, 30)
    [claim] = rig.gather()
    rig.delivery.send(claim, attempt=timing.QUICK_RETRIES)
    for event_id in claim.event_ids:
        client.zadd("approval_mail:{store}:pending", {event_id: 1})
    assert [len(claim.event_ids) for claim in rig.gather()] == [10, 10, 10]


def test_a_refused_recipient_is_dead_for_every_event(make: Make, smtp: SMTPServer) -> None:
    rig = make(digest_threshold=2)
    smtp.on("rcpt", "550 5.1.1 no such user")
    tell(rig, 4)
    assert rig.send()["dead"] == 4
    assert smtp.mails == []
    assert {mail.code for mail in rig.store.history.dead()} == {550}


def test_events_of_a_refused_digest_go_one_by_one_so_that_the_one_at_fault_is_alone(
    make: Make, smtp: SMTPServer, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make(digest_threshold=2)
    smtp.on("dot", "554 5.7.1 content refused", times=1)
    tell(rig, 4)
    with caplog.at_level(logging.WARNING):
        assert rig.send() == {"sent": 4, "deferred": 0, "dead": 0, "suppressed": 0}
    assert len(smtp.mails) == 4
    assert "Refused in dot, its events go one by one: 554" in caplog.text
    changes = [change for change in rig.store.history.trace("req1") if change.recipient == OP]
    assert [change.attempt for change in changes] == [1], "the digest spent no attempt"
    found = rig.store.counters()
    assert sum(count for key, count in found.items() if key[0] == "smtp") == 5, "it took its time in SMTP all the same"
    assert found["attempts", "dead", "dot"] == 1, "and was refused"


def test_events_of_a_refused_digest_go_though_an_urgent_event_waits(
    make: Make, smtp: SMTPServer, client: redis.Redis
) -> None:
    """Else the digest would be refused again and again, and nothing of it would go."""
    rig = make(digest_threshold=2)
    smtp.on("dot", "554 5.7.1 content refused", times=1)
    tell(rig, 4, "approval_approved")
    [claim] = rig.gather()
    record(rig.store, event("r1"))
    client.zadd("approval_mail:{store}:urgent", {"r1:approval_requested": 1})
    rig.clock.pace = 0.6
    assert rig.delivery.send(claim, attempt=0)["sent"] == 1


def test_digests_give_way_to_an_urgent_event_once_they_have_sent_for_a_while(
    make: Make, smtp: SMTPServer, client: redis.Redis
) -> None:
    rig = make(digest_threshold=2)
    people = [f"person{n}@example.com" for n in range(20)]
    tell(rig, 3, "approval_approved", email_to=",".join(people))
    [claim] = rig.gather()
    record(rig.store, event("r1"))
    client.zadd("approval_mail:{store}:urgent", {"r1:approval_requested": 1})
    rig.clock.pace = 0.01
    rig.delivery.send(claim, attempt=0)
    rig.clock.pace = 0
    assert 0 < len(smtp.mails) < 20
    for claim in rig.gather():
        rig.delivery.send(claim, attempt=0)
    assert [len(smtp.to(who)) for who in people] == [1] * 20


def test_what_may_have_been_accepted_goes_by_itself_next_time(
    make: Make, smtp: SMTPServer, client: redis.Redis
) -> None:
    rig = make(digest_threshold=2)
    smtp.on("dot", act=Connection.reset, times=1)
    tell(rig, 3)
    assert rig.send()["deferred"] == 3
    for n in range(3):
        client.zadd("approval_mail:{store}:pending", {f"req{n}:approval_requested": 1})
    rig.send()
    assert len(smtp.mails) == 4, "the digest, and then each: one of them may be what broke the connection"


def test_what_killed_its_worker_in_a_digest_spares_its_neighbours(
    make: Make, smtp: SMTPServer, client: redis.Redis
) -> None:
    rig = make(digest_threshold=2)
    tell(rig, 3)
    [claim] = rig.gather()
    rig.store.begin(claim.token, claim.event_ids, attempt=0)
    for event_id in claim.event_ids:  # And there the worker died.
        assert rig.store.settle(claim.token, upcoming=(event_id, OP))[1] == "go"
    assert lapse(client, rig.store) == 3
    assert rig.send()["sent"] == 3
    assert len(smtp.mails) == 3


def test_a_worker_that_dies_before_a_digest_is_put_on_record_repeats_each_of_its_events(
    make: Make, smtp: SMTPServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Nothing of the product catches it."""

    def die(*_: object) -> list[str]:
        raise Killed

    rig = make(digest_threshold=2)
    tell(rig, 3)
    monkeypatch.setattr(EventStore, "settle_each", die)
    with pytest.raises(Killed):
        rig.send()
    monkeypatch.undo()
    assert lapse(client, rig.store) == 3
    assert rig.send()["sent"] == 3
    assert len(smtp.mails) == 4, "the digest, and each of its events"
    assert states(rig.store) == {"sent": 3}


def test_what_round_one_did_not_deliver_goes_by_itself(make: Make, smtp: SMTPServer, client: redis.Redis) -> None:
    rig = make(digest_threshold=2)
    smtp.on("dot", "451 later", times=1)
    tell(rig, 3)
    assert rig.send(attempt=timing.QUICK_RETRIES)["deferred"] == 3
    for n in range(3):
        client.zadd("approval_mail:{store}:pending", {f"req{n}:approval_requested": 1})
    assert rig.send()["sent"] == 3
    assert len(smtp.mails) == 3


def test_a_lost_channel_spends_no_attempt_of_a_digest(make: Make, smtp: SMTPServer) -> None:
    rig = make(digest_threshold=2)
    smtp.on("mail", "530 5.7.0 log in first")
    tell(rig, 3)
    assert rig.send()["deferred"] == 3
    assert rig.store.count().held_since
    assert smtp.mails == []


def test_moot_events_are_left_out_of_a_digest(make: Make, smtp: SMTPServer) -> None:
    rig = make(digest_threshold=2)
    tell(rig, 3)
    record(rig.store, event("late"), waited=10)
    record(rig.store, event("late", "approval_rejected"))
    assert rig.send()["suppressed"] == 1
    [mail] = smtp.mails
    assert body(mail).count("late") >= 1
    assert states(rig.store) == {"sent": 4, "suppressed": 1}


def test_a_digest_is_one_mail_for_the_server_and_many_for_the_counters(make: Make, smtp: SMTPServer) -> None:
    rig = make(digest_threshold=2)
    tell(rig, 5)
    rig.send()
    counters = rig.store.counters()
    assert counters[("digests",)] == 1
    assert counters[("accepted", "approval_requested")] == 5
    assert counters[("attempts", "sent", "dot")] == 5
    assert sum(value for name, value in counters.items() if name[0] == "delivery") == 5
    assert sum(value for name, value in counters.items() if name[0] == "smtp") == 1


ROUTES = """
[[rule]]
name = "deploys"
tool_name = "deploy_*"
to = ["ops@example.com"]
language = "en"
timezone = "Asia/Seoul"
go_on = true

[[rule]]
name = "who asked is not asked"
type = "approval_requested"
tool_name = "deploy_*"
to = ["kim@example.com", "lee@example.com"]
leave_out = ["{user_id}@example.com"]

[[rule]]
name = "quiet timeouts"
type = "approval_timeout"
off = true

[[rule]]
name = "only who asked"
type = "approval_rejected"
to = ["kim@example.com"]
leave_out = ["{user_id}@example.com"]
"""


def test_rules_say_who_gets_what_in_which_language_and_zone(make: Make, smtp: SMTPServer) -> None:
    rig = make(routes=ROUTES)
    record(rig.store, event("r1", tool_name="deploy_web", requested_at="2026-01-02T03:04:05Z"))
    record(rig.store, event("r2"))
    assert rig.send()["sent"] == 3
    assert sorted(mail.recipient for mail in smtp.mails) == ["lee@example.com", OP, "ops@example.com"]
    [english], [korean] = smtp.to("ops@example.com"), smtp.to("lee@example.com")
    assert english.subject == "[Approval needed] deploy_web"
    assert "2026-01-02 12:04:05 KST" in body(english)
    assert korean.subject == "[승인 필요] deploy_web 도구"
    assert "2026-01-02 03:04:05 UTC" in body(korean)


def test_who_gets_it_and_how_it_is_worded_is_frozen_with_the_first_claim(
    make: Make, smtp: SMTPServer, client: redis.Redis
) -> None:
    smtp.on("dot", "451 later", times=2)
    record(make(routes=ROUTES).store, event("r1", "approval_approved", tool_name="deploy_web"))
    assert make(routes=ROUTES).send(attempt=timing.QUICK_RETRIES)["deferred"] == 1
    client.zadd("approval_mail:{store}:pending", {"r1:approval_approved": 1})
    assert make().send()["deferred"] == 1, "now without routes"
    client.zadd("approval_mail:{store}:pending", {"r1:approval_approved": 1})
    assert make().send()["sent"] == 1
    [mail] = smtp.mails
    assert (mail.recipient, mail.subject) == ("ops@example.com", "[Approved] deploy_web")


def test_what_is_switched_off_is_suppressed_with_the_rules_name(
    make: Make, smtp: SMTPServer, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make(routes=ROUTES)
    record(rig.store, event("r1", "approval_timeout"))
    with caplog.at_level(logging.INFO):
        assert rig.gather() == []
    assert states(rig.store) == {"suppressed": 1}
    *_, last = rig.store.history.trace("r1")
    reason = "switched off by rule 'quiet timeouts'"
    assert (last.state, last.recipient, last.reason) == ("suppressed", OP, reason)
    assert f"Suppressed r1:approval_timeout: {reason}" in caplog.text
    assert rig.store.counters()[("suppressed", reason)] == 1


def test_where_everybody_is_left_out_the_mails_are_dead_and_can_be_retried_by_other_rules(
    make: Make, smtp: SMTPServer, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make(routes=ROUTES)
    record(rig.store, event("r1", "approval_rejected"))
    assert rig.gather() == []
    assert states(rig.store) == {"dead": 1}
    [dead] = rig.store.history.dead()
    assert (dead.recipient, dead.phase) == ("kim@example.com", "routing")
    assert "only who asked" in dead.reason
    assert f"Dead r1:approval_rejected: {dead.reason}" in caplog.text
    assert rig.store.reopen("r1:approval_rejected") == 1
    assert make().send()["sent"] == 1
    assert [mail.recipient for mail in smtp.mails] == [OP]


def test_readers_of_two_languages_get_two_digests(make: Make, smtp: SMTPServer) -> None:
    rig = make(routes=ROUTES.replace('"ops@example.com"', '"ops@example.com", "kim@example.com"'), digest_threshold=1)
    for n in range(3):
        record(rig.store, event(f"d{n}", "approval_approved", tool_name="deploy_web"))
        record(rig.store, event(f"o{n}", "approval_approved", email_to="ops@example.com"))
    for claim in rig.gather():
        rig.delivery.send(claim, attempt=0)
    assert len(smtp.to("ops@example.com")) == 2
    assert len(smtp.to("kim@example.com")) == 1


@pytest.mark.parametrize("switched_off", [True, False])
def test_a_held_channel_is_probed_though_nothing_is_left_to_send(
    make: Make, smtp: SMTPServer, client: redis.Redis, switched_off: bool
) -> None:
    """Else status and alerts would tell of trouble that has passed until the next event comes."""
    rig = make(routes=ROUTES)
    rig.store.hold(reason="no login", next_step="mend it")
    if switched_off:
        record(rig.store, event("r1", "approval_timeout"))
    client.hset("approval_mail:{store}:channel", "probe", 1)
    [probe] = rig.gather()
    assert probe.event_ids == ()
    assert rig.gather() == [], "one probes at a time"
    rig.delivery.send(probe, attempt=0)
    assert smtp.connections == 1
    assert rig.store.count().held_since is None


def test_a_probe_without_events_that_fails_keeps_the_channel_held(
    make: Make, smtp: SMTPServer, client: redis.Redis
) -> None:
    rig = make()
    rig.store.hold(reason="no login", next_step="mend it")
    client.hset("approval_mail:{store}:channel", "probe", 1)
    [probe] = rig.gather()
    assert rig.store.renew(probe.token, probe.event_ids) == 1, "it may take its time"
    assert rig.store.renew("another", ()) == 0
    smtp.stop()
    rig.delivery.send(probe, attempt=0)
    assert rig.store.count().held_since is not None
    wait, _ = rig.store.channel_wait("another") or (0.0, "")
    assert timing.HOLD_BACKOFF < wait <= 2 * timing.HOLD_BACKOFF
