"""Gaussian averages of products of activations: what infinitely wide layers do to covariances."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from logitscope.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]
    Pair = tuple[NDArray[np.float64], NDArray[np.float64]]

_PARALLEL = 1e-12
"""Cosines so near to 1 are 1: their angle has no digits left."""
_CELLS = 1 << 21
"""Numbers that the quadrature has in memory at a time."""


def dual_activation(
    activation: str | Function,
    q: Any,
    s: Any,
    q2: Any,
    *,
    derivative: Function | None = None,
    nodes: int = 48,
) -> Pair:
    """Expectations ``E[f(u) f(v)]`` and ``E[f'(u) f'(v)]`` of normal (u, v).

    They are what a layer of infinite width does to the covariance of two inputs, and to the tangent kernel
    (Jacot, Gabriel and Hongler, arXiv 1806.07572; Cho and Saul 2009 for ReLU, Williams 1997 for erf).

    Parameters
    ----------
    activation
        A name of ``activation_names()``, or a function of a NumPy array.
    q, q2
        Variances of u and v, 0 or more; anything that broadcasts together.
    s
        Their covariance.
    derivative
        The derivative of a function that was given; smooth, for a kink makes the quadrature inexact.
    nodes
        Gauss-Hermite nodes an axis, where there is no closed form.

    Returns
    -------
    values, derivatives
        float64, of the shape to which q, s and q2 broadcast.

    Raises
    ------
    ArgumentError, ShapeError
        For unknown names, negative variances, no derivative.

    Examples
    --------
    >>> from logitscope.theory import dual_activation
    >>> values, derivatives = dual_activation("relu", 1.0, [1.0, 0.0, -1.0], 1.0)
    >>> values.round(4), derivatives.round(4)
    (array([0.5   , 0.1592, 0.    ]), array([0.5 , 0.25, 0.  ]))
    """
    if nodes < 1:
        message = f"dual_activation: nodes is {nodes}; use 1 or more"
        raise ArgumentError(message)
    try:
        first, covariance, second = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in (q, s, q2)))
    except ValueError:
        shapes = ", ".join(str(np.shape(a)) for a in (q, s, q2))
        message = f"dual_activation: q, s and q2 have shapes {shapes}; use shapes that broadcast"
        raise ShapeError(message) from None
    if not (np.isfinite(first).all() and np.isfinite(covariance).all() and np.isfinite(second).all()):
        message = "dual_activation: q, s or q2 has numbers that are not finite; use finite ones"
        raise ArgumentError(message)
    if (first < 0).any() or (second < 0).any():
        message = "dual_activation: q or q2 has negative variances; use 0 or more"
        raise ArgumentError(message)
    if isinstance(activation, str):
        if activation in _CLOSED:
            return _CLOSED[activation](first, covariance, second)
        if activation not in _SMOOTH:
            message = f"dual_activation: there is no {activation!r}; use {', '.join(activation_names())}, or a function"
            raise ArgumentError(message)
        function, derivative = _SMOOTH[activation]
    elif derivative is None:
        message = "dual_activation: a function came without its derivative; use derivative="
        raise ArgumentError(message)
    else:
        function = activation
    return (
        _quadrature(function, first, covariance, second, nodes),
        _quadrature(derivative, first, covariance, second, nodes),
    )


def activation_names() -> tuple[str, ...]:
    """Names that :func:`dual_activation` knows; those of kinked functions have closed forms.

    Examples
    --------
    >>> from logitscope.theory import activation_names
    >>> "relu" in activation_names(), "gelu" in activation_names()
    (True, True)
    """
    return tuple(sorted([*_CLOSED, *_SMOOTH]))


def _cosine(q: NDArray[np.float64], s: NDArray[np.float64], q2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlation of u and v; 0 where one of them is constant."""
    scale = np.sqrt(q * q2)
    cosine = np.divide(s, scale, out=np.zeros_like(scale), where=scale > 0)
    cosine = np.clip(cosine, -1.0, 1.0)
    near = np.abs(cosine) > 1.0 - _PARALLEL
    rounded: NDArray[np.float64] = np.where(near, np.sign(cosine), cosine)
    return rounded


