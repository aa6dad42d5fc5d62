"""(c) celery-batches: tasks that arrive together run as one, over one connection."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery
from celery_batches import Batches, SimpleRequest

from bench.events import request
from bench.tutorial_mail import compose, connect

app = Celery("batches", broker=os.environ["REDIS_URL"])
# Its manual asks for it: a worker that prefetches less than a batch would wait for the interval each time.
app.conf.worker_prefetch_multiplier = 0


@app.task(
    base=Batches,
    ignore_result=True,
    flush_every=int(os.environ.get("BENCH_FLUSH_EVERY", "100")),
    # As long as NOTIFICATION_URGENT_TIMEOUT lets an approval_requested wait.
    flush_interval=1,
)
def send_mails(requests: list[SimpleRequest]) -> None:
    with connect() as smtp:
        for each in requests:
            smtp.send_message(compose(each.args[0]))


def call(*, first: int, count: int) -> dict[str, Any]:
    """Send the task for so many requests in a row."""
    events = [request(number) for number in range(first, first + count)]
    cpu, began = time.process_time(), time.monotonic()
    for fields in events:
        send_mails.delay(fields)
    return {"began": began, "cpu": time.process_time() - cpu}
