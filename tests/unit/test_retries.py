"""What a task's retry leaves behind."""

from __future__ import annotations

import pickle

from billiard.einfo import ExceptionInfo

from approval_mail.errors import TryAgain
from approval_mail.tasks import send_batch


def test_a_retry_keeps_its_traceback_as_text_alone() -> None:
    try:
        raise TryAgain("mails remain")
    except TryAgain:
        einfo = ExceptionInfo()
    whole = len(pickle.dumps(einfo.tb))
    send_batch.on_retry(einfo.exception.exc, "task-id", (), {}, einfo)
    assert len(pickle.dumps(einfo)) < whole, "without the frames"
    assert "TryAgain: mails remain" in einfo.traceback
