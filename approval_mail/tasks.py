"""When things happen: the Celery tasks and their retry policy."""

from __future__ import annotations

import logging
import time
from typing import Any

from celery import Task, chord
from celery.exceptions import SoftTimeLimitExceeded

from approval_mail import batching, gathering, services, timing
from approval_mail.celery import app, wake_gather
from approval_mail.descriptions import describe
from approval_mail.errors import InvalidEvent, TryAgain
from approval_mail.store import OUTCOMES, Claim, StoreError, WakeUp

logger = logging.getLogger(__name__)

#: Seconds. A wake-up for deferred work goes out again after this at the most, so that mail flows with beat down.
_LONGEST_SLEEP = 60.0
#: Message priorities of kombu's Redis transport, where a lower one is taken first; 0 is what any task has.
_FIRST, _LATER = 0, 6


class DescribedTask(Task):  # type: ignore[misc]  # Celery has no types
    """Shows what its arguments are about in place of the arguments."""

    Request = "approval_mail.task_request:DescribedRequest"

    def apply_async(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Describe the arguments in the message's headers as well, which Celery can publish as an event.

        A countdown goes there too: DescribedRequest says why.
        """
        options |= {"argsrepr": describe(self.name, args or (), kwargs or {}), "kwargsrepr": ""}
        # A retry brings the headers, and so the countdown, of the try before it.
        options["headers"] = {**(options.get("headers") or {}), "countdown": options.get("countdown")}
        return super().apply_async(args, kwargs, *more, **options)

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Drop the copy of the frames, which holds a tuple for each instruction of theirs: some 300 KB a retry.

        It would travel to the parent, where nobody reads it, and stay in a cycle until Python looks for garbage. The
        traceback's text is kept.
        """
        einfo.tb = None


@app.task(
    base=DescribedTask, name="approval_mail.notify", acks_late=True, reject_on_worker_lost=True, throws=(InvalidEvent,)
)
def notify(event_type: str, data: dict[str, Any]) -> str:
    """``hooks.emit``, run in a worker; the result is the receipt, or InvalidEvent without the value at fault."""
    try:
        return services.recorder(wake_gather).emit(event_type, data).value
    except InvalidEvent as error:
        raise error.masked() from None


@app.task(base=DescribedTask, name="approval_mail.gather", ignore_result=True)
def gather(*, by_beat: bool = False, due: int = 0) -> None:
    """Claim everything due and dispatch it as a chord of batches."""
    started = time.time()
    settings = services.settings()
    _replay_spool()
    claims = gathering.gather(
        services.store(), services.addressing(), batch_size=settings.batch_size, by_beat=by_beat, due=due
    )
    if not claims:
        wake_for_what_remains(shortest=timing.ROOM_EVERY)
        return
    batches = sum(batching.count(len(claim.event_ids), settings.batch_size) for claim in claims)
    header = [
        send_batch.s(claim.token, claim.event_ids).set(
            priority=_FIRST if claim.urgent else _LATER, headers={"about": claim.about}
        )
        for claim in claims
    ]
    try:
        if services.store().wake_for_leases():
            wake_gather(WakeUp(timing.LEASE + 1))
        chord(header)(conclude.s(started, batches))
    except Exception:  # Redis's, and each broker's library raises its own.
        # No message may have left, and their leases would run for long. One that did leave finds nothing to do.
        for claim in claims:
            services.store().release(claim.token, claim.event_ids, unbegun=True)
        wake_for_what_remains(shortest=timing.ROOM_EVERY)
        raise


@app.task(
    base=DescribedTask,
    bind=True,
    name="approval_mail.send_batch",
    autoretry_for=(TryAgain,),
    max_retries=timing.QUICK_RETRIES,
    retry_backoff=timing.QUICK_BACKOFF,
    retry_backoff_max=timing.QUICK_BACKOFF_MAX,
    retry_jitter=False,
    soft_time_limit=timing.SOFT_TIME_LIMIT,
    time_limit=timing.HARD_TIME_LIMIT,
)
def send_batch(self: Task, token: str, event_ids: list[str]) -> dict[str, int]:
    """Send one claim over one SMTP session; answers what became of its mails."""
    claim = Claim(token, tuple(event_ids))
    try:
        outcome = services.delivery().send(claim, attempt=self.request.retries)
    except SoftTimeLimitExceeded:
        logger.error("Claim %s took longer than %d s; its lease brings back the rest", token, timing.SOFT_TIME_LIMIT)
        outcome = services.store().tally(token)
    except StoreError as error:  # One task of a chord that raised would keep `conclude` from the others' outcomes.
        logger.error("Claim %s: Redis cannot be used (%s); its lease brings back the rest", token, error)
        outcome = dict.fromkeys(OUTCOMES, 0)
    except TryAgain:
        wake_for_what_remains()  # There is room for what this try has sent.
        raise
    wake_for_what_remains()
    return outcome


@app.task(base=DescribedTask, name="approval_mail.conclude", ignore_result=True)
def conclude(outcomes: list[dict[str, int]] | dict[str, int], started: float, batches: int) -> None:
    """Log what one gather's batches came to, and gather again while work remains."""
    # Celery turns a chord with one header into a chain, whose body gets the result bare.
    rows = [outcomes] if isinstance(outcomes, dict) else outcomes
    totals = ", ".join(f"{sum(row[word] for row in rows)} {word}" for word in OUTCOMES)
    logger.info("Batches done: %d batches, %s in %.2f s", batches, totals, time.time() - started)
    wake_for_what_remains()


def _replay_spool() -> None:
    try:
        services.recorder(wake_gather).replay()
    except StoreError as error:  # The hooks' client gives up sooner than the one that claims.
        logger.warning("The spool could not be replayed (%s); the next gather tries again", error)


def wake_for_what_remains(*, shortest: float = 0) -> None:
    """Ask for the next gather, at the earliest in ``shortest`` seconds, if work remains and none is asked for."""
    settings = services.settings()
    try:
        wake_up = services.store().wake(
            batch_size=settings.batch_size,
            batch_timeout=settings.batch_timeout,
            shortest=shortest,
            longest=_LONGEST_SLEEP,
        )
    except StoreError as error:  # What the task did stands; a try that is to be repeated is repeated.
        logger.warning("No gather could be asked for (%s): beat's next one sees to what remains", error)
        return
    if wake_up:
        wake_gather(wake_up)
