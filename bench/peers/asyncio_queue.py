"""(d) A queue in the application's memory: a task gathers batches, each event has a thread and a connection."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.events import request
from bench.tutorial_mail import compose, connect

#: Events and seconds: NOTIFICATION_BATCH_SIZE and NOTIFICATION_BATCH_TIMEOUT.
_SIZE, _TIMEOUT = 10, 5.0

_Queue = asyncio.Queue[dict[str, Any]]


def _send(fields: dict[str, Any]) -> None:
    with connect() as smtp:
        smtp.send_message(compose(fields))


async def _gather(queue: _Queue) -> list[dict[str, Any]]:
    batch = [await queue.get()]
    deadline = time.monotonic() + _TIMEOUT
    while len(batch) < _SIZE:
        try:
            batch.append(await asyncio.wait_for(queue.get(), deadline - time.monotonic()))
        except asyncio.TimeoutError:
            break
    return batch


async def _work(queue: _Queue) -> None:
    while True:
        batch = await _gather(queue)
        await asyncio.gather(*(asyncio.to_thread(_send, fields) for fields in batch))
        for _ in batch:
            queue.task_done()


async def _run(events: list[dict[str, Any]], warm: int) -> dict[str, Any]:
    # A thread for each event of a batch, also where there are fewer by default.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_SIZE))
    queue: _Queue = asyncio.Queue()
    worker = asyncio.create_task(_work(queue))
    for fields in events[:warm]:
        queue.put_nowait(fields)
    await queue.join()
    cpu, began = time.process_time(), time.monotonic()
    for fields in events[warm:]:
        queue.put_nowait(fields)
    await queue.join()
    worker.cancel()
    return {"began": began, "cpu": time.process_time() - cpu}


def run(*, first: int, count: int, warm: int) -> dict[str, Any]:
    """Send so many mails after ``warm`` others that are not counted."""
    events = [request(number) for number in range(first, first + count + warm)]
    return asyncio.run(_run(events, warm))
