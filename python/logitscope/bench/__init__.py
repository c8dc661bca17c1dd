"""The command ``logitscope bench``: what the operations cost beside torch, JAX, SciPy and the limits of the machine.

One thread, pinned to one CPU; all contenders of a case take turns in one process, so that each sees the same machine.
"""

from __future__ import annotations

from logitscope.bench.algorithms import SoftmaxRecord, bench_softmax

__all__ = ["SoftmaxRecord", "bench_softmax"]
