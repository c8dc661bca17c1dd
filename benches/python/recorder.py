"""What recording costs a training: latency of a call at 10,000 rows a second, and the slowdown by ``watch``.

``python benches/python/recorder.py`` prints both (some ten minutes; ``--quick`` two, with wider intervals). Latencies
are of one process on the machine as it is. The slowdown is measured on one core and one thread, background threads
included: two GPTs of the demo's size take turns step by step on the same batches, one watched and one not, in the
order ABBA, so that both see the same machine within a fifth of a second. Of each pair of steps the difference counts:

- *typical*: the median of each kind of step (idle, statistics, maps, after maps), weighted by how often the schedule
  has it, over the median of an unwatched step. A hiccup of the machine does not move it; what recording does once in a
  while neither.
- *all*: all time of watched steps over all time of unwatched ones. Nothing is left out.

Both on the clock and of the processor's time of all threads, with the interval that holds 95 % of bootstrap samples
(drawn within each kind). The control is a pair of which neither is watched: what it shows is not recording. The first
cycle of each schedule is not counted (caches fill, and a watch looks for calls); collections of garbage are made
between cycles, outside of what is timed.
"""

from __future__ import annotations

import argparse
import copy
import gc
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from logitscope import record
from logitscope.record.schedule import SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

CONTROL = "control"
STEPS = {CONTROL: 300, "economy": 300, "normal": 500, "full": 400}
CYCLE = 20
"""Steps that are not counted at first, and between two collections of garbage."""
KINDS = ("idle", "statistics", "maps", "after maps")
SAMPLES = 2000


def latency(directory: Path, storage: str, rows: int = 30_000, rate: float = 10_000.0) -> NDArray[np.float64]:
    """p50 and p99 of a call of ``scalar`` in microseconds."""
    taken = np.empty(rows)
    with record.start("latency", path=directory / f"{storage}.scope", storage=storage) as scope:
        begin = time.perf_counter()
        for step in range(rows):
            while time.perf_counter() < begin + step / rate:
                pass
            start = time.perf_counter()
            scope.scalar("loss/train", 0.5, step)
            taken[step] = time.perf_counter() - start
        assert not scope.dropped
    return np.percentile(taken, [50, 99]) * 1e6


class Twins:
    """Two equal trainings; the first may be watched."""

    def __init__(self) -> None:
        import torch

        from logitscope.nn import GPT, GPTConfig

        torch.manual_seed(0)
        first = GPT(GPTConfig(vocabulary=96, context=128, layers=4, heads=4, width=128))
        self.models = [first, copy.deepcopy(first)]
        self._optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-3) for model in self.models]
        self._batches = torch.randint(0, 96, (8, 16, 129))
        self._loss = torch.nn.functional.cross_entropy

    def train(self, which: int, step: int, look: Callable[[int], None] | None = None) -> float:
        """Take a step; ``look`` is called after the backward pass."""
        tokens = self._batches[step % len(self._batches)]
        logits = self.models[which](tokens[:, :-1])
        loss = self._loss(logits.flatten(0, 1), tokens[:, 1:].flatten())
        self._optimizers[which].zero_grad()
        loss.backward()
        if look is not None:
            look(step)
        self._optimizers[which].step()
        return loss.item()


def pairs(directory: Path, schedule: str, steps: int) -> NDArray[np.float64]:
    """Seconds of watched and unwatched steps, (steps, 2, clock and processor); the first cycle is left out."""
    twins = Twins()
    taken = np.empty((CYCLE + steps, 2, 2))
    with record.start("slowdown", path=directory / f"{schedule}.scope") as scope:
        watch = None if schedule == CONTROL else scope.watch(twins.models[0], schedule=schedule)

        def watched(step: int) -> None:
            if watch is None:
                twins.train(0, step)
                return
            watch.step(step)
            scope.scalar("loss/train", twins.train(0, step, watch.gradients), step)

        order = (watched, lambda step: twins.train(1, step))
        for step in _without_collections(len(taken)):
            for which in (0, 1) if step % 2 else (1, 0):
                start = np.array([time.perf_counter(), time.process_time()])
                order[which](step)
                taken[step, which] = np.array([time.perf_counter(), time.process_time()]) - start
        assert not scope.dropped
        if watch is not None:
            watch.close()
    return taken[CYCLE:]


