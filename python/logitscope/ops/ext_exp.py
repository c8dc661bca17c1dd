"""Exponentials as pairs (mantissa, exponent), which neither overflow nor vanish, and their sums."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope import _native
from logitscope._arrays import as_floats, like, same_dtype
from logitscope._dtypes import wide, widen
from logitscope.errors import ShapeError
from logitscope.ops import _rows
from logitscope.ops.logsumexp import logsumexp

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOWEST_SHIFT = -4096.0
"""2 to this power is 0 in float32 and in float64."""


def ext_exp(x: Any) -> tuple[Any, Any]:
    """Exponential of each element as a pair, ``exp(x) = mantissa * 2**exponent``.

    Dukhan and Ablavatski, "The Two-Pass Softmax Algorithm", arXiv 2001.04438.

    Parameters
    ----------
    x
        Any shape, NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16.

    Returns
    -------
    mantissa, exponent
        Kind, shape and dtype of ``x``, or float32: mantissas between 0.69 and 1.45, exponents whole numbers. As exact
        as the dtype for ``x`` of up to 1.8e5. ``-inf`` gives ``(0, -inf)``, the pair of 0; ``inf`` gives ``(inf, 0)``.

    Raises
    ------
    DTypeError, DeviceError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> mantissa, exponent = logitscope.ext_exp(np.array([0.0, 1000.0, -np.inf]))
    >>> mantissa.round(4), exponent
    (array([1.    , 0.8095, 0.    ]), array([   0., 1443.,  -inf]))
    """
    array = as_floats("ext_exp", "x", x)
    mantissa, exponent = (np.empty(array.shape, wide(array.dtype)) for _ in range(2))
    fills = [_rows.with_rows_last(fill, -1) for fill in (mantissa, exponent)]
    _rows.run(_native.ext_exp, [_rows.with_rows_last(array, -1)], fills)
    return like(x, mantissa), like(x, exponent)


def ext_add(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
    """Sum of pairs: both are brought to the larger exponent, by factors that are powers of two.

    The order of the two does not matter, ``(0, -inf)`` changes nothing, and the order of a longer sum matters for its
    rounding alone: sums of parts of a row may be put together as they come.

    Parameters
    ----------
    a, b
        (mantissa, exponent), NumPy arrays or torch CPU tensors of one dtype whose shapes broadcast.

    Returns
    -------
    mantissa, exponent
        Of the kind and dtype of the mantissa of ``a``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> logitscope.ext_add((np.array(1.5), np.array(1000.0)), (np.array(1.0), np.array(999.0)))
    (array(2.), array(1000.))
    """
    names = ("a[0]", "a[1]", "b[0]", "b[1]")
    given = [widen(as_floats("ext_add", name, one)) for name, one in zip(names, (*a, *b), strict=True)]
    dtype = same_dtype("ext_add", zip(names, given, strict=True))
    try:
        first, first_at, second, second_at = np.broadcast_arrays(*given)
    except ValueError:
        shapes = ", ".join(str(one.shape) for one in given)
        message = f"ext_add: the shapes {shapes} do not broadcast; use shapes that do"
        raise ShapeError(message) from None
    exponent = np.maximum(first_at, second_at)
    mantissa = _at(first, first_at, exponent) + _at(second, second_at, exponent)
    return like(a[0], np.asarray(mantissa, dtype)), like(a[0], np.asarray(exponent, dtype))


def _at(mantissa: NDArray[Any], own: NDArray[Any], exponent: NDArray[Any]) -> NDArray[Any]:
    """Bring mantissas to a larger exponent."""
    # Equal exponents may both be -inf; NaN is in the mantissa as well.
    shift = np.subtract(own, exponent, out=np.zeros_like(exponent), where=own < exponent)
    scaled: NDArray[Any] = np.ldexp(mantissa, np.maximum(shift, _LOWEST_SHIFT).astype(np.int32))
    return scaled


def ext_sum(x: Any, axis: int = -1, *, keepdims: bool = False) -> tuple[Any, Any]:
    """Sum of the exponentials along an axis as a pair, ``sum(exp(x)) = mantissa * 2**exponent``.

    Parameters
    ----------
    x
        Any shape, NumPy array or torch CPU tensor of float32 or float64, any strides.
    axis
        The axis that is summed over.
    keepdims
        Whether that axis stays, with length 1.

    Returns
    -------
    mantissa, exponent
        Kind and dtype of ``x``, without ``axis``; mantissas between 1 and 2.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> mantissa, exponent = logitscope.ext_sum(np.array([1000.0, 1000.0]))
    >>> print(f"{mantissa:.6f} * 2**{exponent:.0f}")
    1.618930 * 2**1443
    """
    pair: tuple[Any, Any] = logsumexp(x, axis, keepdims=keepdims, return_pair=True)
    return pair
