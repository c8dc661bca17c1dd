"""Seconds of contenders that take turns."""

from __future__ import annotations

import gc
import time
from statistics import median, quantiles
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from logitscope.bench.cases import Settings

_LONG = 0.3
_TURN = 2e-3
_MOST_CALLS = 25


class Quartiles(NamedTuple):
    """The median and what a quarter lies below and above."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Quartiles:
        """Quartiles of at least one number."""
        if len(numbers) == 1:
            return cls(numbers[0], numbers[0], numbers[0])
        low, _, high = quantiles(numbers, n=4, method="inclusive")
        return cls(median(numbers), low, high)


def take_turns(
    runs: Mapping[str, Callable[[], Any]], settings: Settings, tick: Callable[[float], None] = lambda _: None
) -> dict[str, list[float]]:
    """Seconds of each, one number a round; every number of a round was measured beside the others.

    Each is called once before its turn. That brings its arrays back into the cache, and its results get the memory
    that it has just given back, as in a training; else they would get what another has left or what a virtual machine
    must first ask its host for, which takes a tenth of a second for 60 MB. A short one is then called several times, of
    which the median counts. Who begins changes from round to round, and who follows whom. ``tick`` gets the share that
    is done.
    """
    estimates = {name: _estimate(run) for name, run in runs.items()}
    turn = sum(2 * max(estimate, _TURN) for estimate in estimates.values())
    rounds = int(min(max(settings.seconds / turn, settings.least_rounds), settings.most_rounds))
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for index in range(rounds):
            first = index % len(names)
            turns = names[first:] + names[:first]
            for name in turns[::-1] if index % 2 else turns:
                times[name].append(_turn(runs[name], estimates[name]))
            tick((index + 1) / rounds)
    finally:
        if collecting:
            gc.enable()
    return times


def _estimate(run: Callable[[], Any]) -> float:
    """The time of a call that is not the first; of a long one the first is good enough."""
    seconds = _seconds(run)
    return seconds if seconds > _LONG else min(seconds, _seconds(run))


def _turn(run: Callable[[], Any], estimate: float) -> float:
    run()
    calls = min(max(int(_TURN / max(estimate, 1e-7)), 1), _MOST_CALLS)
    return median([_seconds(run) for _ in range(calls)])


def _seconds(run: Callable[[], Any]) -> float:
    """The time of one call; what it returns is dropped after the clock was read."""
    start = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - start
    del result
    return seconds
