"""What recording costs the demo: the step time with the recorder on, as a ratio of that with the recorder off.

One training, in which blocks of steps with and without recording take turns, so that both see the same machine.
The median of the ratios of neighbouring blocks is what is reported. Run on a machine that does nothing else:

    python benches/python/recording_overhead.py
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the demo

from logitscope import record
from logitscope.data import topics
from logitscope.demo.learner import Learner
from logitscope.demo.recording import Recording
from logitscope.demo.settings import Settings

BLOCK = 20  # all that is recorded now and then comes once or more in as many steps
RATE = 1e-3


def plain(learner: Learner) -> float:
    """Seconds for a block without recording."""
    start = time.perf_counter()
    for _ in range(BLOCK):
        learner.step(RATE, 1.0)
    return time.perf_counter() - start


def recorded(learner: Learner, recording: Recording, first: int) -> float:
    """Seconds for a block with all that the demo records."""
    start = time.perf_counter()
    for step in range(first, first + BLOCK):
        recording.begin(step)
        loss = learner.step(RATE, 1.0, look=lambda step=step: recording.gradients(step))
        recording.end(step, loss=loss, rate=RATE, temperature=1.0, speed=0.0)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=12, help="of blocks, one with and one without recording")
    pairs = parser.parse_args().pairs
    text = topics()
    learner = Learner(Settings(), text, attention="softmax")
    plain(learner)  # fills caches, starts threads
    times = []
    with (
        tempfile.TemporaryDirectory() as directory,
        record.start("overhead", path=Path(directory) / "overhead.scope") as scope,
    ):
        for pair in range(pairs):
            with Recording(scope, learner, text) as recording:
                on = recorded(learner, recording, pair * BLOCK)
            times.append((on, plain(learner)))
    ratios = [on / off for on, off in times]
    low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    on, off = (1e3 * median(column) / BLOCK for column in zip(*times, strict=True))
    print(
        f"recording overhead: {100 * (median(ratios) - 1):+.1f} % of the step time "
        f"(quartiles {100 * (low - 1):+.1f} .. {100 * (high - 1):+.1f} %; "
        f"{on:.1f} ms recorded, {off:.1f} ms not; {pairs} pairs of {BLOCK} steps)"
    )


if __name__ == "__main__":
    main()
