"""Lengths of weights and gradients, with torch's own fused norms where there is torch."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def norms(groups: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    """Length of all tensors of each group taken as one vector; empty groups are left out.

    Examples
    --------
    >>> import numpy as np
    >>> norms({"a": [np.array([3.0]), np.array([[4.0]])], "b": []})
    {'a': 5.0}
    """
    tensors = [tensor for members in groups.values() for tensor in members]
    lengths = iter(_lengths(tensors))
    return {
        name: math.hypot(*(next(lengths) for _ in members)) for name, members in groups.items() if members
    }


def _lengths(tensors: Sequence[Any]) -> list[float]:
    torch = sys.modules.get("torch")
    if torch is None or not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
        return [float(np.linalg.norm(np.asarray(tensor, np.float64))) for tensor in tensors]
    with torch.no_grad():
        places: dict[Any, list[int]] = {}
        for index, tensor in enumerate(tensors):
            places.setdefault(tensor.device, []).append(index)
        lengths = [0.0] * len(tensors)
        for indices in places.values():  # one wait for the device each
            found = torch.stack(torch._foreach_norm([_dense(torch, tensors[index]) for index in indices]))
            for index, length in zip(indices, found.tolist(), strict=True):
                lengths[index] = length
    return lengths


def _dense(torch: Any, tensor: Any) -> Any:
    """A tensor that the fused norm takes and whose norm does not overflow in half precision."""
    tensor = tensor.coalesce().values() if tensor.is_sparse else tensor
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
