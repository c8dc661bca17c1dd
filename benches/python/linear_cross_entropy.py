"""Time and memory of linear + cross entropy, forward and backward, against torch's two operations.

    python benches/python/linear_cross_entropy.py [--rows 2048] [--columns 512] [--classes 32000]

One thread, float32. Times are medians of alternating runs in one process; memory is the peak above what the inputs
take, each measured in a process of its own. "wide" multiplies the weight until most probabilities are denormal or 0.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch.nn import functional as theirs

from logitscope.nn import functional as ours

torch.set_num_threads(1)


def plain_torch(input, weight, targets):
    return theirs.cross_entropy(theirs.linear(input, weight), targets)


METHODS = {
    "torch": plain_torch,
    "plain": lambda *arrays: ours.linear_cross_entropy(*arrays, mode="plain"),
    "chunked": lambda *arrays: ours.linear_cross_entropy(*arrays, mode="chunked"),
    "recompute": lambda *arrays: ours.linear_cross_entropy(*arrays, mode="recompute"),
}


def problem(sizes, deviation):
    """Input, weight and targets; the logits have about this standard deviation."""
    rows, columns, classes = sizes
    torch.manual_seed(0)
    input = torch.randn(rows, columns, requires_grad=True)
    weight = (torch.randn(classes, columns) * (deviation / columns**0.5)).requires_grad_()
    return input, weight, torch.randint(0, classes, (rows,))


def step(method, arrays):
    """Seconds of CPU time that one forward and backward pass takes."""
    start = time.process_time()
    METHODS[method](*arrays).backward()
    return time.process_time() - start


def clear(arrays):
    for array in arrays[:2]:
        array.grad = None


def peak():
    """The most memory that this process has had, in MiB."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def memory(method, sizes):
    """Peak memory of one step above what is there before it, measured in a child process."""
    command = [sys.executable, __file__, "--memory", method, *map(str, sizes)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--columns", type=int, default=512)
    parser.add_argument("--classes", type=int, default=32000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    sizes = (given.rows, given.columns, given.classes)
    print(f"rows, columns, classes: {sizes}")
    for name, deviation in (("unit", 1.0), ("wide", 60.0)):
        times = {method: [] for method in METHODS}
        arrays = problem(sizes, deviation)
        for _ in range(given.repeats):
            for method, list_ in times.items():
                list_.append(step(method, arrays))
                clear(arrays)
        medians = {method: statistics.median(list_) for method, list_ in times.items()}
        for method, median in medians.items():
            print(f"{name:5} {method:10} {median:7.3f} s  {median / medians['torch']:5.2f} x torch")
    base = memory("torch", sizes)
    for method in METHODS:
        used = memory(method, sizes)
        print(f"{method:10} {used:7.0f} MiB  {used / base:5.2f} x torch")


def measure_memory(method, *sizes):
    # A small step first, so that code and pools are there.
    small = problem([8, 8, 8], 1.0)
    step(method, small)
    arrays = problem([int(size) for size in sizes], 1.0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is there now
    before = peak()
    step(method, arrays)
    print(peak() - before)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        measure_memory(*sys.argv[2:])
    else:
        main()
