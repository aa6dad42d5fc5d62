"""An application that calls hooks: a process of its own, which writes each receipt to disk before its next call.

``python -m tests.faults.host SPEC`` with a JSON object: ``receipts`` (file), ``prefix``, ``count``, ``types``,
``threads``, ``per_second`` (0: as fast as it can), ``patient`` (with a worker's patience for the broker: without beat
nobody makes up for a wake-up given up after 0.2 s, which a machine that runs other tests may take) and ``fields``
(further fields of each event). A line of the file is ``<event_id> <receipt> <milliseconds that the call took>``.
SIGTERM: no more is told. The process ends once its spool is empty.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import Any

from approval_mail import hooks, services
from approval_mail.celery import app
from tests.rig.stopwatch import Stopwatch


def main(spec: dict[str, Any]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if spec["patient"]:
        app.conf.update(app.conf.worker_only)
    lock = threading.Lock()
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
    with open(spec["receipts"], "a") as file:

        def tell(n: int) -> None:
            event_type = spec["types"][n % len(spec["types"])]
            request_id = f"{spec['prefix']}{n}"
            fields = {"request_id": request_id, "user_id": "kim", "tool_name": "git_commit", **spec["fields"]}
            with Stopwatch() as watch:
                receipt = hooks.emit(event_type, fields)
            with lock:
                file.write(f"{request_id}:{event_type} {receipt} {watch.seconds * 1000:.1f}\n")
                file.flush()
                os.fsync(file.fileno())

        numbers = takewhile(lambda _: not ending, range(spec["count"]))
        if spec["per_second"]:
            for n in numbers:
                tell(n)
                time.sleep(1 / spec["per_second"])
        else:
            with ThreadPoolExecutor(spec["threads"]) as threads:
                list(threads.map(tell, numbers))
    while services.spool().paths():
        time.sleep(0.1)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
