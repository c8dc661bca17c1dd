"""From numbers to colours: levels of a map and the RGB image of it, NaN in a colour of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitscope_app.models.states import FloatArray

LOG_DECADES = 4
"""A logarithmic scale shows this many powers of ten below its top; what is smaller has the lowest colour."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What the two ends of the colour bar mean."""

    low: float
    high: float
    log: bool = False
    signed: bool = False

    def position(self, values: FloatArray) -> FloatArray:
        """Where ``values`` lie on the bar, 0 to 1; NaN stays NaN."""
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.log:
                low, high = np.log10(self.low), np.log10(self.high)
                at = (np.log10(np.maximum(values, 0.0)) - low) / (high - low)
            else:
                at = (values - self.low) / (self.high - self.low)
        held: FloatArray = np.clip(at, 0.0, 1.0)
        return held

    def value(self, position: float) -> float:
        """The number at a position of the bar: the inverse of :meth:`position`."""
        if self.log:
            return float(self.low * (self.high / self.low) ** position)
        return self.low + (self.high - self.low) * position


def scale_of(values: FloatArray, *, log: bool = False, signed: bool | None = None) -> Scale:
    """A scale over the finite ``values``; symmetric about 0 when they have both signs (or ``signed``)."""
    finite = values
    if not values.size or not np.isfinite([values.min(), values.max()]).all():  # else a copy of all is saved
        finite = values[np.isfinite(values)]
    if not finite.size:
        return Scale(0.1 if log else 0.0, 1.0, log=log)
    low, high = float(finite.min()), float(finite.max())
    if signed is None:
        signed = low < 0 < high and not log
    if signed and not log:
        reach = max(abs(low), abs(high)) or 1.0
        return Scale(-reach, reach, signed=True)
    if log:
        if high <= 0:
            return Scale(0.1, 1.0, log=True)
        smallest = float(finite[finite > 0].min())
        floor = max(smallest, high * 10.0**-LOG_DECADES)
        return Scale(floor if floor < high else high / 10, high, log=True)
    if low == high:
        pad = abs(low) * 0.5 or 0.5
        return Scale(low - pad, high + pad)
    return Scale(low, high)


def colorize(
    values: FloatArray, scale: Scale, colours: NDArray[np.uint8], nan_rgb: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """The RGB image of ``values``: shape ``(..., 3)``. Infinities take the end colours, NaN ``nan_rgb``."""
    at = scale.position(np.asarray(values, dtype=np.float32))
    missing = np.isnan(at)
    index = (np.where(missing, 0.0, at) * 255 + 0.5).astype(np.uint8)
    image = colours[index]
    image[missing] = nan_rgb
    return image
