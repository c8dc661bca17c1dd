"""Softmax along an axis, and its gradient."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from logitscope import _native
from logitscope._arrays import is_gpu, needs_autograd
from logitscope.errors import ArgumentError
from logitscope.ops import _rows

Algorithm = Literal["auto", "three_pass_recompute", "three_pass_reload", "two_pass", "online"]
Empty = Literal["nan", "zero"]


def softmax(
    x: Any,
    axis: int = -1,
    *,
    temperature: float = 1.0,
    algorithm: Algorithm = "auto",
    empty: Empty = "nan",
    out: Any = None,
) -> Any:
    """Softmax, ``exp(x / temperature) / sum(exp(x / temperature))``, along an axis.

    Parameters
    ----------
    x
        Logits of any shape, NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16, any strides.
    axis
        The axis that sums to 1.
    temperature
        What the logits are divided by; positive. It enters as its reciprocal, rounded to the element type.
    algorithm
        ``"three_pass_reload"`` (one exponential an element), ``"three_pass_recompute"`` (writes only once),
        ``"two_pass"`` and ``"online"`` (one sweep less, for long rows), or ``"auto"``, which chooses by the
        size of a row and of its numbers. :func:`last_kernel` says which one ran.
    empty
        What a row of negative infinities gives: ``"nan"`` (as torch, JAX and SciPy) or ``"zero"``.
    out
        Where the result goes; shape and dtype of ``x``. It may be ``x`` itself.

    Returns
    -------
    array
        Kind, shape and dtype of ``x``; ``out`` if there is one.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Notes
    -----
    NaN or positive infinity in a row makes that row NaN; ``-inf`` has probability 0; probabilities below the
    smallest normal number are 0. float32 probabilities are within 5e-7 of the truth, relatively, however
    small. A row of 131072 elements or more is worked on by all threads.
    Two-pass softmax: Dukhan and Ablavatski, arXiv 2001.04438. Online softmax: Milakov and Gimelshein, arXiv
    1805.02867.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> logitscope.softmax(np.array([[1000.0, 1000.0], [0.0, -np.inf]]))
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    if is_gpu(x):
        if algorithm != "auto":
            message = f"softmax: algorithm is {algorithm!r} with a GpuArray; use 'auto', a GPU has one"
            raise ArgumentError(message)
        return _rows.on_gpu("softmax", {"x": x}, axis, out=out, temperature=temperature, empty=empty)
    if needs_autograd(x):
        return _differentiable(x, axis, temperature, empty, out)
    return _rows.forward("softmax", _native.softmax, x, axis, out, float(temperature), algorithm, empty)


def softmax_backward(y: Any, dy: Any, axis: int = -1, *, temperature: float = 1.0) -> Any:
    """Gradient of :func:`softmax`: ``y * (dy - sum(y * dy)) / temperature``.

    Parameters
    ----------
    y
        What :func:`softmax` returned.
    dy
        Gradient of it; shape and dtype of ``y``.
    axis, temperature
        As they were given to :func:`softmax`.

    Returns
    -------
    array
        Gradient of the logits, of the kind of ``y``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> logitscope.softmax_backward(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    array([ 0.25, -0.25])
    """
    if is_gpu(y):
        return _rows.on_gpu("softmax_backward", {"y": y, "dy": dy}, axis, temperature=temperature)
    return _rows.backward(
        "softmax_backward", _native.softmax_backward, {"y": y, "dy": dy}, axis, float(temperature)
    )


def _differentiable(x: Any, axis: int, temperature: float, empty: Empty, out: Any) -> Any:
    from logitscope.nn.functional import softmax as differentiable

    _rows.check_no_out("softmax", out)
    if empty == "nan":
        return differentiable(x, axis, temperature=temperature)
    # Filled before and after, so that no NaN reaches the gradient either.
    nothing = (x == -np.inf).all(axis, keepdim=True)
    y = differentiable(x.masked_fill(nothing, 0.0), axis, temperature=temperature)
    return y.masked_fill(nothing, 0.0)
