"""How far an optimizer's step moves the weights, as a share of their length, from samples of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.record.arguments import to_numpy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SAMPLED = 4096
"""Entries of each tensor that are kept, evenly spaced: a copy of all weights would double their memory."""


class Updates:
    """Looks at weights before and after a step.

    Examples
    --------
    >>> import numpy as np
    >>> weight = np.array([3.0, 4.0])
    >>> updates = Updates([("body", weight)])
    >>> updates.before()
    >>> weight *= 0.9
    >>> {name: round(ratio, 3) for name, ratio in updates.after().items()}
    {'update_ratio/body': 0.1, 'update_ratio': 0.1}
    """

    def __init__(self, parameters: Sequence[tuple[str, Any]]) -> None:
        self._parameters = parameters
        self._kept: list[NDArray[np.float64]] = []

    def before(self) -> None:
        """Keep what the weights are now."""
        self._kept = [_sample(parameter)[0] for _, parameter in self._parameters]

    def after(self) -> dict[str, float]:
        """Length of the change since `before` over the length then, of each part and of all; once."""
        kept, self._kept = self._kept, []
        squares: dict[str, tuple[float, float]] = {}
        for (part, parameter), old in zip(self._parameters, kept, strict=False):
            moved, length = squares.get(part, (0.0, 0.0))
            new, share = _sample(parameter)
            change = new - old
            squares[part] = moved + share * float(change @ change), length + share * float(old @ old)
        found = {f"update_ratio/{part}": _ratio(*pair) for part, pair in squares.items()}
        if squares:
            moved, length = (sum(column) for column in zip(*squares.values(), strict=True))
            found["update_ratio"] = _ratio(moved, length)
        return found


def _ratio(moved: float, length: float) -> float:
    return math.sqrt(moved / length) if length else float("nan") if math.isnan(moved) else 0.0


def _sample(parameter: Any) -> tuple[NDArray[np.float64], float]:
    """Some entries of a tensor, and how many of its entries each stands for."""
    flat = (
        parameter.detach().reshape(-1) if hasattr(parameter, "detach") else np.asarray(parameter).reshape(-1)
    )
    sample = to_numpy("watch", "update_ratio", flat[:: max(1, len(flat) // SAMPLED)]).astype(np.float64)
    return sample, len(flat) / max(sample.size, 1)
