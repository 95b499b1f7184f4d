"""Two pieces of code timed side by side: alternating rounds of one process, and the ratio with its interval."""

import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean, median, stdev
from typing import Any

import torch
from scipy import stats

Case = tuple[str, Callable[[], Any], Callable[[], Any]]


def interleaved(
    cases: Iterable[Case],
    rounds: int = 15,
    *,
    peer: str = "",
    peer_version: str = "",
    at_least: float = 0.02,
) -> list[dict[str, Any]]:
    """Time ours against the peer on each case, one thread, in rounds that swap who goes first.

    A machine that is busy for a while slows both halves of a round alike, so the ratio of a round is worth more than
    the times. The garbage collector rests while a clock runs.

    Args:
        cases: (name, ours, peer), callables without arguments that do the same work.
        rounds: at least 2.
        peer, peer_version: what ours is held against.
        at_least: seconds that each half of a round lasts; a callable is repeated until it does.

    Returns:
        One row a case: `name, ours_ms, peer_ms` (medians over rounds of one call), `ratio` (the peer's time over ours,
        geometric mean over rounds), `ratio_low95, ratio_high95` (t-interval of its logarithm), `rounds, peer,
        peer_version`.
    """
    if rounds < 2:
        raise ValueError(f"rounds: at least 2 for an interval, given {rounds}")
    rows = []
    for name, ours, theirs in cases:
        with _one_quiet_thread():
            calls = (ours, theirs)
            repeats = [_repeats(call, at_least) for call in calls]
            times: tuple[list[float], list[float]] = ([], [])
            for number in range(rounds):
                for side in (0, 1) if number % 2 == 0 else (1, 0):
                    times[side].append(_seconds(calls[side], repeats[side]))
        row = {"name": name, **summary(*times), "rounds": rounds}
        rows.append({**row, "peer": peer, "peer_version": peer_version})
    return rows


def summary(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Medians in milliseconds, and the geometric mean of the paired ratios with its 95 % t-interval."""
    logs = [math.log(peer / own) for own, peer in zip(ours, theirs, strict=True)]
    middle, count = fmean(logs), len(logs)
    half = float(stats.t.ppf(0.975, count - 1)) * stdev(logs) / math.sqrt(count)
    return {
        "ours_ms": 1e3 * median(ours),
        "peer_ms": 1e3 * median(theirs),
        "ratio": math.exp(middle),
        "ratio_low95": math.exp(middle - half),
        "ratio_high95": math.exp(middle + half),
    }


def _repeats(call: Callable[[], Any], at_least: float) -> int:
    """Calls that last `at_least` seconds together; finding out is the warm-up."""
    call()
    repeats = 1
    while (taken := _seconds(call, repeats) * repeats) < at_least:
        repeats = max(repeats + 1, min(10 * repeats, math.ceil(1.1 * repeats * at_least / max(taken, 1e-9))))
    return repeats


def _seconds(call: Callable[[], Any], repeats: int) -> float:
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - began) / repeats


@contextmanager
def _one_quiet_thread() -> Iterator[None]:
    threads, collecting = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(1)
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if collecting:
            gc.enable()
