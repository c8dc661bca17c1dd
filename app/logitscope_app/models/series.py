"""A scalar tag's points as read so far, sorted by step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Steps and values of one tag; a new object whenever rows were added: identity tells of change."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]

    @classmethod
    def empty(cls) -> Points:
        """No point yet."""
        return cls(np.empty(0, np.int64), np.empty(0, np.float64))

    def __len__(self) -> int:
        return len(self.steps)

    def extended(self, steps: NDArray[np.int64], values: NDArray[np.float64]) -> Points:
        """These points and the given ones in step order; equal steps keep the order of writing."""
        if not len(steps):
            return self
        in_order = not len(self.steps) or steps[0] >= self.steps[-1]
        all_steps = np.concatenate([self.steps, steps])
        all_values = np.concatenate([self.values, values])
        if not in_order:
            order = np.argsort(all_steps, kind="stable")
            all_steps, all_values = all_steps[order], all_values[order]
        all_steps.setflags(write=False)
        all_values.setflags(write=False)
        return Points(all_steps, all_values)

    def at(self, step: int | None) -> tuple[int, float] | None:
        """The last point at or before ``step`` (the very last for None); None when there is none yet."""
        index = latest_index(self.steps, step)
        return None if index is None else (int(self.steps[index]), float(self.values[index]))


def piled(curves: Sequence[Points]) -> list[Points]:
    """Each curve on top of those before it, at the steps that all of them have.

    Examples
    --------
    >>> one = Points(np.array([0, 1, 2]), np.array([0.25, 0.5, 1.0]))
    >>> [points.values.tolist() for points in piled([one, Points(np.array([0, 2]), np.array([0.5, 0.0]))])]
    [[0.25, 1.0], [0.75, 1.0]]
    """
    steps = reduce(np.intersect1d, (points.steps for points in curves))
    # Of a step that was recorded twice the last value counts, as everywhere.
    parts = [points.values[np.searchsorted(points.steps, steps, side="right") - 1] for points in curves]
    return [Points(steps, heights) for heights in np.cumsum(parts, axis=0)]


def latest_index(steps: NDArray[Any], step: int | None) -> int | None:
    """Index of the last of the sorted ``steps`` that is not after ``step``."""
    count = len(steps) if step is None else int(np.searchsorted(steps, step, side="right"))
    return count - 1 if count else None
