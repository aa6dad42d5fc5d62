"""Events on their way through a setup of pytest-celery whose nodes are killed and restarted."""

from __future__ import annotations

import collections

import pytest
import redis
from pytest_celery import CeleryTestSetup, CeleryTestWorker

from approval_mail import hooks
from approval_mail.errors import InvalidEvent
from approval_mail.store import EventStore
from approval_mail.tasks import notify
from tests.celery.nodes import STARTED
from tests.rig.leases import let_leases_run_out
from tests.rig.smtp_server import Connection, SMTPServer
from tests.rig.waiting import wait_for

REQUEST = {"request_id": "abc12345", "user_id": "kim", "tool_name": "git_commit"}


def approve(request_id: str) -> None:
    """Record the kind of event that is mailed however late it is."""
    assert hooks.approval_approved(request_id=request_id, user_id="kim", tool_name="git_commit") == "accepted"


def test_a_hooks_event_becomes_a_mail_and_the_workers_log_says_so(
    celery_setup: CeleryTestSetup, smtp: SMTPServer
) -> None:
    celery_setup.worker.assert_log_exists(STARTED)
    assert hooks.approval_requested(**REQUEST) == "accepted"
    celery_setup.worker.assert_log_exists("Notification sent for ApprovalEvent(approval_requested, abc12345)")
    assert [mail.subject for mail in smtp.mails] == ["[승인 필요] git_commit 도구"]


def test_notify_answers_through_the_result_backend_what_became_of_the_event(
    celery_setup: CeleryTestSetup, smtp: SMTPServer
) -> None:
    assert notify.app is celery_setup.app
    assert notify.delay("approval_requested", REQUEST).get(timeout=20) == "accepted"
    assert notify.delay("approval_requested", REQUEST).get(timeout=20) == "duplicate"
    with pytest.raises(InvalidEvent, match="'user_id' is missing"):
        notify.delay("approval_requested", {"request_id": "abc12345"}).get(timeout=20)
    wait_for(lambda: smtp.mails)


def test_a_killed_and_restarted_worker_loses_nothing(
    celery_setup: CeleryTestSetup,
    celery_worker: CeleryTestWorker,
    smtp: SMTPServer,
    store: EventStore,
    client: redis.Redis,
) -> None:
    smtp.slowness = 0.3
    for n in range(40):
        approve(f"r{n}")
    wait_for(lambda: smtp.mails)
    celery_worker.kill()
    assert store.count().claimed > 0
    smtp.slowness = 0
    let_leases_run_out(client)
    celery_worker.restart()
    wait_for(lambda: store.count().sent == 40, seconds=40)
    copies = collections.Counter(mail.message_id for mail in smtp.mails)
    assert len(copies) == 40
    assert copies.total() <= 42, "at most the mail in flight of each of the two pool processes is sent twice"


def test_a_broker_that_dies_as_a_mail_is_accepted_loses_and_doubles_nothing(
    celery_setup: CeleryTestSetup, smtp: SMTPServer, store: EventStore
) -> None:
    def accept_without_a_broker(connection: Connection) -> None:
        celery_setup.broker.kill()
        connection.say("250 taken")

    smtp.slowness = 0.3
    for n in range(10):
        approve(f"r{n}")
    smtp.on("dot", act=accept_without_a_broker, times=1)
    wait_for(lambda: celery_setup.broker.container.status == "exited")
    assert len(smtp.mails) < 10
    smtp.slowness = 0
    celery_setup.broker.restart()
    approve("afterwards")
    wait_for(lambda: store.count().sent == 11, seconds=40)
    assert len({mail.message_id for mail in smtp.mails}) == len(smtp.mails) == 11
