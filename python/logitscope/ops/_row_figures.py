"""The figures of the rows of attention, as the compiled module fills them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from logitscope._arrays import like

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

OF_STATISTIC = {
    "entropy": ("entropy",),
    "logits": ("logit_count", "logit_mean", "logit_m2"),
    "variance": ("variance",),
}
"""The figures that belong to a name in ``stats``."""


class RowFigures(NamedTuple):
    """Arrays to fill, one number a row each; the compiled module reads them by these names."""

    max_logit: NDArray[Any]
    inv_sum: NDArray[Any]
    lse: NDArray[Any]
    entropy: NDArray[Any] | None = None
    logit_count: NDArray[Any] | None = None
    logit_mean: NDArray[Any] | None = None
    logit_m2: NDArray[Any] | None = None
    variance: NDArray[Any] | None = None

    @classmethod
    def empty(cls, rows: tuple[int, ...], dtype: np.dtype[Any], stats: Collection[str]) -> RowFigures:
        """Make those that are always there and those of ``stats``."""
        names = ("max_logit", "inv_sum", "lse", *(name for stat in stats for name in OF_STATISTIC[stat]))
        return cls(**{name: np.empty(rows, dtype) for name in names})

    def spoil(self, unseen: NDArray[np.bool_]) -> None:
        """Make NaN of the figures of some rows; not of counts, and not of the state for gradients."""
        for array in self._replace(inv_sum=None, logit_count=None):  # type: ignore[arg-type]
            if array is not None:
                array[unseen] = np.nan

    def like(self, model: Any) -> dict[str, Any]:
        """Give them by name, as arrays of the kind of ``model``."""
        return {name: None if x is None else like(model, x) for name, x in self._asdict().items()}
