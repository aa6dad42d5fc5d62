"""Imported by each Celery worker that is measured: tells that its pool stands and that it consumes."""

from __future__ import annotations

import os
from pathlib import Path

from celery import signals


@signals.worker_ready.connect
def tell(**_: object) -> None:
    Path(os.environ["BENCH_READY"]).touch()
