"""One soak from its start to its judgement."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.accounting import Ledger
from tests.rig.waiting import wait_for
from tests.soak import keys
from tests.soak.bookkeeper import Bookkeeper, Reload
from tests.soak.bounds import all_bounds
from tests.soak.flatness import Verdict, judge
from tests.soak.happenings import programme
from tests.soak.samples import Sampler
from tests.soak.stage import HISTORY, Stage

#: Seconds within which all is quiet after the last event: a lease, retries, and the rounds after them.
_QUIET_WITHIN = 180
#: Seconds between two looks of the bookkeeper.
_BOOKS_EVERY = 10.0
#: Seconds from the history's lifetime to the keys being gone: beat's gather clears the sorted sets.
_GATHERED = 45


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a soak came to."""

    seconds: float
    per_second: float
    ledger: Ledger
    #: How hooks answered.
    receipts: Counter[str]
    verdicts: tuple[Verdict, ...]
    #: What happened, and how often.
    happened: Counter[str]
    #: Keys that stay for good, keys that will go by family, and what else is wrong, as sentences.
    stay: tuple[str, ...]
    going: dict[str, int]
    faults: tuple[str, ...]
    #: Seconds that were waited for the history to go; 0 if that was not waited for.
    waited: float
    server: str

    def problems(self, *, duplicates: int) -> list[str]:
        """One sentence for each thing that is not as it must be; ``duplicates`` are explained by kills."""
        found = [f"{event_id} was accepted and has not ended" for event_id in self.ledger.lost[:10]]
        found += self.ledger.disagreements[:10]
        found += self.faults[:10]
        if self.ledger.duplicates > duplicates:
            found.append(f"{self.ledger.duplicates} duplicates, {duplicates} are explained")
        unheard = [state for state in ("sent", "dead", "suppressed") if not getattr(self.ledger, state)]
        found += [f"no event ended as {state}: the soak did not try it" for state in unheard]
        found += [
            f"hooks answered {receipt} {number} times"
            for receipt, number in self.receipts.items()
            if receipt in ("refused", "disabled")
        ]
        found += [verdict.sentence() for verdict in self.verdicts if not verdict.is_flat]
        return found


def run(
    folder: Path,
    *,
    seconds: float,
    per_second: float = 50,
    until_forgotten: bool = False,
    plant: str = "",
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Outcome, list[str]]:
    """Run a soak of ``seconds`` under load, or longer where the machine is late, in ``folder``.

    Answers what came of it, and its problems as sentences. ``until_forgotten`` waits until the history has gone and
    looks at what is left. ``folder/samples.csv`` has every figure. ``plant`` names a leak of leaks.py.
    """
    stage = Stage(folder, per_second=per_second, plant=plant)
    try:
        stage.begin()
        with Sampler(stage, folder / "samples.csv") as sampler:
            outcome = _watch(stage, sampler, seconds, per_second, until_forgotten, tell)
        # One mail may come twice for each process that was killed: the one that it had in flight.
        return outcome, outcome.problems(duplicates=stage.killed)
    finally:
        stage.close()


def _watch(
    stage: Stage,
    sampler: Sampler,
    seconds: float,
    per_second: float,
    until_forgotten: bool,
    tell: Callable[[str], None],
) -> Outcome:
    every = min(5.0, max(1.0, seconds / 60))
    books = Bookkeeper(
        client=stage.redis.client,
        receipt_files=stage.receipt_files(),
        journal=stage.folder / "journal",
        scratch=stage.folder / "slice",
        everybody=stage.everybody[0],
    )
    happened, failures = Counter[str](), []
    coming = programme(seconds, has_routes=stage.has_routes)
    next_books, end = _BOOKS_EVERY, seconds
    while coming or sampler.now() < end:
        began = sampler.now()
        if coming and began >= coming[0].part * seconds:
            happening = coming.pop(0)
            happened[happening.what] += 1
            try:
                happening.do(stage)
            except AssertionError as error:  # The hour goes on: what else there is to see would be lost.
                failures.append(f"{happening.what}, at {began:.0f} s: {error}")
            if stage.reloaded:
                books.reloads.append(Reload(*stage.everybody[-2:], *stage.reloaded))
                stage.reloaded = None
            tell(f"{sampler.now():.0f} s: {happening.what}, took {sampler.now() - began:.1f} s")
            if not coming:  # What comes after the last one is the same part of the whole, however late that was.
                end = max(end, sampler.now() / happening.part)
        sampler.sample()
        if sampler.now() >= next_books:
            books.follow()
            next_books += _BOOKS_EVERY
            tell(f"{sampler.now():.0f} s: {books.events} events judged, {stage.counts()}")
        time.sleep(max(0.0, began + every - sampler.now()))
    loaded = list(sampler.samples)
    stage.end_hosts()
    tell(f"{sampler.now():.0f} s: the hosts have ended")
    wait_for(stage.is_quiet, seconds=_QUIET_WITHIN, saying="quiet")
    last = time.monotonic()
    ledger = books.close()
    while until_forgotten and time.monotonic() < last + HISTORY + _GATHERED:
        sampler.sample()
        time.sleep(every)
    with stage.redis.client as client:
        stay, going, faults = keys.remains(client, lifetime=HISTORY)
        known = client.info()
    if until_forgotten:
        faults += [f"{number} keys of {name} are left" for name, number in going.items() if name in keys.FORGOTTEN]
    version = f"Valkey {known['valkey_version']}" if "valkey_version" in known else f"Redis {known['redis_version']}"
    return Outcome(
        seconds=seconds,
        per_second=per_second,
        ledger=ledger,
        receipts=books.receipts,
        verdicts=tuple(judge(loaded, list(all_bounds()))),
        happened=happened,
        stay=tuple(stay),
        going=going,
        faults=(*failures, *faults),
        waited=HISTORY + _GATHERED if until_forgotten else 0,
        server=version,
    )
