"""A noisy curve made readable: a running mean over a window that grows with the curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST = 60
"""Shorter curves are shown as they are."""
SHARE = 40
"""The window is one in so many of the points."""
_NOISY = 0.01
"""The mean jump from point to point, as a share of the curve's range, above which a curve counts as noisy."""


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The centred running mean of ``values``; None when they are few, smooth or not all finite.

    A mean would hide or spread a NaN or an infinity, and that is the very thing a person must see.
    """
    if len(values) < FEWEST or not np.isfinite(values).all():
        return None
    reach = float(values.max() - values.min())
    if not reach or float(np.abs(np.diff(values)).mean()) < _NOISY * reach:
        return None
    half = max(1, len(values) // SHARE // 2)
    total = np.concatenate([[0.0], np.cumsum(values - values.mean())])
    index = np.arange(len(values))
    reach_left = np.minimum(half, np.minimum(index, len(values) - 1 - index))
    low, high = index - reach_left, index + reach_left + 1
    return np.asarray((total[high] - total[low]) / (high - low) + values.mean())
