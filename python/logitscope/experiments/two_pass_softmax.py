"""Softmax without the pass that looks for the maximum: as exact, and faster (Dukhan, Ablavatski, arXiv 2001.04438).

Part A holds every algorithm of :func:`logitscope.softmax` against float64. Part B times them in turns on one row of
each size, processor time of one thread; a seed is one independent run of the whole sweep. The first also times the
passes that the algorithms are made of.
"""

from __future__ import annotations

import os
import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

import logitscope
from logitscope import _native
from logitscope.bench.algorithms import ALGORITHMS
from logitscope.bench.machine import caches
from logitscope.experiments.progress import Silent
from logitscope.experiments.verdict import Check, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from logitscope.experiments.progress import Progress
    from logitscope.record import Recorder

THREE_PASSES = ("three_pass_recompute", "three_pass_reload")
BOUNDS = {"three_pass_recompute": 4 / 3, "three_pass_reload": 5 / 3}
"""What the traffic model says at most: 4 or 5 transfers an element against 3."""
PASSES = {
    "three_pass_recompute": {"maximum": "maximum", "sum": "sum_powers", "write": "write_powers"},
    "three_pass_reload": {"maximum": "maximum", "sum": "store_powers", "write": "scale"},
    "two_pass": {"sum": "sum_pairs", "write": "write_quotients"},
    "online": {"sum": "online_sum", "write": "write_powers"},
}
"""What each algorithm does to a row, and the kernel of it."""
TRANSFERS = {"store_powers": 2, "scale": 2, "write_powers": 2, "write_quotients": 2}
"""Elements that a pass reads and writes for one of the row; the others read one."""
NEEDED_SPEED_UP = 1.05
_SHORTEST_TURN = 1 << 19
"""Elements that a turn takes at least: short rows are timed several at a time."""
SMOKE: dict[str, object] = {"seeds": (0,), "powers": (13, 17, 20), "repeats": 5}


def run(
    scope: Recorder,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    progress: Progress | None = None,
    powers: Sequence[int] = tuple(range(13, 27)),
    repeats: int = 15,
) -> Verdict:
    """Measure rows of ``2**power`` floats for each of ``powers``, ``repeats`` turns of each algorithm."""
    progress = progress or Silent()
    _declare_panels(scope)
    powers = [power for power in powers if 4 << power <= _memory() / 8]
    progress.begin(sum(1 << power for power in powers) * len(seeds))
    errors = _errors(scope)
    ratios: dict[int, list[float]] = {power: [] for power in powers}
    for seed in seeds:
        curves = _Curves(scope)
        for power in powers:
            seconds = _times(1 << power, repeats)
            ratios[power].append(min(seconds[name] for name in THREE_PASSES) / seconds["two_pass"])
            figures = {f"ratio/best_three_pass_run{seed}": ratios[power][-1]}
            if seed == seeds[0]:
                figures |= _figures(1 << power, seconds)
                scope.scalars(_bandwidths(1 << power, repeats), power)
            curves.add(power, figures)
            progress.advance(1 << power, f"run {seed}, {_size(4 << power)}")
    return _verdict(ratios, errors)


def _declare_panels(scope: Recorder) -> None:
    def sizes(title: str, *tags: str, **options: Any) -> None:
        scope.panel(
            title,
            "scatter",
            list(tags),
            group="Training",
            x_label="bytes of a row",
            joined=True,
            log_x=True,
            x_marks=dict(caches()),
            **options,
        )

    sizes(
        "Time per element",
        "time/ns/*",
        y_label="ns",
        log_y=True,
        notes="A line an algorithm; the lines cross near the end of L2.",
    )
    scope.panel(
        "Bandwidth of each pass",
        "bars",
        ["time/pass/*"],
        group="Training",
        y_label="GB/s",
        y_marks={"copy": "time/copy"},
        notes="Of what a pass reads and writes; at step n of a row of 2**n floats. Out of the caches all come near a "
        "plain copy.",
    )
    bounds = {"4/3": BOUNDS["three_pass_recompute"], "5/3": BOUNDS["three_pass_reload"]}
    sizes(
        "Two-pass against three passes",
        "time/ratio/*",
        y_label="times as fast",
        y_marks=bounds,
        y_band=sorted(bounds.values()),
        notes="The traffic model allows 4/3 over recomputing and 5/3 over reloading.",
    )
    scope.panel(
        "Exponents of the terms below the sum's",
        "histogram",
        ["terms/exponent"],
        group="Two-pass softmax",
        x_label="n - n of the sum",
        y_label="terms",
        x_marks={"no weight": -127},
        notes="Terms below -127 are 0 in the result: work for nothing.",
    )
    scope.panel(
        "Largest relative error against float64",
        "table",
        ["error/*"],
        group="Two-pass softmax",
        notes="Of probabilities above 1e-30, over three kinds of rows.",
    )


