"""How a distribution has moved: the histograms of a tag side by side, on one axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from logitscope_app.models.series import latest_index
from logitscope_app.models.states import History

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitscope.record import StepArray
    from logitscope_app.models.states import FloatArray

MOMENTS, BINS = 64, 48


class Arrays(Protocol):
    """Where the histograms are."""

    def steps(self, tag: str) -> NDArray[np.int64]:
        """Steps at which a tag has arrays, sorted."""

    def array(self, tag: str, step: int | None) -> StepArray | None:
        """The newest array at or before a step."""


def history_of(tag: str, data: Arrays, step: int | None) -> History:
    """The histograms of a tag up to a step, at most `MOMENTS` of them, at equal distances."""
    known = data.steps(tag)
    last = latest_index(known, step)
    if last is None:
        return History()
    chosen = np.unique(np.linspace(0, last, min(MOMENTS, last + 1)).astype(int))
    found = [data.array(tag, int(known[index])) for index in chosen]
    parts = [(one.step, one.array.astype(np.float64)) for one in found if one is not None and _is_whole(one)]
    if not parts:
        return History()
    low = min(float(array[0, 0]) for _, array in parts)
    high = max(float(array[0, -1]) for _, array in parts)
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    shares = np.stack([_shares(array, edges) for _, array in parts], axis=1)
    return History(shares[::-1], edges[::-1], tuple(at for at, _ in parts))


def _is_whole(found: StepArray) -> bool:
    array = found.array
    return bool(array.ndim == 2 and array.shape[0] == 2 and array.shape[1] > 1 and np.isfinite(array).all())


def _shares(array: FloatArray, edges: FloatArray) -> FloatArray:
    """Shares between other edges; values are taken to be even within a bin."""
    counts = array[1, :-1]
    total = counts.sum()
    if not total:
        return np.zeros(len(edges) - 1)
    sums = np.concatenate([[0.0], np.cumsum(counts)]) / total
    shares: FloatArray = np.diff(np.interp(edges, array[0], sums))
    return shares
