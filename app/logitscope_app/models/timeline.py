"""The steps of a run as one line on which a cursor moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from logitscope_app.models.series import Points, latest_index

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLAY_SECONDS = 20.0
"""Playing a whole run at speed 1 takes this long, whatever its length."""
_SPAN_UNITS = 20
"""Into so many parts a power of ten is cut for the end of the axes."""


def _no_steps() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Every step at which something was recorded, and the steps that have pictures (arrays, texts)."""

    steps: NDArray[np.int64] = field(default_factory=_no_steps)
    pictures: NDArray[np.int64] = field(default_factory=_no_steps)
    outline: Points = field(default_factory=Points.empty)
    """A curve drawn behind the line so that one sees where one is; the loss where there is one."""
    outline_label: str = ""

    @property
    def first(self) -> int | None:
        """The first recorded step."""
        return int(self.steps[0]) if len(self.steps) else None

    @property
    def last(self) -> int | None:
        """The last recorded step."""
        return int(self.steps[-1]) if len(self.steps) else None

    @property
    def span(self) -> tuple[int, int] | None:
        """What the axes of the run's curves show at least: to the last step, rounded up so that it rarely changes."""
        if self.first is None or self.last is None:
            return None
        unit = max(1, 10 ** (len(str(abs(self.last))) - 1) // _SPAN_UNITS)
        return self.first, -(-self.last // unit) * unit

    def snapped(self, step: float) -> int | None:
        """The recorded step nearest to ``step``."""
        if not len(self.steps):
            return None
        index = int(np.searchsorted(self.steps, step))
        near = self.steps[max(index - 1, 0) : index + 1]
        return int(near[np.argmin(np.abs(near - step))])

    def moved(self, step: int, by: int, *, pictures: bool = False) -> int:
        """The step ``by`` recorded steps (or pictures) away, held inside the run."""
        steps = self.pictures if pictures and len(self.pictures) else self.steps
        if not len(steps):
            return step
        if by > 0:
            index = int(np.searchsorted(steps, step, side="right")) + by - 1
        else:
            index = int(np.searchsorted(steps, step, side="left")) + by
        return int(steps[min(max(index, 0), len(steps) - 1)])

    def advanced(self, position: float, seconds: float, speed: float) -> float:
        """The (fractional) step after ``seconds`` of playing, held at the last step."""
        if self.first is None or self.last is None:
            return position
        return min(position + (self.last - self.first) * seconds * speed / PLAY_SECONDS, float(self.last))

    def picture_at(self, step: int | None) -> int | None:
        """The step of the picture seen at ``step``."""
        index = latest_index(self.pictures, step)
        return None if index is None else int(self.pictures[index])
