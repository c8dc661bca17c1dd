"""Kernels of infinitely wide networks: of their outputs at the start (NNGP), and of their training (NTK)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope._arrays import as_numpy
from logitscope.errors import ArgumentError, ShapeError
from logitscope.theory.dual_activation import dual_activation

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Kernel = NDArray[np.float64]


def nngp_kernel(
    X: Any,
    X2: Any = None,
    *,
    depth: int,
    activation: str | Callable[[Kernel], Kernel] = "relu",
    derivative: Callable[[Kernel], Kernel] | None = None,
    sigma_w: float = 1.0,
    sigma_b: float = 0.1,
    nodes: int = 48,
) -> Kernel:
    """Covariance of the outputs of an infinitely wide network over its random start.

    Parameters
    ----------
    X, X2, depth, activation, derivative, sigma_w, sigma_b, nodes
        As in :func:`ntk_kernel`.

    Returns
    -------
    array
        (N1, N2), float64.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.theory import nngp_kernel
    >>> nngp_kernel(np.eye(2), depth=2, sigma_w=2**0.5, sigma_b=0.0).round(4)
    array([[1.    , 0.3183],
           [0.3183, 1.    ]])
    """
    dual = partial(dual_activation, activation, derivative=derivative, nodes=nodes)
    return _kernels("nngp_kernel", X, X2, depth, dual, sigma_w, sigma_b)[1]


def ntk_kernel(
    X: Any,
    X2: Any = None,
    *,
    depth: int,
    activation: str | Callable[[Kernel], Kernel] = "relu",
    derivative: Callable[[Kernel], Kernel] | None = None,
    sigma_w: float = 1.0,
    sigma_b: float = 0.1,
    nodes: int = 48,
    return_nngp: bool = False,
) -> Any:
    """Tangent kernel of an infinitely wide fully connected network (Jacot, Gabriel and Hongler, arXiv 1806.07572).

    It is the limit of the empirical kernel of ``logitscope.nn.ntk_mlp`` and does not change in training. The paper has
    ``sigma_w = 1`` and writes beta for ``sigma_b``; ``sigma_w = 2**0.5`` keeps the size of signals through ReLU layers.

    Parameters
    ----------
    X
        (N1, n) inputs, NumPy array or torch tensor.
    X2
        (N2, n); by default ``X`` itself, and then the result is symmetric to the bit.
    depth
        Number of weight layers, 1 for a linear model.
    activation, derivative, nodes
        As in :func:`dual_activation`.
    sigma_w, sigma_b
        Deviations of weights, over the square root of a layer's inputs, and of biases.
    return_nngp
        Return the covariance of the outputs at the start, too.

    Returns
    -------
    array or (array, array)
        (N1, N2), float64.

    Raises
    ------
    ShapeError, ArgumentError
        For inputs that are no matrices or not finite, a depth below 1, an unknown activation.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.theory import ntk_kernel
    >>> ntk_kernel(np.eye(2), depth=2, sigma_w=2**0.5, sigma_b=0.0).round(4)
    array([[2.    , 0.3183],
           [0.3183, 2.    ]])
    """
    dual = partial(dual_activation, activation, derivative=derivative, nodes=nodes)
    tangent, covariance = _kernels("ntk_kernel", X, X2, depth, dual, sigma_w, sigma_b)
    return (tangent, covariance) if return_nngp else tangent


def _kernels(
    operation: str,
    X: Any,
    X2: Any,
    depth: int,
    dual: Callable[[Any, Any, Any], tuple[Kernel, Kernel]],
    sigma_w: float,
    sigma_b: float,
) -> tuple[Kernel, Kernel]:
    """Tangent kernel and covariance, layer by layer."""
    if depth < 1:
        message = f"{operation}: depth is {depth}; use 1 or more"
        raise ArgumentError(message)
    x = _inputs(operation, "X", X)
    same = X2 is None
    x2 = x if same else _inputs(operation, "X2", X2)
    if x.shape[1] != x2.shape[1]:
        message = f"{operation}: X has rows of {x.shape[1]} numbers, X2 of {x2.shape[1]}; use as many"
        raise ShapeError(message)
    scale, shift = sigma_w**2, sigma_b**2
    first, second = (scale * np.square(each).mean(axis=1) + shift for each in (x, x2))
    covariance = scale * (x @ x2.T) / x.shape[1] + shift
    tangent = covariance.copy()
    for _ in range(depth - 1):
        values, slopes = dual(first[:, None], covariance, second)
        first, second = (scale * dual(each, each, each)[0] + shift for each in (first, second))
        covariance = scale * values + shift
        tangent = tangent * scale * slopes + covariance
        if same:
            # From the variances: a correlation of 1 has lost half the digits of what is left of 1.
            np.fill_diagonal(covariance, first)
    if same:
        covariance, tangent = ((kernel + kernel.T) / 2 for kernel in (covariance, tangent))
    return tangent, covariance


def _inputs(operation: str, name: str, value: Any) -> Kernel:
    array = as_numpy(operation, name, value).astype(np.float64)
    if array.ndim != 2 or not array.shape[1]:
        message = f"{operation}: {name} has shape {array.shape}; use (N, n) with n at least 1"
        raise ShapeError(message)
    if not np.isfinite(array).all():
        message = f"{operation}: {name} has numbers that are not finite; use finite ones"
        raise ArgumentError(message)
    return array
