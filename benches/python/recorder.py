"""What recording costs a training: latency of a call at 10,000 rows a second, and the slowdown by ``watch``.

``python benches/python/recorder.py`` prints both. Latencies are of one process on the machine as it is; the slowdown
is the ratio of interleaved blocks of steps of a GPT of the demo's size, unwatched and watched, medians of the ratios:
of the time that passes, and of the processor's time of all threads, which other programs disturb less.
"""

from __future__ import annotations

import copy
import tempfile
import time
from pathlib import Path

import numpy as np

from logitscope import record

SCHEDULES = ("economy", "normal", "full")


def latency(directory: Path, storage: str, rows: int = 30_000, rate: float = 10_000.0) -> tuple[float, float]:
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
    return tuple(np.percentile(taken, [50, 99]) * 1e6)


def slowdown(directory: Path, schedule: str, blocks: int = 12, steps: int = 20) -> tuple[float, float]:
    """Time of a watched step over that of an unwatched one: on the clock, and of the processor."""
    import torch

    from logitscope.nn import GPT, GPTConfig

    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokens = torch.randint(0, 96, (16, 129))
    watched = GPT(GPTConfig(vocabulary=96, context=128, layers=4, heads=4, width=128))
    models = [watched, copy.deepcopy(watched)]
    optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-3) for model in models]

    def train(which, step):
        logits = models[which](tokens[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizers[which].zero_grad()
        loss.backward()
        if which == 0:
            watch.gradients(step)
        optimizers[which].step()
        return loss.item()

    def block(which, first):
        start = np.array([time.perf_counter(), time.process_time()])
        for step in range(first, first + steps):
            if which == 0:
                watch.step(step)
                scope.scalar("loss/train", train(0, step), step)
            else:
                train(1, step)
        return np.array([time.perf_counter(), time.process_time()]) - start

    ratios = []
    with (
        record.start("slowdown", path=directory / f"{schedule}.scope") as scope,
        scope.watch(watched, schedule=schedule) as watch,
    ):
        block(0, 0), block(1, 0)
        for first in range(steps, (blocks + 1) * steps, steps):
            before, seen, after = block(1, first), block(0, first), block(1, first)
            ratios.append(2 * seen / (before + after))
    return tuple(np.median(ratios, axis=0))


def main() -> None:
    """Print the figures."""
    directory = Path(tempfile.mkdtemp())
    for storage in ("database", "log"):
        p50, p99 = latency(directory, storage)
        print(f"scalar into a {storage} at 10,000 rows/s: p50 {p50:.1f} µs, p99 {p99:.1f} µs")
    for schedule in SCHEDULES:
        clock, processor = slowdown(directory, schedule)
        print(f"watched ({schedule}) over unwatched: {clock:.4f}, of the processor's time {processor:.4f}")


if __name__ == "__main__":
    main()
