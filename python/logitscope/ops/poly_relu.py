"""PolyReLU, a polynomial of max(x, 0), and its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope import _native
from logitscope._arrays import as_floats, as_numpy, like, needs_autograd
from logitscope._dtypes import wide, widen
from logitscope.errors import DTypeError, ShapeError
from logitscope.ops import _rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


def poly_relu(x: Any, weight: Any, bias: Any = 0.0) -> Any:
    """PolyReLU, ``w[0] p**3 + w[1] p**2 + w[2] p + b`` of ``p = max(x, 0)``.

    Zhuo et al., arXiv 2411.03884, with the coefficients as their code stores them.

    Parameters
    ----------
    x
        Any shape, NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16, any strides.
    weight
        (r,) coefficients, 1 to 5 of them, that of the highest power first.
    bias
        The constant, a number.

    Returns
    -------
    array
        Kind, shape and dtype of ``x``; NaN where ``x`` is.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.activation import poly_relu
    >>> poly_relu(np.array([-1.0, 1.0, 2.0]), np.array([1.0, 0.5, 0.25]), 3.0)
    array([ 3.  ,  4.75, 13.5 ])
    """
    operation = "poly_relu"
    if needs_autograd(x, weight, bias):
        from logitscope.nn.functional import poly_relu as differentiable

        return differentiable(x, weight, bias)
    array = as_floats(operation, "x", x)
    coefficients = read_weight(operation, weight).tolist()
    constant = read_bias(operation, bias)
    y = np.empty(array.shape, array.dtype)

    def kernel(x: NDArray[Any], y: NDArray[Any]) -> None:
        _native.poly_relu(x, coefficients, constant, y)

    _rows.run(kernel, [_rows.with_rows_last(array, -1)], [_rows.with_rows_last(y, -1)])
    return like(x, y)


def poly_relu_backward(x: Any, dy: Any, weight: Any) -> tuple[Any, Any, Any]:
    """Gradients of :func:`poly_relu`.

    Parameters
    ----------
    x, weight
        As they were given to :func:`poly_relu`.
    dy
        Gradient of the result, of the shape and dtype of ``x``.

    Returns
    -------
    dx, dweight, dbias
        dx of the kind, shape and dtype of ``x``, 0 where ``x`` is not above 0; (r,) and () of the kind of ``x`` and
        its dtype or float32, sums over all elements that are the same at any number of threads.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.activation import poly_relu_backward
    >>> poly_relu_backward(np.array([-1.0, 2.0]), np.array([1.0, 1.0]), np.array([1.0, 0.5, 0.25]))
    (array([ 0.  , 14.25]), array([8., 4., 2.]), array(2.))
    """
    operation = "poly_relu_backward"
    array = as_floats(operation, "x", x)
    slope = _rows.same_shape(operation, "dy", dy, array)
    coefficients = read_weight(operation, weight).tolist()
    dx, sums = np.empty(array.shape, array.dtype), np.zeros(len(coefficients) + 1)

    def kernel(x: NDArray[Any], dy: NDArray[Any], dx: NDArray[Any]) -> None:
        sums[:] += _native.poly_relu_backward(x, dy, coefficients, dx)

    reads = [_rows.with_rows_last(read, -1) for read in (array, slope)]
    _rows.run(kernel, reads, [_rows.with_rows_last(dx, -1)])
    return like(x, dx), *split_sums(x, sums, wide(array.dtype))


def read_weight(operation: str, weight: Any) -> NDArray[np.float64]:
    """Read the coefficients of a polynomial."""
    coefficients = widen(as_numpy(operation, "weight", weight))
    if coefficients.dtype.kind not in "fiu":
        message = f"{operation}: weight has dtype {coefficients.dtype}; use numbers"
        raise DTypeError(message)
    check_order(operation, coefficients.shape)
    return coefficients.astype(np.float64)


def check_order(operation: str, shape: tuple[int, ...]) -> None:
    """Raise ``ShapeError`` for a shape that coefficients cannot have."""
    if len(shape) != 1 or not 1 <= shape[0] <= 5:
        message = f"{operation}: weight has shape {shape}; use (r,), 1 to 5 coefficients"
        raise ShapeError(message)


def read_bias(operation: str, bias: Any) -> float:
    """Read the constant of a polynomial."""
    constant = widen(as_numpy(operation, "bias", bias))
    if constant.dtype.kind not in "fiu" or constant.size != 1:
        got = f"{constant.dtype} of shape {constant.shape}"
        message = f"{operation}: bias is {got}; use one number"
        raise ShapeError(message)
    return float(constant.reshape(()))


def split_sums(x: Any, sums: NDArray[np.float64], dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Give the gradients of the coefficients and of the constant as the kind of ``x``."""
    rounded = sums.astype(dtype)
    return like(x, rounded[:-1].copy()), like(x, np.array(rounded[-1]))