def _piecewise_linear(above: float, below: float) -> Callable[..., Pair]:
    """Dual of ``above * x`` for positive and ``below * x`` for negative x."""

    def dual(q: NDArray[np.float64], s: NDArray[np.float64], q2: NDArray[np.float64]) -> Pair:
        cosine = _cosine(q, s, q2)
        angle = np.arccos(cosine)
        scale = np.sqrt(q * q2) / (2 * np.pi)
        # Both positive, and one positive with the other negative, for ReLU (the angle's supplement).
        same = scale * (np.sin(angle) + (np.pi - angle) * cosine)
        opposite = scale * (np.sin(angle) - angle * cosine)
        values = (above**2 + below**2) * same - 2 * above * below * opposite
        share = angle / (2 * np.pi)
        derivatives = (above**2 + below**2) * (0.5 - share) + 2 * above * below * share
        return values, derivatives

    return dual


def _erf(q: NDArray[np.float64], s: NDArray[np.float64], q2: NDArray[np.float64]) -> Pair:
    scale = (1 + 2 * q) * (1 + 2 * q2)
    values = 2 / np.pi * np.arcsin(np.clip(2 * s / np.sqrt(scale), -1.0, 1.0))
    return values, 4 / np.pi / np.sqrt(scale - 4 * s * s)


def _identity(q: NDArray[np.float64], s: NDArray[np.float64], q2: NDArray[np.float64]) -> Pair:
    return s + 0.0 * q, np.ones_like(q)


def _exp(q: NDArray[np.float64], s: NDArray[np.float64], q2: NDArray[np.float64]) -> Pair:
    values = np.exp((q + q2 + 2 * s) / 2)
    return values, values


def _sin(q: NDArray[np.float64], s: NDArray[np.float64], q2: NDArray[np.float64]) -> Pair:
    damping = np.exp(-(q + q2) / 2)
    return damping * np.sinh(s), damping * np.cosh(s)


def _cos(q: NDArray[np.float64], s: NDArray[np.float64], q2: NDArray[np.float64]) -> Pair:
    values, derivatives = _sin(q, s, q2)
    return derivatives, values


_CLOSED: dict[str, Callable[..., Pair]] = {
    "abs": _piecewise_linear(1.0, -1.0),
    "cos": _cos,
    "erf": _erf,
    "exp": _exp,
    "identity": _identity,
    "leaky_relu": _piecewise_linear(1.0, 0.01),
    "relu": _piecewise_linear(1.0, 0.0),
    "sin": _sin,
}


def _normal(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The normal distribution function."""
    values: NDArray[np.float64] = 0.5 * torch.special.erfc(torch.from_numpy(-x / math.sqrt(2.0))).numpy()
    return values


def _density(x: NDArray[np.float64]) -> NDArray[np.float64]:
    density: NDArray[np.float64] = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return density


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = 0.5 * (1 + np.tanh(x / 2))
    return values


_SMOOTH: dict[str, tuple[Function, Function]] = {
    "gelu": (lambda x: x * _normal(x), lambda x: _normal(x) + x * _density(x)),
    "sigmoid": (_logistic, lambda x: _logistic(x) * _logistic(-x)),
    "silu": (lambda x: x * _logistic(x), lambda x: _logistic(x) * (1 + x * _logistic(-x))),
    "softplus": (lambda x: np.logaddexp(0.0, x), _logistic),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
}


def _quadrature(
    function: Function,
    q: NDArray[np.float64],
    s: NDArray[np.float64],
    q2: NDArray[np.float64],
    nodes: int,
) -> NDArray[np.float64]:
    """Average over both axes, some pairs at a time."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    weights = weights / weights.sum()
    cosine = _cosine(q, s, q2).ravel()
    deviations = np.sqrt(q).ravel(), np.sqrt(q2).ravel()
    result = np.empty(cosine.shape)
    step = max(1, _CELLS // nodes**2)
    for first in range(0, len(result), step):
        part = slice(first, first + step)
        # u and v share one axis and are opposite on the other: so the result is the same with both exchanged.
        shared = np.sqrt((1 + cosine[part, None, None]) / 2) * points[:, None]
        opposite = np.sqrt((1 - cosine[part, None, None]) / 2) * points
        u = function(deviations[0][part, None, None] * (shared + opposite))
        v = function(deviations[1][part, None, None] * (shared - opposite))
        result[part] = np.einsum("pij,i,j->p", u * v, weights, weights, optimize=True)
    return result.reshape(q.shape)
