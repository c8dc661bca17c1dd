"""How many inputs of activation functions lie where the function is flat, and let no gradient through."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.record.arguments import to_numpy
from logitscope.record.statistics import SAMPLED_ENTRIES

if TYPE_CHECKING:
    from collections.abc import Mapping

FLAT = {
    "relu": (0.0, math.inf),
    "relu_": (0.0, math.inf),
    "relu6": (0.0, 6.0),
    "gelu": (-3.1, math.inf),
    "silu": (-6.3, math.inf),
    "elu": (-4.6, math.inf),
    "hardtanh": (-1.0, 1.0),
    "tanh": (-2.99, 2.99),
    "sigmoid": (-4.6, 4.6),
}
"""At or below the first and at or above the second number the slope is under 0.01."""
FUNCTIONS = frozenset(FLAT)


class ActivationBoard:
    """Gathers the activations of a pass by part of the model."""

    def __init__(self) -> None:
        self._flat: dict[str, list[float]] = {}
        self._dead: dict[str, list[float]] = {}

    def take(self, part: str, name: str, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        """Look at the inputs of a call."""
        inputs: Any = arguments[0] if arguments else options.get("input")
        if not getattr(inputs, "ndim", 0) or not inputs.numel() or not inputs.is_floating_point():
            return
        units = inputs.shape[-1]
        rows = inputs.detach().reshape(-1, units)
        rows = to_numpy("watch", "activation", rows[:: max(1, len(rows) * units // SAMPLED_ENTRIES)])
        low, high = FLAT[name]
        flat = rows <= low if high == math.inf else (rows <= low) | (rows >= high)
        bad = bool(np.isnan(rows.min()))
        self._flat.setdefault(part, []).append(math.nan if bad else np.count_nonzero(flat) / flat.size)
        self._dead.setdefault(part, []).append(
            math.nan if bad else np.count_nonzero(flat.all(axis=0)) / units
        )

    def figures(self) -> dict[str, float]:
        """Means over the activations of each part; the board is empty then."""
        found = {
            f"activation/{name}/{part}": math.fsum(shares) / len(shares)
            for name, parts in (("saturation", self._flat), ("dead", self._dead))
            for part, shares in parts.items()
        }
        self._flat.clear()
        self._dead.clear()
        return found
