"""How far a training step only scales the weights: the direction of naive loss minimisation.

Prieto, Barsbey, Mediano and Birdal, "Grokking at the Edge of Numerical Stability", ICLR 2025, arXiv 2501.04697.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope._arrays import as_numpy
from logitscope._dtypes import widen
from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor, nn


def nlm_cosine(
    model_or_params: nn.Module | Iterable[Tensor] | Iterable[tuple[str, Tensor]],
) -> dict[str, float]:
    """Cosine between the descent direction and the weights themselves, ``-<g, w> / (|g| |w|)``.

    Parameters
    ----------
    model_or_params
        A module, tensors, or (name, tensor) pairs, after ``backward``; those without a gradient are passed over.

    Returns
    -------
    dict
        A number for each parameter, by name (its number in the row where it has none), and ``"total"`` for all as
        one vector. NaN where weights or gradient are 0.

    Raises
    ------
    ArgumentError
        If nothing has a gradient.

    Notes
    -----
    A net that is homogeneous in its weights, such as a bias-free ReLU net, gives the same classes with larger logits
    when its weights grow, so once it fits its data cross entropy falls along them: the cosine goes up towards 1.

    Examples
    --------
    >>> import torch
    >>> from logitscope.dynamics import nlm_cosine
    >>> layer = torch.nn.Linear(1, 2, bias=False)
    >>> layer.weight.data[:] = torch.tensor([[3.0], [4.0]])
    >>> layer.weight.grad = torch.tensor([[-3.0], [-4.0]])
    >>> nlm_cosine(layer)
    {'total': 1.0, 'weight': 1.0}
    """
    cosines, dots = {}, np.zeros(3)
    for name, weight in _named(model_or_params):
        if weight.grad is None:
            continue
        w, g = (_flat(name, part) for part in (weight, weight.grad))
        products = np.array([-(w @ g), g @ g, w @ w])
        cosines[name] = _cosine(*products)
        dots += products
    if not cosines:
        message = "nlm_cosine: no parameter has a gradient; call it after backward()"
        raise ArgumentError(message)
    return {"total": _cosine(*dots), **cosines}


def _named(model_or_params: Any) -> Iterator[tuple[str, Tensor]]:
    named = getattr(model_or_params, "named_parameters", None)
    for index, item in enumerate(model_or_params if named is None else named()):
        yield item if isinstance(item, tuple) else (str(index), item)


def _flat(name: str, tensor: Tensor) -> NDArray[np.float64]:
    return widen(as_numpy("nlm_cosine", name, tensor)).reshape(-1).astype(np.float64)


def _cosine(along: float, gradient: float, weight: float) -> float:
    size = math.sqrt(gradient) * math.sqrt(weight)
    return float(along / size) if size else math.nan
