"""Time of one training step of output layers over very many classes, as the number of classes grows.

    python benches/python/spherical_output.py [--classes 1000 10000 100000 793471] [--features 256] [--rows 128]

One thread, float32, plain gradient descent. A step is loss, gradient of the hidden rows, and update: SphericalOutput;
the two-level HierarchicalSoftmax with sparse gradients; and a dense linear layer with cross entropy, by our own fused
operation. Times are the medians of alternating steps in one process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

os.environ["OMP_NUM_THREADS"] = "1"

import torch

from logitscope.nn import HierarchicalSoftmax, SphericalOutput
from logitscope.nn.functional import linear_cross_entropy

torch.set_num_threads(1)

RATE = 0.01


class Dense(torch.nn.Module):
    """A linear layer and cross entropy in one."""

    def __init__(self, features, classes):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(classes, features).normal_(0.0, 0.01))

    def forward(self, hidden, targets):
        return linear_cross_entropy(hidden, self.weight, targets)


def step(layer, hidden, targets):
    """Seconds of CPU time of one step."""
    start = time.process_time()
    layer(hidden, targets).backward()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(parameter.grad, alpha=-RATE)
            parameter.grad = None
    return time.process_time() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--classes", type=int, nargs="+", default=[1000, 10_000, 100_000, 793_471])
    parser.add_argument("--features", type=int, default=256)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    print(f"{given.features} features, {given.rows} rows; milliseconds a step")
    print(f"{'classes':>8} {'spherical':>10} {'hierarchical':>13} {'dense':>9}   ratios to spherical")
    for classes in given.classes:
        torch.manual_seed(0)
        layers = [
            SphericalOutput(given.features, classes, lr=RATE),
            HierarchicalSoftmax(given.features, classes, sparse=True),
            Dense(given.features, classes),
        ]
        times = [[] for _ in layers]
        for repeat in range(given.repeats + 1):
            hidden = torch.randn(given.rows, given.features, requires_grad=True)
            targets = torch.randint(0, classes, (given.rows,))
            for layer, list_ in zip(layers, times, strict=True):
                # The large layers once are enough, and the first step of each warms up.
                count = 20 if isinstance(layer, SphericalOutput) else 1
                seconds = sum(step(layer, hidden, targets) for _ in range(count)) / count
                if repeat:
                    list_.append(1000 * seconds)
        spherical, hierarchical, dense = (statistics.median(list_) for list_ in times)
        print(
            f"{classes:8} {spherical:10.2f} {hierarchical:13.2f} {dense:9.1f}   "
            f"{hierarchical / spherical:5.1f} {dense / spherical:6.1f}",
            flush=True,
        )
        del layers


if __name__ == "__main__":
    main()
