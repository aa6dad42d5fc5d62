"""Two workers on one queue."""

from __future__ import annotations

import pytest
from pytest_celery import CeleryTestSetup, CeleryTestWorker, CeleryWorkerCluster

from approval_mail import hooks
from approval_mail.store import EventStore
from tests.celery.conftest import StartWorker
from tests.rig.smtp_server import SMTPServer
from tests.rig.waiting import wait_for


@pytest.fixture
def celery_worker_cluster(celery_worker: CeleryTestWorker, start_worker: StartWorker) -> CeleryWorkerCluster:
    return CeleryWorkerCluster(celery_worker, start_worker("second_worker"))


def test_two_workers_share_the_events_and_send_each_once(
    celery_setup: CeleryTestSetup, smtp: SMTPServer, store: EventStore
) -> None:
    smtp.slowness = 0.02
    for n in range(100):
        hooks.approval_approved(request_id=f"r{n}", user_id="kim", tool_name="git_commit")
    wait_for(lambda: store.count().sent == 100)
    assert len({mail.message_id for mail in smtp.mails}) == len(smtp.mails) == 100
    for worker in celery_setup.worker_cluster:
        worker.assert_log_exists("Notification sent for")