def _without_collections(count: int) -> Iterator[int]:
    """Count, collecting garbage between cycles only."""
    gc.disable()
    for step in range(count):
        if step % CYCLE == 0:
            gc.collect()
        yield step
    gc.enable()


def kinds(schedule: str, steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which of `KINDS` steps are."""
    if schedule == CONTROL:
        return np.zeros_like(steps)
    every, maps_every = SCHEDULES[schedule]
    # The weights' updates are known, and recorded, as the step after the maps begins.
    conditions = [steps % maps_every == 0, steps % maps_every == 1, steps % every == 0]
    return np.select(conditions, [2, 3, 1], 0)


def shares_of(schedule: str) -> NDArray[np.float64]:
    """How often a schedule has each of `KINDS`."""
    cycle = np.arange(SCHEDULES.get(schedule, (1, 1))[1])
    return np.bincount(kinds(schedule, cycle), minlength=len(KINDS)) / len(cycle)


def slowdowns(
    taken: NDArray[np.float64], kind: NDArray[np.int64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """In per cent, of the clock and of the processor: the typical one, then that of all time; (2, 2)."""
    extra = taken[:, 0] - taken[:, 1]
    typical, summed = np.zeros(2), np.zeros(2)
    for number in np.flatnonzero(shares):
        of_kind = extra[kind == number]
        typical += shares[number] * np.median(of_kind, axis=0)
        summed += shares[number] * of_kind.mean(axis=0)
    return 100 * np.array([typical / np.median(taken[:, 1], axis=0), summed / taken[:, 1].mean(axis=0)])


def intervals(
    taken: NDArray[np.float64], kind: NDArray[np.int64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The bounds of 95 % of bootstrap samples of `slowdowns`, (2, 2, 2)."""
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(kind == number) for number in np.unique(kind)]
    kind = np.concatenate([kind[group] for group in groups])
    found = [
        slowdowns(taken[np.concatenate([rng.choice(group, len(group)) for group in groups])], kind, shares)
        for _ in range(SAMPLES)
    ]
    return np.percentile(found, [2.5, 97.5], axis=0)


def report(directory: Path, schedule: str, steps: int) -> None:
    """Measure a schedule and print what was found."""
    taken = pairs(directory, schedule, steps)
    kind, shares = kinds(schedule, np.arange(CYCLE, CYCLE + steps)), shares_of(schedule)
    found, (low, high) = slowdowns(taken, kind, shares), intervals(taken, kind, shares)
    plain = 1e3 * np.median(taken[:, 1], axis=0)
    print(f"{schedule}: {steps} pairs of steps, an unwatched one {plain[0]:.1f} ms")
    for place, name in enumerate(("typical", "all")):
        told = (
            f"{clock} {found[place, at]:+.2f} % ({low[place, at]:+.2f} .. {high[place, at]:+.2f})"
            for at, clock in enumerate(("clock", "processor"))
        )
        print(f"  {name:8}", "   ".join(told))
    for number in np.unique(kind):
        extra = 1e3 * np.median((taken[:, 0] - taken[:, 1])[kind == number], axis=0)
        count = np.count_nonzero(kind == number)
        print(f"  {KINDS[number]:11}{count:4} pairs: clock {extra[0]:+.2f} ms   processor {extra[1]:+.2f} ms")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a fifth of the steps")
    parser.add_argument(
        "--only", nargs="+", choices=[CONTROL, *SCHEDULES], help="these schedules, no latencies"
    )
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import torch

    import logitscope

    torch.set_num_threads(1)
    logitscope.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        for storage in () if options.only else ("database", "log"):
            p50, p99 = latency(Path(name), storage)
            print(f"scalar into a {storage} at 10,000 rows/s: p50 {p50:.1f} µs, p99 {p99:.1f} µs")
        for schedule in options.only or (CONTROL, *SCHEDULES):
            report(Path(name), schedule, STEPS[schedule] // 5 if options.quick else STEPS[schedule])


if __name__ == "__main__":
    main()
