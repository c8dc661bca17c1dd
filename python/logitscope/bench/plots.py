"""Panels of what was measured: one declares how it is drawn and records what is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from logitscope.bench.results import CaseResult
    from logitscope.record import Recorder

STEP = 0
"""There is one."""
_UNITS = (("s", 1.0), ("ms", 1e3), ("us", 1e6))


def bars(
    scope: Recorder,
    title: str,
    values: Mapping[str, float],
    group: str,
    unit: str,
    notes: str,
    **options: Any,
) -> None:
    """Bars of numbers, named by their tags."""
    if values:
        scope.scalars(values, STEP)
        scope.panel(title, "bars", list(values), group=_view(group), y_label=unit, notes=notes, **options)


def curves(
    scope: Recorder,
    title: str,
    folder: str,
    values: Mapping[str, Iterable[tuple[float, float]]],
    group: str,
    x_label: str,
    unit: str,
    notes: str,
    **options: Any,
) -> None:
    """Lines through points, a line a name."""
    arrays = {f"{folder}/{group}/{name}": np.array(points).T for name, points in values.items()}
    scope.arrays(arrays, STEP)
    scope.panel(
        title, "scatter", list(arrays), group=_view(group), x_label=x_label, y_label=unit, notes=notes,
        joined=True, log_x=True, **options,
    )  # fmt: skip


def bars_of_times(
    scope: Recorder,
    group: str,
    results: Sequence[CaseResult],
    notes: str,
    of_case: Callable[[CaseResult], Iterator[tuple[str, float]]],
    **options: Any,
) -> None:
    """Bars of the times of cases, whose names and seconds ``of_case`` gives, in a unit that fits the longest."""
    longest = max(map(slowest, results))
    unit, factor = next((each for each in _UNITS if longest * each[1] >= 1), _UNITS[-1])
    values = {
        f"time/{unit}/{group}/{shape(result)}/{name}": factor * seconds
        for result in results
        for name, seconds in of_case(result)
    }
    sizes = list(dict.fromkeys(map(shape, results)))
    title = f"Time, {sizes[0]}" + (f" to {sizes[-1]}" if len(sizes) > 1 else "")
    bars(scope, title, values, group, unit.replace("u", "µ"), notes, **options)


def slowest(result: CaseResult) -> float:
    """Seconds of the slowest contender."""
    return max(row.seconds.median for row in result.measured)


def shape(result: CaseResult) -> str:
    """As ``--sizes`` takes it."""
    return "x".join(map(str, result.shape))


def _view(group: str) -> str:
    """The name of a view, as the dashboard writes the others."""
    words = group.replace("_", " ")
    return words[:1].upper() + words[1:]
