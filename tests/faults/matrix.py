"""The faults that the product survives, in the order of the table in docs/reliability.md."""

from __future__ import annotations

FAULTS = (
    "pool child killed -9 at each phase",
    "worker group killed -9 at random under load",
    "broker message lost",
    "store killed -9 under load",
    "store frozen and thawed",
    "broker refused, silent, locked or loading",
    "store out of memory",
    "failover",
    "reply to a hook's write lost",
    "RabbitMQ as broker, it and workers killed -9",
    "task redelivered while its first copy runs",
    "two beats, no beat, beat restarted",
    "worker's clock an hour off",
    "SIGTERM with a retry waiting",
    "SMTP refused, 421, 451, greylisting",
    "550 for one of three, 552 at DATA, 550 for all",
    "reset mid-DATA",
    "closed, hung or garbage after the dot",
    "QUIT refused or unanswered",
    "server that drips",
    "bad certificate, STARTTLS stripped",
    "535, 550 5.7.30: login refused",
    "poison",
    "templates missing, empty, wrong",
    "hostile fields",
    "bare CR or LF, leading dots",
    "spool's disk full or read-only",
    "mail scanner on an approve link",
)
