"""An axis with few, round numbers that never touch each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pyqtgraph as pg
from PySide6.QtWidgets import QGraphicsItem

from logitscope_app.models.text import number
from logitscope_app.theme.style import small_font

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROOM = {"left": (26.0, 20.0, 15.0), "bottom": (64.0, 52.0, 40.0)}
"""Pixels from one number to the next: as wished, and less, down to where there are two numbers."""
_MOST = {"left": 9, "bottom": 14}
"""Numbers at most on an axis that has room for more."""
_HALF = {"left": 6.0, "bottom": 9.0}
"""Pixels: a number nearer than that to an end of the axis is left out, as half of it would be cut off."""
_MANTISSAS = (1.0, 2.0, 5.0)
_WITHIN = 1.2
"""A logarithmic axis of fewer powers of ten than this has the numbers between them, too."""


class Axis(pg.AxisItem):  # type: ignore[misc]
    """The left or the bottom axis of a plot."""

    def __init__(self, side: str) -> None:
        super().__init__(side)
        self._side = side
        self.setStyle(tickFont=small_font(), tickLength=0, tickTextOffset=4, hideOverlappingLabels=True)
        self.enableAutoSIPrefix(False)
        # Its grid lies over the whole plot: without a cache every move of the cursor would set all numbers anew.
        self.setCacheMode(QGraphicsItem.CacheMode.DeviceCoordinateCache)

    def tickSpacing(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, float]]:
        """One level of numbers, in steps of 1, 2 or 5."""
        low, high = sorted((float(minVal), float(maxVal)))
        if not low < high or not math.isfinite(high - low):
            return []
        pixel = (high - low) / max(size, 1.0)
        edge = _HALF[self._side] * pixel
        wished, *less = _ROOM[self._side]
        rooms = [max(wished, size / _MOST[self._side]), *less]
        steps = [rounded(room * pixel) for room in rooms]
        steps = [max(step, 1.0) if self.logMode else step for step in steps]
        return [
            (next((step for step in steps if _numbers(low + edge, high - edge, step) > 1), steps[-1]), 0.0)
        ]

    def logTickValues(
        self, minVal: float, maxVal: float, size: float, stdTicks: Sequence[tuple[float, list[float]]]
    ) -> list[tuple[float | None, list[float]]]:
        """Powers of ten; 2 and 5 of each where the axis has hardly more than one."""
        powers: list[tuple[float | None, list[float]]] = list(stdTicks)
        if maxVal - minVal >= _WITHIN:
            return powers
        decades = range(math.floor(minVal), math.ceil(maxVal) + 1)
        between = [decade + math.log10(mantissa) for decade in decades for mantissa in _MANTISSAS[1:]]
        return [*powers, (None, [value for value in between if minVal < value < maxVal])]

    def tickStrings(self, values: Sequence[float], scale: float, spacing: float | None) -> list[str]:
        """The numbers in words; on a logarithmic axis the values are exponents."""
        if self.logMode:
            return [number(10.0**value, 2) for value in values]
        return [in_words(value * scale, (spacing or 1.0) * scale) for value in values]


def _numbers(low: float, high: float, step: float) -> int:
    """How many multiples of ``step`` lie between."""
    return math.floor(high / step) - math.ceil(low / step) + 1


def rounded(step: float) -> float:
    """The least of 1, 2, 5, 10, 20 ... (and of their tenths, hundredths ...) that is not below ``step``.

    Examples
    --------
    >>> [rounded(step) for step in (0.3, 1.0, 23.0, 700.0)]
    [0.5, 1.0, 50.0, 1000.0]
    """
    power = 10.0 ** math.floor(math.log10(step))
    return next(
        (power * mantissa for mantissa in _MANTISSAS if power * mantissa >= step * (1 - 1e-9)), 10 * power
    )


def in_words(value: float, spacing: float) -> str:
    """A number of an axis: thousands as ``k`` and millions as ``M`` where that is exact enough for the spacing.

    Examples
    --------
    >>> [in_words(value, 500.0) for value in (0.0, 500.0, 1500.0)]
    ['0', '500', '1.5k']
    """
    if abs(value) < spacing * 1e-6:
        return "0"
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size and spacing >= size / 100:
            return number(value / size, 3) + suffix
    return number(value, 4)
