"""Peak memory of a linear layer and its loss, forward and backward: every mode of ours beside torch's two operations.

Each is measured in a process of its own, above what is there before it: ``python -m logitscope.bench.memory``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitscope.bench.report import Table
from logitscope.bench.suites.linear import FEATURES, SHAPES
from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

WAYS = ("torch", "auto", "plain", "chunked", "recompute")
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class Peak:
    """The most memory that one way takes."""

    way: str
    bytes: int
    share: float
    """Of torch's."""


def measure(rows: int = SHAPES[0][0], features: int = FEATURES, classes: int = SHAPES[0][1]) -> list[Peak]:
    """Measure every way on ``rows`` of ``features`` numbers and ``classes`` classes, in float32.

    Raises
    ------
    ArgumentError
        Where the system does not tell the peak of a process, or torch is missing.
    """
    if not _CLEAR.exists():
        message = "bench: memory is read from /proc; use Linux"
        raise ArgumentError(message)
    peaks = {way: _in_a_process(way, rows, features, classes) for way in WAYS}
    return [Peak(way, peak, peak / peaks["torch"]) for way, peak in peaks.items()]


def table(peaks: Sequence[Peak]) -> Table:
    """Peaks as a table."""
    rows = [[peak.way, f"{peak.bytes / 2**20:.0f} MiB", f"{peak.share:.0%}"] for peak in peaks]
    return Table(
        "linear cross entropy, peak memory above the arrays given", ["who", "peak", "of torch"], rows
    )


def _in_a_process(way: str, *sizes: int) -> int:
    command = [sys.executable, "-m", __name__, way, *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"bench: memory of '{way}' cannot be measured: {done.stderr.strip().splitlines()[-1]}"
        raise ArgumentError(message)
    return int(done.stdout)


def _step(way: str, rows: int, features: int, classes: int) -> Any:
    """Make the arrays; gives a function that does one forward and backward pass."""
    import torch

    from logitscope.nn.functional import linear_cross_entropy

    torch.set_num_threads(1)
    inputs = torch.randn(rows, features, requires_grad=True)
    weight = (torch.randn(classes, features) / features**0.5).requires_grad_()
    targets = torch.randint(0, classes, (rows,))

    def step() -> None:
        if way == "torch":
            logits = torch.nn.functional.linear(inputs, weight)
            loss = torch.nn.functional.cross_entropy(logits, targets)
        else:
            loss = linear_cross_entropy(inputs, weight, targets, mode=way)
        loss.backward()  # type: ignore[no-untyped-call]

    return step


def _peak() -> int:
    found = re.search(r"VmHWM:\s+(\d+)", _STATUS.read_text(encoding="utf-8"))
    return int(found[1]) * 1024 if found else 0


def _main(way: str, *sizes: int) -> None:
    _step(way, 8, 8, 8)()  # so that code and pools are there
    step = _step(way, *sizes)
    _CLEAR.write_text("5", encoding="utf-8")  # the peak starts anew from what is there now
    before = _peak()
    step()
    print(_peak() - before)


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    _main(name, *map(int, numbers))
