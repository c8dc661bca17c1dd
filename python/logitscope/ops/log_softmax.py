"""Logarithm of the softmax along an axis, and its gradient."""

from __future__ import annotations

from typing import Any

from logitscope import _native
from logitscope._arrays import is_gpu, needs_autograd
from logitscope.ops import _rows


def log_softmax(x: Any, axis: int = -1, *, temperature: float = 1.0, out: Any = None) -> Any:
    """Logarithm of the softmax along an axis, ``x / temperature - logsumexp(x / temperature)``.

    Parameters
    ----------
    x
        Logits of any shape, NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16, any strides.
    axis
        The axis whose probabilities sum to 1.
    temperature
        What the logits are divided by; positive.
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
    It is computed relative to the maximum of a row: a common offset costs no digits, and the logarithm of a
    probability near 1 keeps its own (-1.8e-35 where the others have 1.8e-35 together). NaN, positive infinity
    or nothing but negative infinity in a row makes that row NaN.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> logitscope.log_softmax(np.array([80.0, 0.0], np.float32))
    array([-1.8048513e-35, -8.0000000e+01], dtype=float32)
    """
    if is_gpu(x):
        return _rows.on_gpu("log_softmax", {"x": x}, axis, out=out, temperature=temperature)
    if needs_autograd(x):
        from logitscope.nn.functional import log_softmax as differentiable

        _rows.check_no_out("log_softmax", out)
        return differentiable(x if temperature == 1 else x / temperature, axis)
    return _rows.forward("log_softmax", _native.log_softmax, x, axis, out, float(temperature))


def log_softmax_backward(y: Any, dy: Any, axis: int = -1, *, temperature: float = 1.0) -> Any:
    """Gradient of :func:`log_softmax`: ``(dy - exp(y) * sum(dy)) / temperature``.

    Parameters
    ----------
    y
        What :func:`log_softmax` returned.
    dy
        Gradient of it; shape and dtype of ``y``.
    axis, temperature
        As they were given to :func:`log_softmax`.

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
    >>> y = logitscope.log_softmax(np.zeros(2))
    >>> logitscope.log_softmax_backward(y, np.array([1.0, 0.0]))
    array([ 0.5, -0.5])
    """
    if is_gpu(y):
        return _rows.on_gpu("log_softmax_backward", {"y": y, "dy": dy}, axis, temperature=temperature)
    return _rows.backward(
        "log_softmax_backward", _native.log_softmax_backward, {"y": y, "dy": dy}, axis, float(temperature)
    )
