"""Peak memory of a linear layer and its loss, forward and backward: every mode of ours beside torch's two operations.

Each is measured in a process of its own, above what is there before it: ``python -m logitscope.bench.memory``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from logitscope.bench import process
from logitscope.bench.report import Table
from logitscope.bench.suites.linear import FEATURES, SHAPES

if TYPE_CHECKING:
    from collections.abc import Sequence

WAYS = ("torch", "auto", "plain", "chunked", "recompute")


@dataclass(frozen=True, slots=True)
class Peak:
    """The most memory that one way takes."""

    way: str
    bytes: int
    share: float
    """Of torch's."""


def measure(
    rows: int = SHAPES[0][0],
    features: int = FEATURES,
    classes: int = SHAPES[0][1],
    dtype: str = "float32",
) -> list[Peak]:
    """Measure every way on ``rows`` of ``features`` numbers and ``classes`` classes.

    Raises
    ------
    ArgumentError
        Where the system does not tell the peak of a process, or torch is missing.
    """
    process.require_proc()
    peaks = {way: int(process.number_of(__name__, way, dtype, rows, features, classes)) for way in WAYS}
    return [Peak(way, peak, peak / peaks["torch"]) for way, peak in peaks.items()]


def table(peaks: Sequence[Peak], dtype: str = "float32") -> Table:
    """Peaks of arrays of a type as a table."""
    rows = [[peak.way, f"{peak.bytes / 2**20:.0f} MiB", f"{peak.share:.0%}"] for peak in peaks]
    return Table(
        f"linear cross entropy, {dtype}, peak memory above the arrays given",
        ["who", "peak", "of torch"],
        rows,
    )


def _step(way: str, dtype: str, rows: int, features: int, classes: int) -> Any:
    """Make the arrays; gives a function that does one forward and backward pass."""
    import torch

    from logitscope.nn.functional import linear_cross_entropy

    torch.set_num_threads(1)
    kind = {"dtype": getattr(torch, dtype)}
    inputs = torch.randn(rows, features, **kind).requires_grad_()
    weight = (torch.randn(classes, features, **kind) / features**0.5).requires_grad_()
    targets = torch.randint(0, classes, (rows,))

    def step() -> None:
        if way == "torch":
            logits = torch.nn.functional.linear(inputs, weight)
            loss = torch.nn.functional.cross_entropy(logits, targets)
        else:
            loss = linear_cross_entropy(inputs, weight, targets, mode=way)
        loss.backward()  # type: ignore[no-untyped-call]

    return step


def _main(way: str, dtype: str, *sizes: int) -> None:
    _step(way, dtype, 8, 8, 8)()  # so that code and pools are there
    print(process.peak_of(_step(way, dtype, *sizes)))


if __name__ == "__main__":
    name, kind, *numbers = sys.argv[1:]
    _main(name, kind, *map(int, numbers))
