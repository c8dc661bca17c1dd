"""How far an optimizer's step moves the weights, as a share of their length, from samples of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.record.arguments import to_numpy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SAMPLED = 1024
"""Entries of each tensor that are kept, evenly spaced: all weights would take as long as the optimizer's step."""


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
        self._parameters = [parameter for _, parameter in parameters]
        self._parts = list(dict.fromkeys(part for part, _ in parameters))
        places = {part: place for place, part in enumerate(self._parts)}
        self._places = np.array([places[part] for part, _ in parameters], int)
        self._kept: NDArray[np.float64] | None = None
        self._part = np.zeros(0, int)
        self._share = np.zeros(0)

    def before(self) -> None:
        """Keep what the weights are now."""
        flats = [_flat(parameter) for parameter in self._parameters]
        sizes = np.array([len(flat) for flat in flats], int)
        taken = -(-sizes // _strides(sizes))
        self._part = np.repeat(self._places, taken)
        self._share = np.repeat(sizes / np.maximum(taken, 1), taken)
        self._kept = _samples(flats)

    def after(self) -> dict[str, float]:
        """Length of the change since `before` over the length then, of each part and of all; once."""
        old, self._kept = self._kept, None
        if old is None or not self._parts:
            return {}
        new = _samples([_flat(parameter) for parameter in self._parameters])
        moved, length = self._squares(new - old), self._squares(old)
        found = {
            f"update_ratio/{part}": _ratio(*pair)
            for part, *pair in zip(self._parts, moved, length, strict=True)
        }
        found["update_ratio"] = _ratio(moved.sum(), length.sum())
        return found

    def _squares(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of squares of each part's entries, those between the samples reckoned in."""
        squares = np.bincount(self._part, samples * samples * self._share, len(self._parts))
        return squares.astype(np.float64)


def _strides(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.maximum(1, sizes // SAMPLED)


def _samples(flats: Sequence[Any]) -> NDArray[np.float64]:
    """Some entries of every tensor, one after the other."""
    strides = _strides(np.array([len(flat) for flat in flats], int)).tolist()
    views = [flat[::stride] for flat, stride in zip(flats, strides, strict=True)]
    devices = {getattr(view, "device", None) for view in views}
    if len(devices) == 1 and hasattr(views[0], "detach"):
        views = [sys.modules["torch"].cat(views)]  # one wait for the device
    parts = [to_numpy("watch", "update_ratio", view).astype(np.float64) for view in views]
    return np.concatenate([np.zeros(0), *parts])


def _flat(tensor: Any) -> Any:
    return tensor.detach().reshape(-1) if hasattr(tensor, "detach") else np.asarray(tensor).reshape(-1)


def _ratio(moved: float, length: float) -> float:
    return float(np.sqrt(moved / length)) if length else float("nan") if np.isnan(moved) else 0.0
