"""The algorithms of softmax beside each other, over the sizes of one row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import logitscope
from logitscope import _native
from logitscope.bench.cases import Pass, Settings
from logitscope.bench.machine import cache_level
from logitscope.bench.timing import Quartiles, take_turns
from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logitscope.bench.cases import Work
    from logitscope.ops.softmax import Algorithm

ALGORITHMS: tuple[Algorithm, ...] = ("three_pass_recompute", "three_pass_reload", "two_pass", "online")
SIZES = tuple(1 << power for power in range(13, 25))


@dataclass(frozen=True, slots=True)
class SoftmaxRecord:
    """One algorithm at one size."""

    size: int
    bytes: int
    algorithm: str
    isa: str
    seconds: float
    """The median."""
    interquartile_range: float
    gigabytes_per_second: float
    """By what the algorithm must read and write."""
    cache_level: str
    """The nearest cache that holds a row and its result, such as ``"L2"``; or ``"memory"``."""


def work_of(algorithm: str, elements: int, itemsize: int) -> Work:
    """What the passes of an algorithm do over a row that no cache holds."""
    size = elements * itemsize
    return {
        "three_pass_recompute": (
            Pass(read=size),
            Pass(read=size, exps=elements),
            Pass(copied=size, exps=elements),
        ),
        "three_pass_reload": (Pass(read=size), Pass(copied=size, exps=elements), Pass(copied=size)),
        "two_pass": (Pass(read=size, exps=elements), Pass(copied=size, exps=elements)),
        "online": (Pass(read=size, exps=elements), Pass(copied=size, exps=elements)),
    }[algorithm]


def bench_softmax(
    sizes: Sequence[int] | None = None,
    algorithms: Sequence[Algorithm] = ALGORITHMS,
    dtype: str = "float32",
    *,
    threads: int = 1,
    repeats: int = 25,
) -> list[SoftmaxRecord]:
    """Time the algorithms of softmax on one row of each size; they take turns.

    Parameters
    ----------
    sizes
        Elements of the row; by default the powers of 2 from 2^13 to 2^24.
    algorithms
        Names as :func:`logitscope.softmax` takes them.
    dtype
        ``"float32"`` or ``"float64"``.
    threads
        How many threads the operations use.
    repeats
        Turns of each.

    Returns
    -------
    list of SoftmaxRecord
        Size by size.

    Raises
    ------
    ArgumentError
        For an unknown algorithm or fewer than one repeat.

    Examples
    --------
    >>> from logitscope.bench import bench_softmax
    >>> [record.algorithm for record in bench_softmax([4096], ["two_pass", "online"], repeats=2)]
    ['two_pass', 'online']
    """
    for algorithm in algorithms:
        if algorithm not in ALGORITHMS:
            message = f"bench_softmax: algorithm is '{algorithm}'; use {', '.join(ALGORITHMS)}"
            raise ArgumentError(message)
    if repeats < 1:
        message = f"bench_softmax: repeats is {repeats}; use 1 or more"
        raise ArgumentError(message)
    settings = Settings(least_rounds=repeats, most_rounds=repeats)
    in_use = logitscope.get_num_threads()
    logitscope.set_num_threads(threads)
    try:
        return [record for size in sizes or SIZES for record in _row(size, algorithms, dtype, settings)]
    finally:
        logitscope.set_num_threads(in_use)


def _row(size: int, algorithms: Sequence[Algorithm], dtype: str, settings: Settings) -> list[SoftmaxRecord]:
    x = np.random.default_rng(0).standard_normal((1, size)).astype(dtype)
    out = np.empty_like(x)
    runs: dict[str, partial[Any]] = {
        name: partial(logitscope.softmax, x, algorithm=name, out=out) for name in algorithms
    }
    records = []
    for name, times in take_turns(runs, settings).items():
        seconds = Quartiles.of(times)
        moved = sum(part.read + 2 * part.copied for part in work_of(name, size, x.itemsize))
        records.append(
            SoftmaxRecord(
                size=size,
                bytes=x.nbytes,
                algorithm=name,
                isa=_native.isa(),
                seconds=seconds.median,
                interquartile_range=seconds.high - seconds.low,
                gigabytes_per_second=moved / seconds.median / 1e9,
                cache_level=cache_level(2 * x.nbytes),
            )
        )
    return records
