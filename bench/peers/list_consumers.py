"""(e) Raw consumers of a Redis list: the project's rendering and mailer, a kept connection, no Celery, no state."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from redis import Redis

from approval_mail import services
from bench.events import request
from bench.project_mail import send

_LIST = "bench:events"
#: Events taken at once, after the one that was waited for.
_MORE = 9


def call(*, first: int, count: int) -> dict[str, Any]:
    """Push so many requests in a row, one by one."""
    redis = Redis.from_url(os.environ["REDIS_URL"])
    events = [request(number) for number in range(first, first + count)]
    cpu, began = time.process_time(), time.monotonic()
    for fields in events:
        redis.rpush(_LIST, json.dumps(fields))
    return {"began": began, "cpu": time.process_time() - cpu}


def main() -> None:
    """Consume for ever."""
    redis = Redis.from_url(os.environ["REDIS_URL"])
    with services.mailer().session() as session:
        while True:
            found: Any = redis.blpop([_LIST])
            more: Any = redis.lpop(_LIST, _MORE)
            for record in (found[1], *(more or ())):
                send(session, json.loads(record))


if __name__ == "__main__":
    main()
