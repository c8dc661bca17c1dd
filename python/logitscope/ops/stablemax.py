"""StableMax and its logarithm along an axis, and their gradients."""

from __future__ import annotations

from typing import Any

from logitscope import _native
from logitscope._arrays import needs_autograd
from logitscope.ops import _rows


def stablemax(x: Any, axis: int = -1, *, out: Any = None) -> Any:
    """StableMax along an axis: ``s(x) / sum(s(x))`` with ``s(x) = x + 1`` from 0 up and ``1 / (1 - x)`` below.

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
        Kind, shape and dtype of ``x``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Notes
    -----
    Prieto, Barsbey, Mediano and Birdal, arXiv 2501.04697: growing only linearly, it does not lose the small terms of
    its sum where softmax does. It is ``softmax(sign(x) * log1p(abs(x)))`` and not invariant to a common offset.
    ``-inf`` has probability 0; NaN, ``inf``, or nothing but ``-inf`` in a row makes that row NaN.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> logitscope.stablemax(np.array([3.0, 0.0, 0.0, 1.0]))
    array([0.5  , 0.125, 0.125, 0.25 ])
    """
    if needs_autograd(x):
        from logitscope.nn.functional import stablemax as differentiable

        _rows.check_no_out("stablemax", out)
        return differentiable(x, axis)
    return _rows.forward("stablemax", _native.stablemax, x, axis, out)


def stablemax_backward(x: Any, y: Any, dy: Any, axis: int = -1) -> Any:
    """Gradient of :func:`stablemax`: ``y * (dy - sum(y * dy)) / (1 + abs(x))``.

    Parameters
    ----------
    x, axis
        As they were given to :func:`stablemax`.
    y
        What it returned.
    dy
        Gradient of ``y``; shape and dtype of ``x``.

    Returns
    -------
    array
        Gradient of the logits, of the kind of ``x``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> x = np.array([1.0, 1.0])
    >>> logitscope.stablemax_backward(x, logitscope.stablemax(x), np.array([1.0, 0.0]))
    array([ 0.125, -0.125])
    """
    return _rows.backward("stablemax_backward", _native.stablemax_backward, {"x": x, "y": y, "dy": dy}, axis)


def log_stablemax(x: Any, axis: int = -1, *, out: Any = None) -> Any:
    """Logarithm of :func:`stablemax`, exact where a probability is near 1 or too small to be written.

    Parameters
    ----------
    x
        Logits of any shape, NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16, any strides.
    axis
        The axis whose probabilities sum to 1.
    out
        Where the result goes; shape and dtype of ``x``. It may be ``x`` itself.

    Returns
    -------
    array
        Kind, shape and dtype of ``x``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Notes
    -----
    ``-inf`` stays ``-inf``; NaN, ``inf``, or nothing but ``-inf`` in a row makes that row NaN.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> logitscope.log_stablemax(np.array([40.0, 0.0, 0.0])).round(4)
    array([-0.0476, -3.7612, -3.7612])
    """
    if needs_autograd(x):
        from logitscope.nn.functional import log_stablemax as differentiable

        _rows.check_no_out("log_stablemax", out)
        return differentiable(x, axis)
    return _rows.forward("log_stablemax", _native.log_stablemax, x, axis, out)


def log_stablemax_backward(x: Any, y: Any, dy: Any, axis: int = -1) -> Any:
    """Gradient of :func:`log_stablemax`: ``(dy - exp(y) * sum(dy)) / (1 + abs(x))``.

    Parameters
    ----------
    x, axis
        As they were given to :func:`log_stablemax`.
    y
        What it returned.
    dy
        Gradient of ``y``; shape and dtype of ``x``.

    Returns
    -------
    array
        Gradient of the logits, of the kind of ``x``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> x = np.array([1.0, 1.0])
    >>> logitscope.log_stablemax_backward(x, logitscope.log_stablemax(x), np.array([1.0, 0.0])).round(6)
    array([ 0.25, -0.25])
    """
    return _rows.backward(
        "log_stablemax_backward", _native.log_stablemax_backward, {"x": x, "y": y, "dy": dy}, axis
    )
