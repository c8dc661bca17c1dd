"""How much of what a network has it uses: ranks of its weights, likeness of its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope._arrays import as_numpy
from logitscope.errors import NumericalError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def effective_rank(weight: Any) -> float:
    """Exponential of the entropy of a matrix's singular values, taken as shares of their sum.

    Between 1 and the smaller side: how many directions a matrix really has (Roy and Vetterli, 2007), as Zhuo et al.,
    arXiv 2411.03884, compare activations by it.

    Parameters
    ----------
    weight
        (m, n), NumPy array or torch tensor.

    Returns
    -------
    float
        0 for a matrix of zeros.

    Raises
    ------
    ShapeError, NumericalError
        For what is no matrix, or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.dynamics import effective_rank
    >>> round(effective_rank(np.eye(5)), 6), round(effective_rank(np.ones((5, 7))), 6)
    (5.0, 1.0)
    """
    matrix = _finite("effective_rank", "weight", weight)
    if matrix.ndim != 2 or not matrix.size:
        message = f"effective_rank: weight has shape {matrix.shape}; use a matrix (m, n)"
        raise ShapeError(message)
    values = np.linalg.svd(matrix, compute_uv=False)
    if values[0] == 0.0:
        return 0.0
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def layer_cosine_similarity(hidden_states: Sequence[Any]) -> NDArray[np.float64]:
    """Mean cosine between the vectors that two layers have for the same token.

    Parameters
    ----------
    hidden_states
        One array (..., d) a layer, all of the same shape: the residual stream after each layer.

    Returns
    -------
    array
        (layers, layers), 1 on its diagonal. Layers that are alike change little: they are redundant. A vector of
        zeros is like none.

    Raises
    ------
    ShapeError, NumericalError
        For shapes that differ, or numbers that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.dynamics import layer_cosine_similarity
    >>> layer_cosine_similarity([np.array([[1.0, 0.0]]), np.array([[3.0, 0.0]]), np.array([[0.0, 2.0]])])
    array([[1., 1., 0.],
           [1., 1., 0.],
           [0., 0., 1.]])
    """
    operation = "layer_cosine_similarity"
    states = [_finite(operation, f"hidden_states[{i}]", state) for i, state in enumerate(hidden_states)]
    if not states or states[0].ndim < 1 or len({state.shape for state in states}) > 1:
        shapes = ", ".join(str(state.shape) for state in states) or "nothing"
        message = f"{operation}: hidden_states are {shapes}; use one (..., d) a layer, all of the same shape"
        raise ShapeError(message)
    rows = np.stack([state.reshape(-1, state.shape[-1]) for state in states])
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    units = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    similarity: NDArray[np.float64] = np.einsum("atd,btd->ab", units, units) / max(1, rows.shape[1])
    return similarity


def _finite(operation: str, name: str, value: Any) -> NDArray[np.float64]:
    array = as_numpy(operation, name, value).astype(np.float64)
    if not np.isfinite(array).all():
        message = f"{operation}: {name} has numbers that are not finite; use finite ones"
        raise NumericalError(message)
    return array
