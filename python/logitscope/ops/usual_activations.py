"""The usual activations on arrays, which the trainable ones are compared with: NumPy, no kernels of their own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from logitscope._arrays import as_floats, like
from logitscope._dtypes import narrow, widen
from logitscope.errors import ShapeError

_ERF = np.frompyfunc(math.erf, 1, 1)


def relu2(x: Any) -> Any:
    """Square of ``max(x, 0)`` (So et al., arXiv 2109.08668).

    Parameters
    ----------
    x
        Any shape, NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16.

    Returns
    -------
    array
        Kind, shape and dtype of ``x``.

    Raises
    ------
    DTypeError, DeviceError
        For numbers of another type, and tensors elsewhere than on the CPU.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.activation import relu2
    >>> relu2(np.array([-2.0, 3.0]))
    array([0., 9.])
    """
    array = as_floats("relu2", "x", x)
    return like(x, narrow(np.asarray(np.square(np.maximum(widen(array), 0))), array.dtype))


def gelu(x: Any) -> Any:
    """``x`` times the normal distribution function of ``x`` (Hendrycks and Gimpel, arXiv 1606.08415), not approximated.

    Parameters
    ----------
    x
        Any shape, NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16.

    Returns
    -------
    array
        Kind, shape and dtype of ``x``.

    Raises
    ------
    DTypeError, DeviceError
        For numbers of another type, and tensors elsewhere than on the CPU.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.activation import gelu
    >>> gelu(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.1587,  0.    ,  0.8413])
    """
    array = as_floats("gelu", "x", x)
    numbers = widen(array)
    erf = np.asarray(_ERF(numbers / math.sqrt(2.0)), np.float64)
    result = np.asarray(0.5 * numbers * (1.0 + erf)).astype(numbers.dtype)
    return like(x, narrow(result, array.dtype))


def swiglu(x: Any) -> Any:
    """``silu(a) * b`` of the two halves of each row (Shazeer, arXiv 2002.05202).

    Parameters
    ----------
    x
        (..., 2 H), NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16.

    Returns
    -------
    array
        (..., H), kind and dtype of ``x``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError
        For rows of an odd length, numbers of another type, and tensors elsewhere than on the CPU.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.activation import swiglu
    >>> swiglu(np.array([[0.0, 20.0, 5.0, 2.0]])).round(4)
    array([[ 0., 40.]])
    """
    array = as_floats("swiglu", "x", x)
    if array.ndim < 1 or array.shape[-1] % 2:
        message = f"swiglu: x has shape {array.shape}; use rows of an even length"
        raise ShapeError(message)
    gate, value = np.split(widen(array), 2, axis=-1)
    with np.errstate(over="ignore"):
        return like(x, narrow(gate / (1.0 + np.exp(-gate)) * value, array.dtype))
