"""A burst of requests through every peer, to a plain sink and to one with STARTTLS and a login."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

from bench.burst import Burst
from bench.peers.table import PEERS, WORKERS, Peer, batches_of
from bench.ratios import Row, Spread, at_least, at_most, paired, shown, stated

_Bursts = Mapping[str, list[Burst]]

#: Events of one flush that celery-batches is tried with.
_FLUSHES = (10, 50, 100, 500)
#: Events that each of them is tried with; a quick run tries none.
_TRIED = 2_000
_QUICK_FLUSH = 100


def rows(repeat: int, quick: bool, tell: Callable[[str], None], *, sink: str) -> list[Row]:
    """Every peer in turn, ``repeat`` times over; then the ratios. ``sink`` is the kind of the plain one."""
    count = 500 if quick else 5_000
    flush_every = _QUICK_FLUSH if quick else _best_flush(sink, tell)
    peers = {**PEERS, "c": batches_of(flush_every)}
    plain: dict[str, list[Burst]] = defaultdict(list)
    tls: dict[str, list[Burst]] = defaultdict(list)
    for number in range(1, repeat + 1):
        for letter, peer in peers.items():
            plain[letter].append(_burst(peer, count, sink, f"{number} of {repeat}", tell))
        for letter in ("b", "f"):
            tls[letter].append(_burst(peers[letter], count, "tls", f"{number} of {repeat}", tell))
    return compared(plain, tls, count, flush_every)


def compared(plain: _Bursts, tls: _Bursts, count: int, flush_every: int) -> list[Row]:
    """The rows of bursts of ``count`` events, by peer, to a plain sink and to one with STARTTLS and a login."""
    return [*_rate_rows(plain, count, flush_every), _cpu_row(plain), _tls_row(tls, count), *_stated_rows(plain)]


def _burst(peer: Peer, count: int, sink: str, turn: str, tell: Callable[[str], None]) -> Burst:
    burst = peer.burst(count, sink)
    tell(f"{turn}: {count:,} events, {sink}, {peer.name}: {burst.rate:.0f}/s")
    return burst


def _best_flush(sink: str, tell: Callable[[str], None]) -> int:
    rates = {}
    for flush_every in _FLUSHES:
        rates[flush_every] = _burst(batches_of(flush_every), _TRIED, sink, "search", tell).rate
    return max(_FLUSHES, key=lambda flush_every: rates[flush_every])


def _rate_rows(bursts: _Bursts, count: int, flush_every: int) -> list[Row]:
    rates = {letter: [burst.rate for burst in found] for letter, found in bursts.items()}
    each = [rate / WORKERS for rate in rates["f"]]
    return [
        at_least(
            f"burst of {count:,} events, events/s of (f) against (b), {WORKERS} worker processes each",
            5,
            paired(rates["f"], rates["b"]),
            _rates(bursts, "f", "b"),
            note=_strays(bursts["f"]),
        ),
        at_least(
            "the same against (c)",
            2.5,
            paired(rates["f"], rates["c"]),
            _rates(bursts, "f", "c"),
            note=f"(c) with flush_every {flush_every}",
        ),
        at_least(
            "(f) per worker process against (a)",
            0.9,
            paired(each, rates["a"]),
            f"(f) {Spread.of(each)}, (a) {Spread.of(rates['a'])} events/s",
            note=_note_of_cpu(bursts, "a"),
        ),
        at_least(
            "(f) against (e)",
            0.9,
            paired(rates["f"], rates["e"]),
            _rates(bursts, "f", "e"),
            note=_note_of_cpu(bursts, "e"),
        ),
    ]


def _cpu_row(bursts: _Bursts) -> Row:
    ours, theirs = ([burst.cpu for burst in bursts[letter]] for letter in "fb")
    ours_with, theirs_with = ([burst.cpu_with_redis for burst in bursts[letter]] for letter in "fb")
    return at_most(
        "CPU seconds per 1,000 events, (f) against (b)",
        0.2,
        paired(ours, theirs),
        f"(f) {Spread.of(ours)}, (b) {Spread.of(theirs)} s",
        note="worker and application processes; "
        f"with Redis {shown(paired(ours_with, theirs_with).median)} times "
        f"({shown(Spread.of(ours_with).median)} against {shown(Spread.of(theirs_with).median)} s)",
    )


def _tls_row(bursts: _Bursts, count: int) -> Row:
    ours, theirs = ([burst.rate for burst in bursts[letter]] for letter in "fb")
    return at_least(
        f"burst of {count:,} with STARTTLS and AUTH, (f) against (b)",
        8,
        paired(ours, theirs),
        _rates(bursts, "f", "b"),
        note=_strays(bursts["f"]),
    )


def _stated_rows(bursts: _Bursts) -> list[Row]:
    ours = [burst.rate for burst in bursts["f"]]
    return [
        stated(
            f"(f) against ({letter})",
            paired(ours, [burst.rate for burst in bursts[letter]]),
            _rates(bursts, "f", letter),
            note=_strays(bursts[letter]),
        )
        for letter in "dg"
    ]


def _rates(bursts: _Bursts, *letters: str) -> str:
    found = (f"({letter}) {Spread.of([burst.rate for burst in bursts[letter]])}" for letter in letters)
    return f"{', '.join(found)} events/s"


def _note_of_cpu(bursts: _Bursts, letter: str) -> str:
    """Events for each CPU second: what is left of a ratio where all processes share few cores."""
    ours, theirs = ([burst.rate_of_cpu for burst in bursts[each]] for each in ("f", letter))
    return (
        f"by CPU seconds of the processes that send: {shown(paired(ours, theirs).median)} times "
        f"({shown(Spread.of(ours).median)} against {shown(Spread.of(theirs).median)} events/s)"
    )


def _strays(bursts: list[Burst]) -> str:
    return "; ".join(burst.strays for burst in bursts if burst.strays)
