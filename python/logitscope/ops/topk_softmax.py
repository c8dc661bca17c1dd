"""Softmax over the k largest elements along an axis, and its gradient."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from logitscope import _native
from logitscope._arrays import as_floats, as_numpy, like, needs_autograd
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.ops import _rows
from logitscope.ops.softmax import softmax_backward


def topk_softmax(x: Any, k: int, axis: int = -1) -> tuple[Any, Any]:
    """Softmax over the ``k`` largest elements along an axis, as the gates of mixtures of experts compute it.

    Parameters
    ----------
    x
        Logits of any shape, NumPy array or torch CPU tensor of float32 or float64, any strides.
    k
        How many are selected, 1 to the length of the axis.
    axis
        The axis they are selected from.

    Returns
    -------
    weights, indices
        Shape of ``x`` with ``k`` in place of the length of ``axis``; largest first. Weights of the kind and dtype of
        ``x``, indices int64.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Notes
    -----
    Of equal elements the first is taken. ``inf`` entries share the weight equally. Where all selected are ``-inf``
    the weights are 0. A NaN makes the weights of its row NaN and its indices those of the first ``k``.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> weights, indices = logitscope.topk_softmax(np.array([0.0, 2.0, -1.0, 2.0]), 2)
    >>> weights, indices
    (array([0.5, 0.5]), array([1, 3]))
    """
    operation = "topk_softmax"
    if needs_autograd(x):
        from logitscope.nn.functional import topk_softmax as differentiable

        return differentiable(x, k, axis)
    array = as_floats(operation, "x", x)
    axis = _rows.axis_of(operation, array, axis)
    rows = _rows.with_rows_last(array, axis)
    count = operator.index(k)
    if not 1 <= count <= rows.shape[-1]:
        message = f"{operation}: k is {count}; use 1..{rows.shape[-1]}"
        raise ArgumentError(message)
    shape = array.shape[:axis] + (count,) * bool(array.ndim) + array.shape[axis + 1 :]
    weights, indices = np.empty(shape, array.dtype), np.empty(shape, np.int64)
    fills = [_rows.with_rows_last(weights, axis), _rows.with_rows_last(indices, axis)]
    _rows.run(_native.topk_softmax, [rows], fills, count)
    return like(x, weights), like(x, indices)


def topk_softmax_backward(weights: Any, indices: Any, dweights: Any, size: int, axis: int = -1) -> Any:
    """Gradient of :func:`topk_softmax`: ``weights * (dweights - sum(weights * dweights))``, 0 outside the selection.

    Parameters
    ----------
    weights, indices
        What :func:`topk_softmax` returned.
    dweights
        Gradient of the weights; their shape and dtype.
    size
        Length of the axis of ``x``.
    axis
        As it was given to :func:`topk_softmax`.

    Returns
    -------
    array
        Gradient of the logits, of the kind of ``weights``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> weights, indices = logitscope.topk_softmax(np.array([0.0, 2.0, -1.0, 2.0]), 2)
    >>> logitscope.topk_softmax_backward(weights, indices, np.array([1.0, 0.0]), 4)
    array([ 0.  ,  0.25,  0.  , -0.25])
    """
    operation = "topk_softmax_backward"
    array = as_floats(operation, "weights", weights)
    upstream = _rows.same_shape(operation, "dweights", dweights, array)
    axis = _rows.axis_of(operation, array, axis)
    places = as_numpy(operation, "indices", indices)
    if places.shape != array.shape:
        message = f"{operation}: indices has shape {places.shape}; use {array.shape}"
        raise ShapeError(message)
    if places.dtype.kind not in "iu":
        message = f"{operation}: indices has dtype {places.dtype}; use int64"
        raise DTypeError(message)
    length = operator.index(size)
    if places.size and not 0 <= places.min() <= places.max() < length:
        message = f"{operation}: indices reach from {places.min()} to {places.max()}; use 0..{length - 1}"
        raise ArgumentError(message)
    if array.ndim == 0:
        return like(weights, softmax_backward(array, upstream))
    dx = np.zeros((*array.shape[:axis], length, *array.shape[axis + 1 :]), array.dtype)
    np.put_along_axis(dx, places, softmax_backward(array, upstream, axis), axis)
    return like(weights, dx)
