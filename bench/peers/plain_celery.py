"""(b) Plain Celery as most tutorials have it: one task per mail, a new connection each."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery

from bench.events import request
from bench.tutorial_mail import compose, connect

app = Celery("plain_celery", broker=os.environ["REDIS_URL"])


@app.task(ignore_result=True)
def send_mail(fields: dict[str, Any]) -> None:
    with connect() as smtp:
        smtp.send_message(compose(fields))


def call(*, first: int, count: int) -> dict[str, Any]:
    """Send the task for so many requests in a row."""
    events = [request(number) for number in range(first, first + count)]
    cpu, began = time.process_time(), time.monotonic()
    for fields in events:
        send_mail.delay(fields)
    return {"began": began, "cpu": time.process_time() - cpu}
