"""The metrics that Prometheus collects, one row each: how things stand, and what the store counted for good."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import product

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from approval_mail import __version__, overview, services
from approval_mail.events import EVENT_TYPES
from approval_mail.metrics.families import Counter, Gauge, Gauges, Histogram, Seen
from approval_mail.store.counters import DELIVERY_BOUNDS, SMTP_BOUNDS

#: What the exposition is sent as: Prometheus's text format, understood by every version.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_TYPES = tuple(EVENT_TYPES)
_OUTCOMES = ("sent", "dead", "suppressed")
#: SMTP steps of one mail, in their order.
_STEPS = ("mail", "rcpt", "data", "content", "dot")
#: What ``rate`` and ``increase`` must see at 0 before it happens for the first time.
_ATTEMPTS = (
    ("sent", "dot"),
    *(("failed", step) for step in _STEPS),
    *(("dead", step) for step in (*_STEPS, "render")),
    ("unknown", "dot"),
)
_DEAD_PHASES = (*_STEPS, "render", "deferral", "record", "routing", "unknown")
#: Reasons that rules give, "switched off by rule '...'", come besides.
_SUPPRESSED = (
    *(f"moot: already {row.outcome}" for row in EVENT_TYPES.values() if row.outcome),
    "moot: already cancelled",
    "moot: expired",
    "moot: the request is no longer on record",
    "discarded by an operator",
)


def see() -> Seen:
    """All that one scrape shows. Waits and raises as `overview.look` does."""
    found, store = overview.look(), services.operator_store()
    return Seen(found, store.counters(), services.settings().batch_timeout, datetime.now(timezone.utc))


def _held_seconds(seen: Seen) -> float:
    """The store's clock may be a little ahead of this one."""
    since = seen.overview.counts.held_since
    return max(0.0, (seen.at - since).total_seconds()) if since else 0.0


def _beat_age(seen: Seen) -> float:
    """Infinite if beat never ran, so that an alert on its age fires all the same."""
    age = seen.overview.counts.beat_seconds_ago
    return float("inf") if age is None else age


_STATES = ("pending", "deferred", "claimed", *_OUTCOMES)

#: Every metric; another one is another row.
ROWS: tuple[Gauge | Gauges | Counter | Histogram, ...] = (
    Gauges(
        "approval_mail_build_info", "Always 1; the label names the version.", "version", lambda seen: {__version__: 1}
    ),
    Gauge(
        "approval_mail_notifications_enabled",
        "1 if NOTIFICATION_ENABLED is on in the settings of the process that was scraped, else 0.",
        lambda seen: seen.overview.enabled,
    ),
    Gauge(
        "approval_mail_batch_timeout_seconds",
        "NOTIFICATION_BATCH_TIMEOUT in the settings of the process that was scraped: so long may an outcome wait.",
        lambda seen: seen.batch_timeout,
    ),
    Gauges(
        "approval_mail_events",
        "Events by where they are, each counted once; of those sent, dead and suppressed the ones still on record.",
        "state",
        lambda seen: {state: getattr(seen.overview.counts, state) for state in _STATES},
    ),
    Gauge(
        "approval_mail_oldest_pending_seconds",
        "How long the event that waits longest has been due; 0: none waits.",
        lambda seen: seen.overview.counts.oldest_pending_seconds or 0,
    ),
    Gauge(
        "approval_mail_requests_untold",
        "Approval requests past half of their time of which no mail server has accepted any mail.",
        lambda seen: seen.overview.counts.untold,
    ),
    Gauge(
        "approval_mail_beat_age_seconds",
        "Time since beat last had the pending events gathered; +Inf: never.",
        _beat_age,
    ),
    Gauge(
        "approval_mail_workers",
        "Workers that answer and consume the queue approval_mail; 0 also while the broker cannot be asked.",
        lambda seen: seen.overview.around.workers,
    ),
    Gauge(
        "approval_mail_channel_held",
        "1 while the mail server cannot be used and everything waits for it, else 0.",
        lambda seen: seen.overview.counts.held_since is not None,
    ),
    Gauge(
        "approval_mail_channel_held_seconds", "For how long the channel has been held; 0: it is open.", _held_seconds
    ),
    Gauge(
        "approval_mail_spooled_events",
        "Events on the disk of the host that was scraped, waiting for Redis.",
        lambda seen: seen.overview.around.spooled,
    ),
    Gauge(
        "approval_mail_spool_usable",
        "1 if that disk would take an event now, 0: while Redis is away events would be lost.",
        lambda seen: seen.overview.around.spool_fault is None,
    ),
    Gauge(
        "approval_mail_routes_faulty",
        "Hosts' files of routes whose last version is not taken, for it is faulty; the last good one goes on.",
        lambda seen: len(seen.overview.routes_faults),
    ),
    Counter(
        "approval_mail_events_recorded_total",
        "Events that hooks recorded.",
        "recorded",
        ("type",),
        tuple(product(_TYPES)),
    ),
    Counter(
        "approval_mail_events_duplicate_total",
        "Events that were told again and are recorded once.",
        "duplicate",
        ("type",),
        tuple(product(_TYPES)),
    ),
    Counter(
        "approval_mail_events_finished_total",
        "Events whose last mail was sent, dead or suppressed; one that is reopened, discarded or accepted after all "
        "finishes once more.",
        "finished",
        ("type", "outcome"),
        tuple(product(_TYPES, _OUTCOMES)),
    ),
    Counter("approval_mail_events_rescued_total", "Events that came back because their lease ran out.", "rescued"),
    Counter(
        "approval_mail_mails_accepted_total",
        "Mails that the mail server answered with 250, by their event's type; a digest counts for each of its events.",
        "accepted",
        ("type",),
        tuple(product(_TYPES)),
    ),
    Counter(
        "approval_mail_digests_accepted_total", "Mails about several events that were answered with 250.", "digests"
    ),
    Counter(
        "approval_mail_attempts_total",
        "Tries of a mail by result and SMTP step: sent, dead, failed (may pass), unknown (may have been accepted), "
        "unspent (the mail server became unusable first). "
        "Of a worker that dies, its last try is missing.",
        "attempts",
        ("result", "phase"),
        _ATTEMPTS,
    ),
    Counter(
        "approval_mail_mails_dead_total",
        "Mails that will not be tried again without an operator, by the step that they failed in.",
        "dead",
        ("phase",),
        tuple(product(_DEAD_PHASES)),
    ),
    Counter(
        "approval_mail_mails_suppressed_total",
        "Mails that were not sent on purpose.",
        "suppressed",
        ("reason",),
        tuple(product(_SUPPRESSED)),
    ),
    Counter("approval_mail_channel_holds_total", "Times that the mail server became unusable.", "held"),
    Histogram(
        "approval_mail_delivery_seconds",
        "Time from an event to the 250 for a mail about it.",
        "delivery",
        DELIVERY_BOUNDS,
    ),
    Histogram("approval_mail_smtp_seconds", "Time of one mail in SMTP, whatever came of it.", "smtp", SMTP_BOUNDS),
)


class Metrics(Collector):
    """All metrics of one scrape; a family without any count is there as well."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        for row in ROWS:
            yield row.family(self._seen)


def exposition() -> bytes:
    """All metrics in Prometheus's text format, seen now; raises as `see` does."""
    return text(see())


def text(seen: Seen) -> bytes:
    """What was seen in Prometheus's text format."""
    return generate_latest(Metrics(seen))