def _errors(scope: Recorder) -> dict[str, float]:
    """Largest relative errors against float64 of probabilities that float32 can hold well."""
    rng = np.random.default_rng(0)
    inputs = {
        "uniform in -1000..1000": rng.uniform(-1000, 1000, (4, 8192)),
        "normal times 10": rng.normal(0, 10, (64, 1021)),
        "normal plus 1e5": rng.normal(0, 10, (64, 1021)) + 1e5,
    }
    errors: dict[str, float] = dict.fromkeys(ALGORITHMS, 0.0)
    for given in inputs.values():
        x = given.astype(np.float32)
        wanted = _oracle(x.astype(np.float64))
        counts = wanted > 1e-30
        for name in ALGORITHMS:
            got = logitscope.softmax(x, algorithm=name)
            errors[name] = max(errors[name], float(np.max(np.abs(got[counts] / wanted[counts] - 1.0))))
    scope.scalars({f"error/{name}": error for name, error in errors.items()}, 0)
    x = inputs["uniform in -1000..1000"][0].astype(np.float32)
    scope.histogram("terms/exponent", logitscope.ext_exp(x)[1] - logitscope.ext_sum(x)[1], 0)
    return errors


def _oracle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def _times(size: int, repeats: int) -> dict[str, float]:
    """Median seconds of each algorithm."""
    x, out = _row(size)
    return _take_turns(
        {name: partial(logitscope.softmax, x, algorithm=name, out=out) for name in ALGORITHMS}, size, repeats
    )


def _bandwidths(size: int, repeats: int) -> dict[str, float]:
    """Bytes moved each nanosecond by each pass of each algorithm, and by a copy."""
    x, out = _row(size)
    kernels = {kernel for passes in PASSES.values() for kernel in passes.values()}
    runs: dict[str, Callable[[], Any]] = {
        kernel: partial(_native.softmax_pass, kernel, x, out) for kernel in sorted(kernels)
    }
    seconds = _take_turns({**runs, "copy": partial(np.copyto, out, x)}, size, repeats)
    moved = {kernel: 4e-9 * size * TRANSFERS.get(kernel, 1) / seconds[kernel] for kernel in kernels}
    figures = {
        f"time/pass/{algorithm}/{name}": moved[kernel]
        for algorithm, passes in PASSES.items()
        for name, kernel in passes.items()
    }
    return {**figures, "time/copy": 8e-9 * size / seconds["copy"]}


def _row(size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A row, and where its softmax goes."""
    x = np.random.default_rng(0).standard_normal((1, size)).astype(np.float32)
    return x, np.zeros_like(x)


def _take_turns(runs: dict[str, Callable[[], Any]], size: int, repeats: int) -> dict[str, float]:
    """Median seconds of processor time of a call of each, in turns, one thread: no wait is in it."""
    calls = max(1, _SHORTEST_TURN // size)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    threads = logitscope.get_num_threads()
    logitscope.set_num_threads(1)
    try:
        for _ in range(repeats):
            for name, call in runs.items():
                if calls > 1:
                    call()  # brings back what the last one has pushed out of the cache
                start = time.process_time()
                for _ in range(calls):
                    call()
                seconds[name].append((time.process_time() - start) / calls)
    finally:
        logitscope.set_num_threads(threads)
    return {name: median(taken) for name, taken in seconds.items()}


class _Curves:
    """Figures over the bytes of a row, written down anew with each power."""

    def __init__(self, scope: Recorder) -> None:
        self._scope = scope
        self._points: dict[str, list[tuple[float, float]]] = {}

    def add(self, power: int, figures: dict[str, float]) -> None:
        """Add a point to each curve."""
        for name, value in figures.items():
            points = self._points.setdefault(name, [])
            points.append((float(4 << power), value))
            self._scope.array(f"time/{name}", np.array(points).T, power)


def _figures(size: int, seconds: dict[str, float]) -> dict[str, float]:
    figures = {f"ns/{name}": 1e9 * taken / size for name, taken in seconds.items()}
    return figures | {f"ratio/{name}": seconds[name] / seconds["two_pass"] for name in THREE_PASSES}


def _verdict(ratios: dict[int, list[float]], errors: dict[str, float]) -> Verdict:
    largest = max(ratios)
    known = caches()
    in_l2 = [power for power in ratios if 8 << power <= known.get("L2", 1 << 20)] or [min(ratios)]
    inside = median(ratio for power in in_l2 for ratio in ratios[power])
    outside = median(ratios[largest])
    out_of_caches = 8 << largest > known.get("L3", 0)
    caveats = [
        f"rows of up to {_size(4 << largest)}; caches: {', '.join(f'{k} {_size(v)}' for k, v in known.items())}",
        "processor time of one thread; the algorithms take turns, and ratios are taken within a run",
    ]
    if not out_of_caches:
        caveats.append("the largest row and its result still fit into L3, so this is judged outside L2 alone")
    return Verdict(
        claim="On rows that no cache holds, two-pass softmax is faster than the better three-pass softmax, as exactly.",
        measured={
            f"speed-up at {_size(4 << largest)}, median of the runs": outside,
            "speed-up in L2, median": inside,
            "largest relative error of two-pass": errors["two_pass"],
        },
        baseline={
            "speed-up that the traffic model allows over recomputing": BOUNDS["three_pass_recompute"],
            "speed-up in the paper with AVX-512, out of cache": 1.28,
            "largest relative error of three-pass": max(errors[name] for name in THREE_PASSES),
        },
        checks=(
            Check(
                "smallest speed-up of all runs at the largest size",
                min(ratios[largest]),
                "at least",
                NEEDED_SPEED_UP,
            ),
            Check("speed-up out of L2 over that in L2", outside / inside, "at least", 1.0),
            Check("largest relative error against float64", errors["two_pass"], "at most", 4e-7),
        ),
        caveats=tuple(caveats),
    )


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"
