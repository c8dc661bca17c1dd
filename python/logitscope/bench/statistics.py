"""What the statistics of attention cost in time and memory, beside plain attention, torch, and storing the weights.

Memory is measured in processes of their own: ``python -m logitscope.bench.statistics``.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

import logitscope
from logitscope.bench import process
from logitscope.bench.report import Table
from logitscope.bench.timing import take_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from logitscope.bench.cases import Settings

LENGTHS = (256, 1024, 4096)
HEADS, SIZE = 8, 64
STATS = ("entropy", "logits", "variance")
TIMED = ("plain", "statistics", "top keys", "torch", "naive")
MAPPED = 16384
"""The length at which the memory of a map of 128 by 128 bins is measured."""
BINS = 128
TOP = 8
THREADED = 2048


@dataclass(frozen=True, slots=True)
class Check:
    """A number and its limit."""

    name: str
    shape: str
    measured: float
    limit: float
    is_least: bool = False
    """Whether the limit is a lower one."""
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether it keeps the limit."""
        return self.measured >= self.limit if self.is_least else self.measured <= self.limit


def measure(settings: Settings, lengths: Sequence[int] = LENGTHS, mapped: int = MAPPED) -> list[Check]:
    """Measure everything; causal, float32, one thread but where two are compared with one.

    Raises
    ------
    ArgumentError
        Where the system does not tell the peak of a process.
    """
    process.require_proc()
    checks = []
    for length in lengths:
        shape = f"{HEADS} x {length} x {SIZE}"
        ways = _ways(length)
        times = take_turns({name: ways[name] for name in TIMED if name in ways}, settings)
        cost = _ratio(times, "statistics", "plain") - 1
        checks.append(Check("cost of all statistics", shape, cost, 0.15))
        cost = _ratio(times, "top keys", "plain") - 1
        checks.append(Check(f"cost of {TOP} top keys", shape, cost, 0.15))
        if "torch" in times:
            checks.append(Check("torch over plain", shape, _ratio(times, "torch", "plain"), 1.05, True))
        if "naive" in times and length == max(lengths):
            naive = _ratio(times, "naive", "statistics")
            checks.append(Check("naive way over all statistics", shape, naive, 1.0, True))
        extra = _memory("statistics", length) - _results(length)
        checks.append(Check("memory beyond the results", shape, extra, 64 * length * HEADS, unit="B"))
        checks.append(Check("error of the statistics", shape, _error(length), 1e-5))
    more = (_memory("map", mapped) - _memory("plain", mapped)) / HEADS
    checks.append(Check("memory of the map, a head", f"{HEADS} x {mapped} x {SIZE}", more, 2 << 20, unit="B"))
    if (os.cpu_count() or 1) > 1:
        speedup = process.number_of(__name__, "threads", THREADED)
        checks.append(Check("one thread over two", f"{HEADS} x {THREADED} x {SIZE}", speedup, 1.8, True))
    return checks


def table(checks: Sequence[Check]) -> Table:
    """Checks as a table."""
    rows = [
        [
            check.name,
            check.shape,
            _text(check.measured, check.unit),
            f"{'>=' if check.is_least else '<='} {_text(check.limit, check.unit)}",
            "yes" if check.met else "no",
        ]
        for check in checks
    ]
    return Table("statistics of attention, causal", ["what", "shape", "measured", "limit", "met"], rows)


def _text(number: float, unit: str) -> str:
    return f"{number / 1024:.0f} KiB" if unit == "B" else f"{number:.3g}"


def _ratio(times: Mapping[str, list[float]], over: str, under: str) -> float:
    return median(a / b for a, b in zip(times[over], times[under], strict=True))


def _arrays(length: int) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1, HEADS, length, SIZE), dtype=np.float32) for _ in range(3)]


def _ways(length: int) -> dict[str, Callable[[], Any]]:
    """Every way of computing it, the peer's if it is installed."""
    q, k, v = _arrays(length)
    bins = min(BINS, length), min(BINS, length)
    ways: dict[str, Callable[[], Any]] = {
        "plain": partial(logitscope.attention, q, k, v, is_causal=True),
        "statistics": partial(logitscope.attention, q, k, v, is_causal=True, stats=STATS),
        "top keys": partial(logitscope.attention, q, k, v, is_causal=True, top_keys=min(TOP, length)),
        "map": partial(logitscope.attention, q, k, v, is_causal=True, map_bins=bins),
    }
    try:
        import torch
    except ImportError:
        return ways
    tensors = [torch.from_numpy(x) for x in (q, k, v)]
    fused: Callable[..., Any] = torch.nn.functional.scaled_dot_product_attention
    ways["torch"] = partial(fused, *tensors, is_causal=True)

    def naive() -> Any:
        """Stores the weights to get the entropies."""
        scores = tensors[0] @ tensors[1].transpose(-1, -2) / SIZE**0.5
        hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
        weights = scores.masked_fill_(hidden, -torch.inf).softmax(-1)
        return weights @ tensors[2], torch.special.entr(weights).sum(-1)

    ways["naive"] = naive
    return ways


def _memory(way: str, length: int) -> float:
    return process.number_of(__name__, way, length)


def _results(length: int) -> int:
    """Bytes of the output and of seven figures a row."""
    return 4 * HEADS * length * (SIZE + 3 + 1 + 3 + 1)


def _error(length: int) -> float:
    """The largest error of a statistic of the last head, over the largest number, against float64."""
    q, k, v = (x[:, -1:] for x in _arrays(length))
    got = logitscope.attention(q, k, v, is_causal=True, stats=STATS)
    scores = q[0, 0].astype(np.float64) @ k[0, 0].T.astype(np.float64) / SIZE**0.5
    visible = np.tri(length, dtype=bool)
    count = np.arange(1.0, length + 1)
    mean = np.where(visible, scores, 0).sum(1) / count
    m2 = (np.where(visible, scores - mean[:, None], 0) ** 2).sum(1)
    scores = np.where(visible, scores, -np.inf)
    largest = scores.max(1)
    weights = np.exp(scores - largest[:, None])
    total = weights.sum(1)
    weights /= total[:, None]
    lse = largest + np.log(total)
    scores = np.where(visible, scores, 0)
    expected = (weights * scores).sum(1)
    variance = (weights * (scores - expected[:, None]) ** 2).sum(1)
    wanted = {
        "lse": lse, "entropy": lse - expected, "max_logit": largest, "logit_count": count, "logit_mean": mean,
        "logit_m2": m2, "variance": variance,
    }  # fmt: skip
    return max(
        float(abs(getattr(got, name)[0, 0] - x).max() / max(abs(x).max(), 1)) for name, x in wanted.items()
    )


def _speedup(length: int) -> float:
    """One thread's time over that of two."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))  # the one that measures keeps to one CPU
    run = _ways(length)["plain"]

    def with_threads(threads: int) -> None:
        logitscope.set_num_threads(threads)
        run()

    from logitscope.bench.cases import Settings

    runs = {str(threads): partial(with_threads, threads) for threads in (1, 2)}
    return _ratio(take_turns(runs, Settings(seconds=3.0)), "1", "2")


def _main(way: str, length: int) -> None:
    if way == "threads":
        print(_speedup(length))
        return
    logitscope.set_num_threads(1)
    _ways(32)[way]()  # so that code and pools are there
    print(process.peak_of(_ways(length)[way]))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
