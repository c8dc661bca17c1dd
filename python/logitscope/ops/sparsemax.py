"""Sparsemax and 1.5-entmax along an axis, and their gradients."""

from __future__ import annotations

from typing import Any

from logitscope import _native
from logitscope._arrays import needs_autograd
from logitscope.ops import _rows


def sparsemax(x: Any, axis: int = -1, *, out: Any = None) -> Any:
    """Sparsemax along an axis: the probabilities nearest to ``x``, most of them exactly 0.

    Parameters
    ----------
    x
        Logits of any shape, NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16, any strides.
    axis
        The axis that sums to 1.
    out
        Where the result goes; shape and dtype of ``x``. It may be ``x`` itself.

    Returns
    -------
    array
        Kind, shape and dtype of ``x``: ``max(x - t, 0)`` for the threshold ``t`` at which it sums to 1.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Notes
    -----
    Martins and Astudillo, arXiv 1602.02068. Nothing is sorted: only logits less than 1 below the largest can have a
    probability, and Newton's method on the threshold ends exactly. NaN, ``inf``, or nothing but ``-inf`` in a
    row makes that row NaN.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> logitscope.sparsemax(np.array([1.0, 0.5, -1.0]))
    array([0.75, 0.25, 0.  ])
    """
    if needs_autograd(x):
        from logitscope.nn.functional import sparsemax as differentiable

        _rows.check_no_out("sparsemax", out)
        return differentiable(x, axis)
    return _rows.forward("sparsemax", _native.sparsemax, x, axis, out)


def sparsemax_backward(y: Any, dy: Any, axis: int = -1) -> Any:
    """Gradient of :func:`sparsemax`: ``dy`` minus its mean over the support, 0 outside.

    Parameters
    ----------
    y
        What :func:`sparsemax` returned.
    dy
        Gradient of it; shape and dtype of ``y``.
    axis
        As it was given to :func:`sparsemax`.

    Returns
    -------
    array
        Gradient of the logits, of the kind of ``y``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> logitscope.sparsemax_backward(np.array([0.75, 0.25, 0.0]), np.array([1.0, 0.0, 5.0]))
    array([ 0.5, -0.5,  0. ])
    """
    return _rows.backward("sparsemax_backward", _native.sparsemax_backward, {"y": y, "dy": dy}, axis)


def entmax15(x: Any, axis: int = -1, *, out: Any = None) -> Any:
    """1.5-entmax along an axis: between softmax and sparsemax, with exact zeros and a smooth rise from them.

    Parameters
    ----------
    x
        Logits of any shape, NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16, any strides.
    axis
        The axis that sums to 1.
    out
        Where the result goes; shape and dtype of ``x``. It may be ``x`` itself.

    Returns
    -------
    array
        Kind, shape and dtype of ``x``: ``max(x / 2 - t, 0)**2`` for the threshold ``t`` at which it sums to 1.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Notes
    -----
    Peters, Niculae and Martins, arXiv 1905.05702. Nothing is sorted: only logits less than 2 below the largest can
    have a probability. NaN, ``inf``, or nothing but ``-inf`` in a row makes that row NaN.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> logitscope.entmax15(np.array([1.0, 1.0, -1.0]))
    array([0.5, 0.5, 0. ])
    """
    if needs_autograd(x):
        from logitscope.nn.functional import entmax15 as differentiable

        _rows.check_no_out("entmax15", out)
        return differentiable(x, axis)
    return _rows.forward("entmax15", _native.entmax15, x, axis, out)


def entmax15_backward(y: Any, dy: Any, axis: int = -1) -> Any:
    """Gradient of :func:`entmax15`: with ``s = sqrt(y)``, ``s * (dy - sum(s * dy) / sum(s))``.

    Parameters
    ----------
    y
        What :func:`entmax15` returned.
    dy
        Gradient of it; shape and dtype of ``y``.
    axis
        As it was given to :func:`entmax15`.

    Returns
    -------
    array
        Gradient of the logits, of the kind of ``y``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> logitscope.entmax15_backward(np.array([0.64, 0.36, 0.0]), np.array([7.0, 0.0, 5.0])).round(3)
    array([ 2.4, -2.4,  0. ])
    """
    return _rows.backward("entmax15_backward", _native.entmax15_backward, {"y": y, "dy": dy}, axis)
