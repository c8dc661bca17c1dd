"""Statistics of logits and of their softmax in one read."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitscope import _native
from logitscope._arrays import as_floats
from logitscope._dtypes import wide
from logitscope.ops import _rows


class SoftmaxStats(NamedTuple):
    """What :func:`softmax_stats` returns: one number a row in each field, of the shape of ``x`` without the axis."""

    max: Any
    """The largest logit."""
    argmax: Any
    """Where it stands first, int64."""
    lse: Any
    """Logarithm of the sum of exponentials."""
    entropy: Any
    """Entropy of the softmax, in nats."""
    logit_mean: Any
    """Mean of the logits."""
    logit_std: Any
    """Standard deviation of the logits, as ``numpy.std``."""


def softmax_stats(x: Any, axis: int = -1) -> SoftmaxStats:
    """What logits look like and how sure their softmax would be, from one read and without the softmax.

    Parameters
    ----------
    x
        Logits of any shape, NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16, any strides.
    axis
        The axis that the softmax would sum over.

    Returns
    -------
    SoftmaxStats
        Of the kind and dtype of ``x`` (``argmax`` int64), without ``axis``; not differentiable.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Notes
    -----
    A NaN makes all numbers of its row NaN and is its ``argmax``. A row of ``-inf`` alone, or with ``inf``, has an
    entropy of NaN; infinities have their limits as mean and NaN as deviation.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> stats = logitscope.softmax_stats(np.array([[0.0, 0.0, 3.0, 1.0], [2.0, 2.0, 2.0, 2.0]]))
    >>> stats.argmax
    array([2, 0])
    >>> stats.entropy.round(4)
    array([0.6721, 1.3863])
    """
    array = as_floats("softmax_stats", "x", x)
    axis = _rows.axis_of("softmax_stats", array, axis)
    rows = _rows.with_rows_last(array, axis)
    number = wide(array.dtype)
    types = [number, np.dtype(np.int64), *[number] * 4]
    results = [np.empty(rows.shape[:-1], dtype) for dtype in types]
    _rows.run(_native.softmax_stats, [rows], results)
    return SoftmaxStats(*(_rows.without_axis(x, array, axis, numbers, keepdims=False) for numbers in results))
