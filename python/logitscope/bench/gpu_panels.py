"""Panels of the suite of the GPU, to which arrays are copied: from which size on that pays, and how near its limits."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from logitscope.bench.peers import numpy_dtype
from logitscope.bench.plots import bars, bars_of_times, curves, shape
from logitscope.bench.suites.gpu import COPIED, LIMIT, ON_CPU, THERE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from logitscope.bench.results import CaseResult, Measured
    from logitscope.record import Recorder

_SIDES = {"linear_cross_entropy": "rows x width x classes", "attention": "heads x queries x size"}
"""What the numbers of a shape are, where they are not rows and columns."""


def fits(result: CaseResult) -> bool:
    """Whether arrays were copied to a GPU and back."""
    return any(row.name == COPIED for row in result.measured)


def declare(scope: Recorder, group: str, results: Sequence[CaseResult]) -> None:
    """Those of a group of cases, the one with most room first."""
    _break_even(scope, group, results)
    _bandwidths(scope, group, results)
    _shares_of_limits(scope, group, results)
    _times(scope, group, results)


def _break_even(scope: Recorder, group: str, results: Sequence[CaseResult]) -> None:
    length, count = Counter(result.shape[-1] for result in results).most_common(1)[0]
    # A line through rows of several lengths would go up and down without a reason that is seen.
    drawn = [result for result in results if result.shape[-1] == length or count == 1]
    ordered = sorted(drawn, key=lambda result: math.prod(result.shape))
    values = {
        words: [(math.prod(r.shape), _row(r, name).ratios[ON_CPU].median) for r in ordered]
        for words, name in (("arrays there already", THERE), ("with copies there and back", COPIED))
    }
    notes = "The CPU's time over the GPU's. Sending pays where the line with copies is above the break-even."
    sides = _SIDES.get(results[0].name, "rows x columns")
    marks = {"break-even": 1.0}
    curves(
        scope, "GPU against CPU", "break_even", values, group, sides, "times as fast", notes, y_marks=marks,
        log_y=True,
    )  # fmt: skip


def _bandwidths(scope: Recorder, group: str, results: Sequence[CaseResult]) -> None:
    """Of what is limited by memory: an array is read and one written."""
    by_length: dict[int, CaseResult] = {}
    for result in sorted(results, key=lambda result: math.prod(result.shape)):
        if result.rates.get("copied") and len(result.shape) == 2:
            by_length[result.shape[-1]] = result
    if not by_length:
        return
    values: dict[str, list[tuple[float, float]]] = {}
    for length, result in sorted(by_length.items()):
        moved = 2e-9 * math.prod(result.shape) * numpy_dtype(result.dtype).itemsize
        for row in result.measured:
            values.setdefault(row.label, []).append((length, moved / row.seconds.median))
    notes = "Bytes read and written in a second, in the largest array of each row length."
    curves(scope, "Bandwidth", "bandwidth", values, group, "numbers in a row", "GB/s", notes, log_y=True)


def _shares_of_limits(scope: Recorder, group: str, results: Sequence[CaseResult]) -> None:
    there = {shape(result): _row(result, THERE).ratios for result in results}
    notes = (
        "The time that the card takes for it alone over that of the computation, its arrays there already."
    )
    for limit in sorted({peer for ratios in there.values() for peer in ratios if peer.startswith(LIMIT)}):
        values = {
            f"limit/{group}/{shape}/{limit}": 100 * ratios[limit].median
            for shape, ratios in there.items()
            if limit in ratios
        }
        bars(scope, f"Share of the {limit}", values, group, "%", notes, y_marks={"limit": 100.0})


def _times(scope: Recorder, group: str, results: Sequence[CaseResult]) -> None:
    notes = (
        "Medians of the rounds. The copies there and back lie on the time that the GPU computes, "
        "none where it is within the noise."
    )
    for result in results:
        bars_of_times(scope, group, [result], notes, _parts, stacked=True)


def _parts(result: CaseResult) -> Iterator[tuple[str, float]]:
    """A bar a contender; the copies there and back as a part of the GPU's."""
    seconds = {row.name: row.seconds.median for row in result.measured}
    for name in seconds:
        if name != COPIED:
            yield f"{name}/computation", seconds[name]
    yield f"{THERE}/copies there and back", max(0.0, seconds[COPIED] - seconds[THERE])


def _row(result: CaseResult, name: str) -> Measured:
    return next(row for row in result.measured if row.name == name)
