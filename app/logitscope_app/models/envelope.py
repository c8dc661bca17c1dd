"""A long curve at several resolutions, so that any stretch of it is drawn from a few thousand points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Column = NDArray[np.float64]

LONG = 50_000
"""Shorter curves are drawn as they are."""
FACTOR = 16


class Envelope:
    """Keeps of each ``FACTOR`` points the lowest and the highest, and of those again, and so on.

    Every peak is in every level, so none vanishes from a plot however far it is zoomed out.

    Examples
    --------
    >>> steps = np.arange(1000.0)
    >>> values = np.where(steps == 700, 9.0, 0.0)
    >>> seen, heights = Envelope(steps, values).window(0, 1000, 60)
    >>> len(seen) < 150, heights.max()
    (True, np.float64(9.0))
    """

    def __init__(self, steps: Column, values: Column) -> None:
        self._levels = [(steps, values)]
        while len(self._levels[-1][0]) > 4 * FACTOR:
            self._levels.append(_coarser(*self._levels[-1]))

    def window(self, low: float, high: float, count: int) -> tuple[Column, Column]:
        """Points from ``low`` to ``high`` and one beyond each, of the coarsest level with ``count`` of them or more.

        The very first and last point of the curve come too: they hold the plot's idea of how far it reaches.
        """
        for level in reversed(self._levels):
            steps, values = level
            first = max(int(np.searchsorted(steps, low)) - 1, 0)
            last = min(int(np.searchsorted(steps, high, side="right")) + 1, len(steps))
            if last - first >= count:
                break
        whole, heights = self._levels[0]
        part = [steps[first:last]], [values[first:last]]
        if len(part[0][0]) and part[0][0][0] > whole[0]:
            part = [whole[:1], *part[0]], [heights[:1], *part[1]]
        if len(part[0][-1]) and part[0][-1][-1] < whole[-1]:
            part = [*part[0], whole[-1:]], [*part[1], heights[-1:]]
        return np.concatenate(part[0]), np.concatenate(part[1])


def _coarser(steps: Column, values: Column) -> tuple[Column, Column]:
    """Lowest and highest of each ``FACTOR`` points in the order in which they come; what is left over stays."""
    blocks = len(values) // FACTOR
    heights = values[: blocks * FACTOR].reshape(blocks, FACTOR)
    bad = np.isnan(heights)
    lowest = np.where(bad, np.inf, heights).argmin(axis=1)
    highest = np.where(bad, -np.inf, heights).argmax(axis=1)
    pair = np.sort(np.stack([lowest, highest], axis=1), axis=1)
    index = (pair + FACTOR * np.arange(blocks)[:, None]).ravel()
    rest = slice(blocks * FACTOR, None)
    return np.concatenate([steps[index], steps[rest]]), np.concatenate([values[index], values[rest]])
