"""Panels of a suite of the CPU: against the best peer, against the roofline, and the times themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logitscope.bench.plots import bars, bars_of_times, shape, slowest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from logitscope.bench.results import CaseResult
    from logitscope.record import Recorder

_SPREAD = 10.0
"""Cases share an axis while the slowest contender of one takes at most so many times as long as that of another."""


def declare(scope: Recorder, group: str, results: Sequence[CaseResult]) -> None:
    """Those of a group of cases, the one with most room first."""
    _ratios(scope, group, results)
    _shares_of_roofline(scope, group, results)
    for members in _alike(results):
        bars_of_times(scope, group, members, "Medians of the rounds; all take turns.", _beside)


def _ratios(scope: Recorder, group: str, results: Sequence[CaseResult]) -> None:
    values = {
        f"ratio/{group}/{shape(result)}/{row.label}": row.best_ratio
        for result in results
        for row in result.measured
        if row.best_ratio is not None
    }
    notes = "The time of the fastest of the others over ours: above 1 we are faster."
    bars(scope, "Against the best peer", values, group, "times as fast", notes, y_marks={"as fast": 1.0})


def _shares_of_roofline(scope: Recorder, group: str, results: Sequence[CaseResult]) -> None:
    values = {
        f"roofline/{group}/{shape(result)}/{row.label}": 100 * row.of_roofline
        for result in results
        for row in result.measured
    }
    notes = "The least time that memory and arithmetic of this machine allow, over the time taken."
    bars(scope, "Share of the roofline", values, group, "%", notes, y_marks={"limit": 100.0})


def _alike(results: Sequence[CaseResult]) -> list[list[CaseResult]]:
    """Cases that can be read on one axis; what is quick comes first."""
    made: list[list[CaseResult]] = []
    for result in sorted(results, key=slowest):
        if made and slowest(result) <= _SPREAD * slowest(made[-1][0]):
            made[-1].append(result)
        else:
            made.append([result])
    return [sorted(members, key=results.index) for members in made]


def _beside(result: CaseResult) -> Iterator[tuple[str, float]]:
    """A colour a contender."""
    for row in result.measured:
        yield row.label, row.seconds.median
