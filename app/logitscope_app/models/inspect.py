"""Every tag of a run in figures at a step: the rows of the inspector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from logitscope_app.models.text import number, step_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from logitscope.record import TagInfo
    from logitscope_app.models.series import Points

COLUMNS = ("tag", "now", "change", "lowest", "mean", "highest", "points", "last step", "kind")


@dataclass(frozen=True, slots=True)
class Inspected:
    """One tag; figures that it does not have are NaN."""

    tag: str
    kind: str
    count: int
    at: float = np.nan
    change: float = np.nan
    """Since the point before."""
    low: float = np.nan
    mean: float = np.nan
    high: float = np.nan
    last: int | None = None
    """The step of the value that is seen."""

    def cells(self) -> tuple[str | float | int, ...]:
        """What stands in `COLUMNS`, to sort by."""
        last = -1 if self.last is None else self.last
        figures = (self.at, self.change, self.low, self.mean, self.high)
        return (self.tag, *figures, self.count, last, self.kind)

    def texts(self) -> tuple[str, ...]:
        """What stands in `COLUMNS`, to read."""
        figures = (self.at, self.change, self.low, self.mean, self.high)
        scalar = self.kind == "scalar"
        shown = (number(figure) if scalar and self.last is not None else "–" for figure in figures)
        return (self.tag, *shown, f"{self.count:,}", step_number(self.last), self.kind)


class Inspector:
    """Keeps the figures of curves that have not changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Points, float, float, float]] = {}

    def scalar(self, tag: TagInfo, points: Points, step: int | None) -> Inspected:
        """A curve; its lowest, mean and highest are those of all finite points."""
        known = self._known.get(tag.name)
        if known is None or known[0] is not points:
            finite = points.values[np.isfinite(points.values)]
            figures = (finite.min(), finite.mean(), finite.max()) if finite.size else (np.nan,) * 3
            low, mean, high = map(float, figures)
            known = self._known[tag.name] = (points, low, mean, high)
        count = len(points) if step is None else int(np.searchsorted(points.steps, step, side="right"))
        if not count:
            return Inspected(tag.name, tag.kind, tag.count, low=known[1], mean=known[2], high=known[3])
        at = float(points.values[count - 1])
        change = at - float(points.values[count - 2]) if count > 1 else np.nan
        last = int(points.steps[count - 1])
        return Inspected(tag.name, tag.kind, tag.count, at, change, *known[1:], last)


def as_table(rows: Iterable[Inspected]) -> str:
    """Rows as text with tabs, as spreadsheets take it; figures as exact as they are.

    Examples
    --------
    >>> print(as_table([Inspected("loss/train", "scalar", 2, 0.5, -0.25, 0.5, 0.625, 0.75, 1)]).splitlines()[1])
    loss/train	0.5	-0.25	0.5	0.625	0.75	2	1	scalar
    """
    lines = ["\t".join(COLUMNS)]
    lines += ["\t".join(_plain(cell) for cell in row.cells()) for row in rows]
    return "\n".join(lines)


def _plain(cell: str | float | int) -> str:
    return "" if isinstance(cell, float) and np.isnan(cell) else str(cell)
