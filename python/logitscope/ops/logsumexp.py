"""Logarithm of the sum of exponentials along an axis, and its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope import _native
from logitscope._arrays import as_floats, is_gpu, is_tensor, like, needs_autograd
from logitscope._dtypes import name_of, narrow, wide, widen
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.ops import _rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


def logsumexp(x: Any, axis: int = -1, *, keepdims: bool = False, return_pair: bool = False) -> Any:
    """Logarithm of the sum of exponentials along an axis, in one sweep and without overflow.

    Parameters
    ----------
    x
        Any shape, NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16, any strides.
    axis
        The axis that is summed over.
    keepdims
        Whether that axis stays, with length 1.
    return_pair
        Whether to return the sum of exponentials itself, as ``(mantissa, exponent)`` with
        ``sum = mantissa * 2**exponent`` and a mantissa between 1 and 2: a logarithm of some 1e4 and more has
        lost digits to its size, the pair has not. It is not differentiable.

    Returns
    -------
    array or tuple of two arrays
        Kind and dtype of ``x``, without ``axis`` (a NumPy scalar if no axis is left).

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Notes
    -----
    Limits are kept: a row with ``inf`` and no NaN gives ``inf``, a row of ``-inf`` gives ``-inf``; as pairs these
    are ``(inf, 0)`` and ``(0, -inf)``.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> logitscope.logsumexp(np.array([[1000.0, 1000.0], [-np.inf, 3.0]]))
    array([1000.69314718,    3.        ])
    >>> mantissa, exponent = logitscope.logsumexp(np.array([1000.0, 1000.0]), return_pair=True)
    >>> print(f"{mantissa:.6f} * 2**{exponent:.0f}")
    1.618930 * 2**1443
    """
    if is_gpu(x):
        from logitscope.gpu import rows as on_gpu

        if return_pair:
            message = "logsumexp: return_pair is True with a GpuArray; use x.numpy()"
            raise ArgumentError(message)
        return on_gpu.logsumexp(x, axis, keepdims=keepdims)
    if needs_autograd(x):
        if return_pair:
            message = "logsumexp: return_pair is True but x requires a gradient; use x.detach()"
            raise ArgumentError(message)
        from logitscope.nn.functional import logsumexp as differentiable

        return differentiable(x, axis, keepdim=keepdims)
    array = as_floats("logsumexp", "x", x)
    axis = _rows.axis_of("logsumexp", array, axis)
    rows = _rows.with_rows_last(array, axis)
    if return_pair:
        results = [np.empty(rows.shape[:-1], wide(array.dtype)) for _ in range(2)]
        _rows.run(_native.logsumexp_pair, [rows], results)
    else:
        results = [narrow(lse_of_rows(rows), array.dtype)]
    shaped = tuple(_rows.without_axis(x, array, axis, result, keepdims=keepdims) for result in results)
    return shaped if return_pair else shaped[0]


def lse_of_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Logsumexp along the last axis as it was computed, not rounded to 16 bits; for the package itself."""
    lse = np.empty(rows.shape[:-1], wide(rows.dtype))
    _rows.run(_native.logsumexp, [np.atleast_2d(rows)], [np.atleast_1d(lse)])
    return lse


def logsumexp_backward(x: Any, lse: Any, dlse: Any, axis: int = -1) -> Any:
    """Gradient of :func:`logsumexp`: ``dlse * softmax(x)``.

    Parameters
    ----------
    x
        As it was given to :func:`logsumexp`.
    lse
        What :func:`logsumexp` returned, with or without the axis kept. It saves a search for the maximum; its
        own rounding does not enter the gradient.
    dlse
        Gradient of ``lse``, of the same shape.
    axis
        As it was given to :func:`logsumexp`.

    Returns
    -------
    array
        Kind, shape and dtype of ``x``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> x = np.zeros(2)
    >>> logitscope.logsumexp_backward(x, logitscope.logsumexp(x), 3.0)
    array([1.5, 1.5])
    """
    operation = "logsumexp_backward"
    if is_gpu(x):
        from logitscope.gpu import rows as on_gpu

        return on_gpu.logsumexp_backward(x, dlse, axis)
    array = as_floats(operation, "x", x)
    axis = _rows.axis_of(operation, array, axis)
    rows = _rows.with_rows_last(array, axis)
    dx = np.empty(array.shape, array.dtype)
    reads = [rows]
    for name, value in (("lse", lse), ("dlse", dlse)):
        reads.append(widen(_of_rows(operation, name, value, array, axis)).reshape(rows.shape[:-1]))
    _rows.run(_native.logsumexp_backward, reads, [_rows.with_rows_last(dx, axis)])
    return like(x, dx)


def _of_rows(operation: str, name: str, value: Any, x: NDArray[Any], axis: int) -> NDArray[Any]:
    """Read an array with one number for each row of ``x``."""
    array = as_floats(operation, name, value)
    if array.ndim == 0 and not is_tensor(value):
        array = array.astype(wide(x.dtype))  # a Python number has no element type of its own
    without = x.shape[:axis] + x.shape[axis + 1 :]
    if array.shape not in (without, x.shape[:axis] + (1,) * bool(x.ndim) + x.shape[axis + 1 :]):
        message = f"{operation}: {name} has shape {array.shape}; use {without}"
        raise ShapeError(message)
    if array.dtype not in (x.dtype, wide(x.dtype)):
        message = f"{operation}: {name} has dtype {name_of(array.dtype)}; use {name_of(x.dtype)}"
        raise DTypeError(message)
    return array
