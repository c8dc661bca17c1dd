"""How far an optimizer's step moves the weights, as a share of their length, from samples of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.record.arguments import to_numpy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SAMPLED = 512
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
        self._names = [*(f"update_ratio/{part}" for part in self._parts), "update_ratio"]
        self._samples: _Samples | None = None
        self._kept: NDArray[np.float64] | None = None

    def before(self) -> None:
        """Keep what the weights are now."""
        self._kept = self._taken().entries() if self._parts else None

    def after(self) -> dict[str, float]:
        """Length of the change since `before` over the length then, of each part and of all; once."""
        old, self._kept = self._kept, None
        if old is None:
            return {}
        samples = self._taken()
        moved, length = (self._of_parts(samples.squares(part)) for part in (samples.entries() - old, old))
        still = (length == 0) & ~np.isnan(moved)
        ratios = np.sqrt(moved / np.where(length == 0, 1.0, length))
        return dict(zip(self._names, np.where(still, 0.0, ratios).tolist(), strict=True))

    def _taken(self) -> _Samples:
        if self._samples is None or not self._samples.are_of(self._parameters):
            self._samples = _Samples(self._parameters)
        return self._samples

    def _of_parts(self, squares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums over the tensors of each part, and of all at the end."""
        parts = np.bincount(self._places, squares, len(self._parts))
        return np.append(parts, parts.sum())


class _Samples:
    """Views of some entries of tensors, made once: they show what a tensor holds as long as it stays where it is."""

    def __init__(self, tensors: Sequence[Any]) -> None:
        flats = [_flat(tensor) for tensor in tensors]
        self._addresses = [_address(tensor) for tensor in tensors]
        sizes = np.array([len(flat) for flat in flats], int)
        strides = np.maximum(1, sizes // SAMPLED) | 1  # odd: no stride goes down a single column
        views = [flat[::stride] for flat, stride in zip(flats, strides.tolist(), strict=True)]
        counts = -(-sizes // strides)
        self._shares = sizes / np.maximum(counts, 1)
        self._filled = np.flatnonzero(counts)
        self._starts = (np.cumsum(counts) - counts)[self._filled]
        devices = {getattr(view, "device", None) for view in views}
        self._are_together = len(devices) == 1 and hasattr(views[0], "detach")
        self._views = views

    def are_of(self, tensors: Sequence[Any]) -> bool:
        """Whether the views still show the tensors."""
        return all(
            known is not None and tensor.data_ptr() == known
            for known, tensor in zip(self._addresses, tensors, strict=True)
        )

    def entries(self) -> NDArray[np.float64]:
        """What the views show now, one after the other; of one device with one wait for it."""
        views = [sys.modules["torch"].cat(self._views)] if self._are_together else self._views
        parts = [to_numpy("watch", "update_ratio", view) for view in views]
        return np.concatenate(parts, dtype=np.float64)

    def squares(self, entries: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of squares of each tensor, those between the samples reckoned in."""
        squares = np.zeros(len(self._shares))
        if len(self._starts):
            squares[self._filled] = np.add.reduceat(entries * entries, self._starts)
        squares *= self._shares
        return squares


def _flat(tensor: Any) -> Any:
    return tensor.detach().reshape(-1) if hasattr(tensor, "detach") else np.asarray(tensor).reshape(-1)


def _address(tensor: Any) -> int | None:
    """Where a tensor's entries are; None when a view of them would be a copy."""
    can_stay = hasattr(tensor, "data_ptr") and tensor.is_contiguous()
    return int(tensor.data_ptr()) if can_stay else None
