"""One claim on its way out: real store, real templates, real SMTP; only the clock is handed in."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import redis

from approval_mail import timing
from approval_mail.addressing import Addressing
from approval_mail.delivery import Delivery
from approval_mail.errors import TryAgain
from approval_mail.gathering import gather
from approval_mail.mailer import Channel, Mailer
from approval_mail.rendering import Renderer
from approval_mail.routing import Routes
from approval_mail.store import Claim, EventStore, operator_client
from tests.integration.test_store import event, lapse, record, states
from tests.rig.claims import claims
from tests.rig.proxy import Proxy
from tests.rig.redis_server import RedisServer
from tests.rig.smtp_server import Connection, SMTPServer

EVERYBODY = ("a@example.com", "b@example.com", "c@example.com")


class Clock:
    """Seconds, moved by the test."""

    def __init__(self) -> None:
        self.now = 0.0
        #: Seconds that pass at each look.
        self.pace = 0.0

    def __call__(self) -> float:
        self.now += self.pace
        return self.now


class Rig:
    def __init__(
        self,
        store: EventStore,
        smtp: SMTPServer,
        templates: Path | None,
        *,
        routes: str = "",
        digest_threshold: int = 0,
        **channel: Any,
    ) -> None:
        self.store = store
        self.routes = Routes.parse(routes, "routes.toml")
        self.digest_threshold = digest_threshold
        self.clock = Clock()
        given = {"use_tls": None, "ca_file": None, "user": "", "password": "", "timeout": 2.0, **channel}
        self.mailer = Mailer(Channel(host="127.0.0.1", port=smtp.port, sender="ai@example.com", **given))

        @cache
        def renderer(language: str) -> Renderer:
            return Renderer(folder=templates, language=language or "ko", timezone=timezone.utc, sender="ai@example.com")

        self.delivery = Delivery(store, renderer, self.mailer, digest_threshold=digest_threshold, clock=self.clock)

    def gather(self, recipients: tuple[str, ...] = ("op@example.com",)) -> list[Claim]:
        addressing = Addressing(recipients, self.routes, digest_threshold=self.digest_threshold)
        return gather(self.store, addressing, batch_size=10)

    def send(self, recipients: tuple[str, ...] = ("op@example.com",), attempt: int = 0) -> dict[str, int]:
        [claim] = self.gather(recipients)
        return self.delivery.send(claim, attempt=attempt)


@pytest.fixture
def templates() -> Path | None:
    return None


@pytest.fixture
def rig(store: EventStore, smtp: SMTPServer, templates: Path | None) -> Iterator[Rig]:
    made = Rig(store, smtp, templates)
    yield made
    made.mailer.close()


def test_every_recipient_gets_one_mail_over_one_connection(rig: Rig, smtp: SMTPServer) -> None:
    record(rig.store, event("r1"))
    record(rig.store, event("r2", "approval_approved", reason="<b>fine</b>"))
    assert rig.send(EVERYBODY) == {"sent": 6, "deferred": 0, "dead": 0, "suppressed": 0}
    assert [len(smtp.to(recipient)) for recipient in EVERYBODY] == [2, 2, 2]
    assert smtp.connections == 1
    assert {mail.subject for mail in smtp.mails} == {"[승인 필요] git_commit 도구", "[승인됨] git_commit 도구"}
    assert states(rig.store) == {"sent": 2}


def test_an_accepted_mail_is_settled_as_it_is_accepted(rig: Rig, smtp: SMTPServer, client: redis.Redis) -> None:
    for n in range(3):
        record(rig.store, event(f"r{n}"))
    seen = []

    def look(connection: Connection) -> None:
        seen.append(rig.store.count().sent)
        connection.say("250 ok")

    smtp.on("mail", act=look)
    rig.send()
    assert seen == [0, 1, 2]


def test_the_guides_log_line_is_written_once_per_event(
    rig: Rig, smtp: SMTPServer, caplog: pytest.LogCaptureFixture
) -> None:
    record(rig.store, event("abc12345-6789"))
    with caplog.at_level(logging.INFO):
        rig.send(EVERYBODY)
    assert caplog.messages.count("Notification sent for ApprovalEvent(approval_requested, abc12345)") == 1


def test_a_permanent_refusal_is_dead_at_once_and_the_others_are_sent(rig: Rig, smtp: SMTPServer) -> None:
    smtp.on("rcpt", "550 5.1.1 no such user", recipient="b@example.com")
    record(rig.store, event())
    assert rig.send(EVERYBODY) == {"sent": 2, "deferred": 0, "dead": 1, "suppressed": 0}
    [mail] = rig.store.history.dead()
    assert (mail.recipient, mail.code, mail.phase, mail.attempts) == ("b@example.com", 550, "rcpt", 1)
    assert mail.reason == "550 5.1.1 no such user"


def test_what_may_pass_is_asked_for_again_and_only_that(rig: Rig, smtp: SMTPServer) -> None:
    smtp.on("rcpt", "451 greylisted", recipient="b@example.com", times=1)
    record(rig.store, event())
    [claim] = rig.gather(EVERYBODY)
    with pytest.raises(TryAgain):
        rig.delivery.send(claim, attempt=0)
    assert states(rig.store) == {"claimed": 1}, "the lease covers the countdown"
    assert rig.delivery.send(claim, attempt=1)["sent"] == 3
    assert [len(smtp.to(recipient)) for recipient in EVERYBODY] == [1, 1, 1]


def test_the_last_quick_try_defers_and_does_not_raise(rig: Rig, smtp: SMTPServer, client: redis.Redis) -> None:
    smtp.on("rcpt", "451 greylisted")
    record(rig.store, event())
    [claim] = rig.gather()
    for attempt in range(timing.QUICK_RETRIES):
        with pytest.raises(TryAgain):
            rig.delivery.send(claim, attempt=attempt)
    assert rig.delivery.send(claim, attempt=timing.QUICK_RETRIES)["deferred"] == 1
    assert states(rig.store) == {"deferred": 1}


def test_a_later_round_is_one_attempt(rig: Rig, smtp: SMTPServer, client: redis.Redis) -> None:
    smtp.on("rcpt", "451 greylisted")
    record(rig.store, event())
    assert rig.send(attempt=timing.QUICK_RETRIES)["deferred"] == 1
    client.zadd("approval_mail:{store}:pending", {"r1:approval_requested": 1})
    assert rig.send(attempt=0)["deferred"] == 1
    smtp.behave()
    client.zadd("approval_mail:{store}:pending", {"r1:approval_requested": 1})
    assert rig.send()["sent"] == 1


def test_an_unknown_outcome_is_tried_again_later_with_the_same_message_id(
    rig: Rig, smtp: SMTPServer, client: redis.Redis
) -> None:
    smtp.on("dot", act=Connection.reset, times=1)
    record(rig.store, event())
    assert rig.send()["deferred"] == 1, "a quick try could double a mail that a slow server is about to take"
    client.zadd("approval_mail:{store}:pending", {"r1:approval_requested": 1})
    assert rig.send()["sent"] == 1
    assert len(smtp.mails) == 2
    assert len({mail.message_id for mail in smtp.mails}) == 1


@pytest.mark.parametrize("attempt", [0, timing.QUICK_RETRIES])
def test_an_unknown_outcome_gets_no_quick_try_though_the_server_went_away_after_it(
    rig: Rig, smtp: SMTPServer, attempt: int
) -> None:
    def go(connection: Connection) -> None:
        smtp.stop()
        connection.reset()

    for n in range(3):
        record(rig.store, event(f"r{n}"))
    smtp.on("dot", act=go, times=1)
    [claim] = rig.gather()
    if attempt:
        rig.delivery.send(claim, attempt=attempt)
    else:
        with pytest.raises(TryAgain):
            rig.delivery.send(claim, attempt=attempt)
    rounds = [rig.store._client.hget(f"approval_mail:{{store}}:event:{name}", "rounds") for name in claim.event_ids]
    assert rounds == ["1", None, None], "it alone has spent one"
    assert states(rig.store) == ({"deferred": 3} if attempt else {"deferred": 1, "claimed": 2})


def test_a_copy_of_a_running_try_sends_nothing(rig: Rig, smtp: SMTPServer) -> None:
    record(rig.store, event())
    [claim] = rig.gather()
    rig.store.begin(claim.token, claim.event_ids, attempt=0)
    rig.delivery.send(claim, attempt=0)
    assert smtp.mails == []


def test_a_refused_connection_is_quickly_tried_again_and_then_holds_the_channel(
    rig: Rig, smtp: SMTPServer, caplog: pytest.LogCaptureFixture
) -> None:
    smtp.stop()
    record(rig.store, event("r1"))
    [claim] = rig.gather()
    for attempt in range(timing.QUICK_RETRIES):
        with pytest.raises(TryAgain):
            rig.delivery.send(claim, attempt=attempt)
    rig.delivery.send(claim, attempt=timing.QUICK_RETRIES)
    assert states(rig.store) == {"deferred": 1}
    counts = rig.store.count()
    assert counts.held_since is not None
    assert "Connection refused" in (counts.held_reason or "")
    record(rig.store, event("r2"))
    assert rig.gather() == []
    assert states(rig.store) == {"deferred": 2}
    assert caplog.text.count("Channel held") == 1


def test_a_refused_login_holds_the_channel_at_once_and_spends_no_attempt(
    store: EventStore, smtp: SMTPServer, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    smtp.users["me"] = "secret"
    rig = Rig(store, smtp, None, use_tls=False, user="me", password="wrong")
    for n in range(5):
        record(store, event(f"r{n}"))
    rig.send()
    assert states(store) == {"deferred": 5}
    assert len([command for command in smtp.commands if command.startswith("AUTH")]) == 1
    assert "535" in (store.count().held_reason or "")
    assert caplog.text.count("Channel held") == 1

    smtp.users["me"] = "wrong"  # Mended on the server's side.
    client.hset("approval_mail:{store}:channel", "probe", 1)
    client.zadd(
        "approval_mail:{store}:pending", dict.fromkeys(client.zrange("approval_mail:{store}:pending", 0, -1), 1)
    )
    assert rig.send()["sent"] == 5
    assert store.count().held_since is None
    rig.mailer.close()


def test_a_login_that_is_missed_only_at_mail_holds_the_channel_across_probes(
    rig: Rig, smtp: SMTPServer, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """As with Gmail and SMTP_USER unset: connecting and EHLO go well each time, and say nothing of the channel."""
    for n in range(25):
        record(rig.store, event(f"r{n}"))
    smtp.on("mail", "530 5.7.0 Authentication Required")
    with caplog.at_level(logging.INFO):
        for claim in rig.gather():
            rig.delivery.send(claim, attempt=0)
        since = rig.store.count().held_since
        assert since is not None
        for _ in range(2):
            assert rig.gather() == []
            client.hset("approval_mail:{store}:channel", "probe", 1)
            client.zadd("approval_mail:{store}:pending", {"r0:approval_requested": 1})
            assert rig.send()["deferred"] == 1
    assert rig.store.count().held_since == since
    assert client.hget("approval_mail:{store}:channel", "failures") == "3", "each probe waits twice as long"
    assert caplog.text.count("Channel held") == 1
    assert "works again" not in caplog.text
    assert "the channel works again" not in [change.reason for change in rig.store.history.trace("r0")]
    assert states(rig.store) == {"deferred": 25}


def test_a_channel_that_works_again_frees_what_waited_for_it(
    rig: Rig, smtp: SMTPServer, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(25):
        record(rig.store, event(f"r{n}"))
    rig.store.hold(reason="535", next_step="mend")
    assert rig.gather() == []
    client.hset("approval_mail:{store}:channel", "probe", 1)
    client.zadd("approval_mail:{store}:pending", {"r0:approval_requested": 1})
    with caplog.at_level(logging.INFO):
        assert rig.send()["sent"] == 1
    assert "works again" in caplog.text
    assert states(rig.store) == {"pending": 24, "sent": 1}


@pytest.mark.parametrize("fault", ["moot", "corrupt"])
def test_a_probe_with_nothing_left_to_send_still_tries_the_channel(rig: Rig, client: redis.Redis, fault: str) -> None:
    record(rig.store, event("r1", expires_at="2020-01-01T00:00:00Z"), waited=0)
    if fault == "corrupt":
        client.hset("approval_mail:{store}:event:r1:approval_requested", mapping={"record": "{", "late": ""})
    rig.store.hold(reason="refused", next_step="wait")
    client.hset("approval_mail:{store}:channel", "probe", 1)
    outcome = rig.send()
    assert outcome["suppressed" if fault == "moot" else "dead"] == 1
    assert rig.store.count().held_since is None


def test_an_urgent_event_overtakes_a_backlog_on_a_slow_server(rig: Rig, smtp: SMTPServer, client: redis.Redis) -> None:
    for n in range(15):
        record(rig.store, event(f"o{n}", "approval_approved"))
    slow, _ = rig.gather()
    record(rig.store, event("r1"))
    client.zadd("approval_mail:{store}:urgent", {"r1:approval_requested": 1})
    rig.clock.pace = 0.1
    assert 0 < rig.delivery.send(slow, attempt=0)["sent"] < 10, "it gives its worker back once it has sent for a while"
    rig.clock.pace = 0
    first, *rest = rig.gather()
    assert (first.event_ids, first.urgent) == (("r1:approval_requested",), True)
    assert rig.delivery.send(first, attempt=0)["sent"] == 1
    for claim in rest:
        rig.delivery.send(claim, attempt=0)
    assert len({mail.message_id for mail in smtp.mails}) == len(smtp.mails) == 11


def test_under_a_backlog_no_gather_is_asked_for_until_there_is_room(
    rig: Rig, smtp: SMTPServer, client: redis.Redis
) -> None:
    def asked() -> float | None:
        client.delete("approval_mail:{store}:wake")
        wake_up = rig.store.wake(batch_size=10, batch_timeout=5)
        return wake_up.seconds if wake_up else None

    for n in range(300):
        record(rig.store, event(f"o{n}", "approval_approved"))
    first, second, *rest = rig.gather()
    assert (asked() or 0) > 0.5, "a gather looks for room once a second"
    wake_up = record(rig.store, event("r1")).wake_up
    assert wake_up, "for an urgent event there is room"
    assert wake_up.seconds == 0
    rig.store.rescue()
    assert asked() != 0, "while a gather is at it the last one's note holds"
    [urgent] = rig.gather()
    assert urgent.event_ids == ("r1:approval_requested",)
    for claim in (first, second, *rest[:2]):
        rig.delivery.send(claim, attempt=0)
    rig.delivery.send(urgent, attempt=0)
    rig.gather()
    assert (asked() or 0) > 0.5
    rig.delivery.send(rest[2], attempt=0)
    assert asked() == 0
    assert sum(len(claim.event_ids) for claim in rig.gather()) >= 50


def test_not_even_urgent_events_are_all_claimed_at_once_and_what_is_left_follows(rig: Rig, smtp: SMTPServer) -> None:
    for n in range(400):
        record(rig.store, event(f"r{n}"))
    first = rig.gather()
    assert sum(len(claim.event_ids) for claim in first) == 150
    assert rig.gather() == []
    claims = first
    for _ in range(10):  # Who finishes asks for more.
        for claim in claims:
            rig.delivery.send(claim, attempt=0)
        claims = rig.gather()
    assert len({mail.message_id for mail in smtp.mails}) == len(smtp.mails) == 400


def test_urgent_events_go_out_though_redis_refuses_the_claim_after_theirs(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    refusals: list[bytes] = []

    def turn_read_only(request: bytes, reply: bytes) -> bool:
        if b"EVALSHA" in request and b'"approval_requested"' in reply:
            admin.replicaof("127.0.0.1", 1)
        refusals.extend([reply] if b"READONLY" in reply else [])
        if len(refusals) == 2:  # Which is tried again once, by a new connection.
            admin.replicaof("NO", "ONE")
        return True

    with (
        own_redis.client as admin,
        Proxy(own_redis.port, turn_read_only) as proxy,
        operator_client(proxy.redis_url) as client,
    ):
        store = EventStore(client)
        for n in range(20):
            record(store, event(f"o{n}", "approval_approved"))
        record(store, event("r1"))
        [claim] = gather(store, Addressing(EVERYBODY, Routes()), batch_size=10)
        assert (claim.event_ids, claim.urgent) == (("r1:approval_requested",), True)
        assert "Redis takes no more claims" in caplog.text
        assert states(store) == {"claimed": 1, "pending": 20}


def test_a_hundredth_mail_is_settled_before_its_connection_is_left(rig: Rig, smtp: SMTPServer) -> None:
    smtp.on("quit", act=Connection.reset)
    for n in range(101):
        record(rig.store, event(f"r{n}", "approval_approved"))
    [claim] = claims(rig.store, groups=1, size=200, recipients=["op@example.com"])
    assert rig.delivery.send(claim, attempt=0)["sent"] == 101
    assert len(smtp.mails) == 101


def test_a_connection_lost_in_the_middle_is_replaced(rig: Rig, smtp: SMTPServer) -> None:
    for n in range(3):
        record(rig.store, event(f"r{n}"))
    smtp.on("rcpt", act=Connection.reset, times=1)
    [claim] = rig.gather()
    with pytest.raises(TryAgain):
        rig.delivery.send(claim, attempt=0)
    assert len(smtp.mails) == 2
    assert rig.delivery.send(claim, attempt=1)["sent"] == 3
    assert len(smtp.mails) == 3


def test_a_server_that_goes_away_in_the_middle_spends_no_attempt_of_the_rest(rig: Rig, smtp: SMTPServer) -> None:
    for n in range(3):
        record(rig.store, event(f"r{n}"))
    smtp.on("rcpt", act=lambda _: smtp.stop(), times=1)
    [claim] = rig.gather()
    with pytest.raises(TryAgain):
        rig.delivery.send(claim, attempt=0)
    rig.delivery.send(claim, attempt=timing.QUICK_RETRIES)
    assert states(rig.store) == {"deferred": 3}


def test_no_new_mail_is_started_after_the_budget_and_the_rest_goes_back_unspent(rig: Rig, smtp: SMTPServer) -> None:
    for n in range(10):
        record(rig.store, event(f"r{n}", expires_at="2020-01-01T00:00:00Z"))
    rig.clock.pace = 3.0
    first = rig.send()["sent"]
    assert 1 <= first < 10
    assert states(rig.store) == {"sent": first, "pending": 10 - first}
    rig.clock.pace = 0
    assert rig.send()["sent"] == 10 - first, "given back unspent, they are not late and so not moot"


def test_a_worker_that_lost_its_lease_stops_sending(rig: Rig, smtp: SMTPServer, client: redis.Redis) -> None:
    for n in range(3):
        record(rig.store, event(f"r{n}"))
    [claim] = rig.gather()

    def take_over(connection: Connection) -> None:
        lapse(client, rig.store)
        rig.clock.now += timing.RENEW_AFTER
        connection.say("250 ok")

    smtp.on("rcpt", act=take_over, times=1)
    rig.delivery.send(claim, attempt=0)
    assert smtp.mails == []
    assert rig.send()["sent"] == 3


def test_an_acceptance_is_recorded_though_the_lease_was_lost_while_the_server_thought(
    rig: Rig, smtp: SMTPServer, client: redis.Redis
) -> None:
    record(rig.store, event())
    [claim] = rig.gather()

    def take_over(connection: Connection) -> None:
        lapse(client, rig.store)
        rig.clock.now += timing.LEASE
        connection.say("250 taken")

    smtp.on("dot", act=take_over, times=1)
    assert rig.delivery.send(claim, attempt=0)["sent"] == 1
    assert states(rig.store) == {"sent": 1}
    assert len(smtp.mails) == 1


def test_a_corrupt_record_is_dead_and_its_neighbours_are_sent(rig: Rig, client: redis.Redis) -> None:
    for n in range(3):
        record(rig.store, event(f"r{n}"))
    client.hset("approval_mail:{store}:event:r1:approval_requested", "record", "{")
    assert rig.send() == {"sent": 2, "deferred": 0, "dead": 1, "suppressed": 0}
    assert next(rig.store.history.dead()).phase == "record"


def test_a_record_that_is_no_text_is_dead_and_its_neighbours_are_sent(rig: Rig, client: redis.Redis) -> None:
    for n in range(3):
        record(rig.store, event(f"r{n}"))
    client.hset("approval_mail:{store}:event:r1:approval_requested", "record", b"\xff{")
    assert rig.send() == {"sent": 2, "deferred": 0, "dead": 1, "suppressed": 0}


def test_a_mail_that_cannot_be_rendered_is_dead_and_its_neighbours_are_sent(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, smtp: SMTPServer
) -> None:
    from approval_mail.errors import TemplateFailed

    render = Renderer.render

    def poisoned(self: Renderer, what: Any, now: datetime, **more: Any) -> Any:
        if what.request_id == "r1":
            raise TemplateFailed("approval_requested.html:3: boom")
        return render(self, what, now, **more)

    monkeypatch.setattr(Renderer, "render", poisoned)
    for n in range(3):
        record(rig.store, event(f"r{n}"))
    assert rig.send()["sent"] == 2
    [mail] = rig.store.history.dead()
    assert (mail.phase, mail.reason) == ("render", "approval_requested.html:3: boom")


def test_a_mail_that_kills_its_process_is_buried_after_three_tries_and_spares_the_neighbours(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, client: redis.Redis, smtp: SMTPServer
) -> None:
    render = Renderer.render

    class Killed(BaseException):
        """What a kill -9 looks like to the store: nothing more is said."""

    def deadly(self: Renderer, what: Any, now: datetime, **more: Any) -> Any:
        if what.request_id == "r1":
            raise Killed
        return render(self, what, now, **more)

    monkeypatch.setattr(Renderer, "render", deadly)
    for n in range(3):
        record(rig.store, event(f"r{n}"))
    for _ in range(3):
        with pytest.raises(Killed):
            rig.send()
        lapse(client, rig.store)
    rig.send()
    assert states(rig.store) == {"sent": 2, "dead": 1}
    assert "outcome unknown 3 times" in next(rig.store.history.dead()).reason
    assert len(smtp.mails) == 2


def test_an_operators_template_that_fails_never_makes_a_blank_mail(
    store: EventStore, smtp: SMTPServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "approval_requested.html").write_text("<p>\n{{ no_such_variable }}</p>")
    rig = Rig(store, smtp, tmp_path)
    record(store, event())
    assert rig.send()["sent"] == 1
    assert "git_commit" in smtp.mails[0].message.get_body(("html",)).get_content()  # type: ignore[union-attr]
    assert "no_such_variable" in caplog.text
    rig.mailer.close()
