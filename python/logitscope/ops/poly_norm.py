"""PolyNorm, a sum of normalised powers of rows, and its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from logitscope import _native
from logitscope._arrays import as_floats, like, needs_autograd
from logitscope._dtypes import name_of, wide
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.ops import _rows
from logitscope.ops.poly_relu import read_bias, read_weight, split_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

NormScale = Literal["rms", "l2"]


def poly_norm(
    x: Any,
    weight: Any,
    bias: Any = 0.0,
    eps: float = 1e-6,
    axis: int = -1,
    *,
    scale: NormScale = "rms",
    return_saved: bool = False,
) -> Any:
    """PolyNorm, ``w[0] N(x**3) + w[1] N(x**2) + w[2] N(x) + b`` with ``N(u) = u / sqrt(mean(u**2) + eps)``.

    Zhuo et al., arXiv 2411.03884, with the coefficients as their code stores them. Powers are never formed, so they
    neither overflow nor vanish.

    Parameters
    ----------
    x
        Any shape, NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16, any strides.
    weight
        (r,) coefficients, 1 to 5 of them, that of the highest power first.
    bias
        The constant, a number.
    eps
        Above 0. It counts: where the root mean square of x**3 is below 1e-3, the cubic part shrinks.
    axis
        The axis of the mean.
    scale
        ``"rms"`` as above; ``"l2"``: the sum of squares in place of their mean, as the paper writes it.
    return_saved
        Also return what :func:`poly_norm_backward` needs.

    Returns
    -------
    y or (y, saved)
        Kind, shape and dtype of ``x``; ``saved`` has r + 1 numbers a row, the rows in the order of the other
        axes, float32 for 16-bit ``x``.
        NaN and infinities make their row NaN.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.activation import poly_norm
    >>> poly_norm(np.array([1e30, -1e30, 2e30, 0.0]), np.ones(3) / 3).round(3)
    array([ 0.511, -0.197,  1.829,  0.   ])
    """
    operation = "poly_norm"
    if needs_autograd(x, weight, bias) and not return_saved:
        from logitscope.nn.functional import poly_norm as differentiable

        return differentiable(x, weight, bias, eps, axis, scale=scale)
    array = as_floats(operation, "x", x)
    axis = _rows.axis_of(operation, array, axis)
    coefficients = read_weight(operation, weight).tolist()
    constant = read_bias(operation, bias)
    is_l2 = _is_l2(operation, scale)
    rows = _rows.with_rows_last(array, axis)
    y = np.empty(array.shape, array.dtype)
    saved = np.empty((*rows.shape[:-1], len(coefficients) + 1), wide(array.dtype))

    def kernel(x: NDArray[Any], y: NDArray[Any], saved: NDArray[Any]) -> None:
        _native.poly_norm(x, coefficients, constant, float(eps), is_l2, y, saved)

    _rows.run(kernel, [rows], [_rows.with_rows_last(y, axis), saved])
    return (like(x, y), like(x, saved)) if return_saved else like(x, y)


def poly_norm_backward(
    x: Any, dy: Any, weight: Any, saved: Any, axis: int = -1, *, scale: NormScale = "rms"
) -> tuple[Any, Any, Any]:
    """Gradients of :func:`poly_norm`.

    Parameters
    ----------
    x, weight, axis, scale
        As they were given to :func:`poly_norm`.
    dy
        Gradient of the result, of the shape and dtype of ``x``.
    saved
        What :func:`poly_norm` returned beside the result.

    Returns
    -------
    dx, dweight, dbias
        dx of the kind, shape and dtype of ``x``; (r,) and () of the kind of ``x`` and its dtype or float32, sums over
        all rows that are the same at any number of threads.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.activation import poly_norm, poly_norm_backward
    >>> x, weight = np.array([[3.0, 4.0]]), np.array([0.0, 0.0, 1.0])
    >>> y, saved = poly_norm(x, weight, return_saved=True)
    >>> dx, dweight, dbias = poly_norm_backward(x, np.array([[1.0, 0.0]]), weight, saved)
    >>> dx.round(4), dweight.round(4), dbias
    (array([[ 0.181 , -0.1358]]), array([0.5497, 0.6933, 0.8485]), array(1.))
    """
    operation = "poly_norm_backward"
    array = as_floats(operation, "x", x)
    slope = _rows.same_shape(operation, "dy", dy, array)
    axis = _rows.axis_of(operation, array, axis)
    coefficients = read_weight(operation, weight).tolist()
    is_l2 = _is_l2(operation, scale)
    rows = _rows.with_rows_last(array, axis)
    kept = as_floats(operation, "saved", saved)
    expected = (*rows.shape[:-1], len(coefficients) + 1)
    if kept.shape != expected:
        message = f"{operation}: saved has shape {kept.shape}; use {expected}, as poly_norm returned it"
        raise ShapeError(message)
    if kept.dtype != wide(array.dtype):
        message = f"{operation}: saved has dtype {name_of(kept.dtype)}; use {wide(array.dtype)}"
        raise DTypeError(message)
    dx, sums = np.empty(array.shape, array.dtype), np.zeros(len(coefficients) + 1)

    def kernel(x: NDArray[Any], dy: NDArray[Any], saved: NDArray[Any], dx: NDArray[Any]) -> None:
        sums[:] += _native.poly_norm_backward(x, dy, coefficients, saved, is_l2, dx)

    reads = [rows, _rows.with_rows_last(slope, axis), kept]
    _rows.run(kernel, reads, [_rows.with_rows_last(dx, axis)])
    return like(x, dx), *split_sums(x, sums, wide(array.dtype))


def _is_l2(operation: str, scale: str) -> bool:
    if scale not in ("rms", "l2"):
        message = f"{operation}: scale is {scale!r}; use 'rms' or 'l2'"
        raise ArgumentError(message)
    return scale == "l2"
