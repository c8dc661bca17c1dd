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


def topk_softmax(x: Any, k: int, axis: int = -1, *, return_indices: bool = False) -> Any:
    """Softmax over the ``k`` largest elements along an axis, 0 elsewhere: the gates of mixtures of experts.

    Parameters
    ----------
    x
        Logits of any shape, NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16, any strides.
    k
        How many are selected, 1 to the length of the axis.
    axis
        The axis they are selected from.
    return_indices
        Give the selected alone, as ``(indices, weights)``.

    Returns
    -------
    weights or (indices, weights)
        Weights of the kind, shape and dtype of ``x``. Or where the selected stand, largest first, and their
        weights: with ``k`` in place of the length of ``axis``; indices are int64, as gather and scatter want them.

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
    >>> x = np.array([0.0, 2.0, -1.0, 2.0])
    >>> logitscope.topk_softmax(x, 2)
    array([0. , 0.5, 0. , 0.5])
    >>> logitscope.topk_softmax(x, 2, return_indices=True)
    (array([1, 3]), array([0.5, 0.5]))
    """
    operation = "topk_softmax"
    if needs_autograd(x):
        from logitscope.nn.functional import topk_softmax as differentiable

        return differentiable(x, k, axis, return_indices=return_indices)
    array = as_floats(operation, "x", x)
    axis = _rows.axis_of(operation, array, axis)
    rows = _rows.with_rows_last(array, axis)
    count = operator.index(k)
    if not 1 <= count <= rows.shape[-1]:
        message = f"{operation}: k is {count}; use 1..{rows.shape[-1]}"
        raise ArgumentError(message)
    if not return_indices:
        y = np.empty(array.shape, array.dtype)
        _rows.run(_native.topk_softmax_dense, [rows], [_rows.with_rows_last(y, axis)], count)
        return like(x, y)
    shape = array.shape[:axis] + (count,) * bool(array.ndim) + array.shape[axis + 1 :]
    weights, indices = np.empty(shape, array.dtype), np.empty(shape, np.int64)
    fills = [_rows.with_rows_last(weights, axis), _rows.with_rows_last(indices, axis)]
    _rows.run(_native.topk_softmax, [rows], fills, count)
    return like(x, indices), like(x, weights)


def topk_softmax_backward(
    weights: Any, dweights: Any, axis: int = -1, *, indices: Any = None, size: int | None = None
) -> Any:
    """Gradient of :func:`topk_softmax`: ``weights * (dweights - sum(weights * dweights))``, 0 outside the selection.

    Parameters
    ----------
    weights
        What :func:`topk_softmax` returned, in either form.
    dweights
        Gradient of the weights; their shape and dtype.
    axis
        As it was given to :func:`topk_softmax`.
    indices, size
        With the weights of the selected alone: where these stand, and the length of the axis of ``x``.

    Returns
    -------
    array
        Gradient of the logits in the shape of ``x``, of the kind of ``weights``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, numpy.exceptions.AxisError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> x, dweights = np.array([0.0, 2.0, -1.0, 2.0]), np.array([9.0, 1.0, 9.0, 0.0])
    >>> logitscope.topk_softmax_backward(logitscope.topk_softmax(x, 2), dweights)
    array([ 0.  ,  0.25,  0.  , -0.25])
    >>> indices, weights = logitscope.topk_softmax(x, 2, return_indices=True)
    >>> logitscope.topk_softmax_backward(weights, dweights[indices], indices=indices, size=4)
    array([ 0.  ,  0.25,  0.  , -0.25])
    """
    operation = "topk_softmax_backward"
    array = as_floats(operation, "weights", weights)
    upstream = _rows.same_shape(operation, "dweights", dweights, array)
    axis = _rows.axis_of(operation, array, axis)
    selected = softmax_backward(array, upstream, axis)
    if indices is None:
        return like(weights, selected)
    places = as_numpy(operation, "indices", indices)
    if places.shape != array.shape:
        message = f"{operation}: indices has shape {places.shape}; use {array.shape}"
        raise ShapeError(message)
    if places.dtype.kind not in "iu":
        message = f"{operation}: indices has dtype {places.dtype}; use int64"
        raise DTypeError(message)
    if size is None:
        message = f"{operation}: size is None; use the length of the axis of x, with indices"
        raise ArgumentError(message)
    length = operator.index(size)
    if places.size and not 0 <= places.min() <= places.max() < length:
        message = f"{operation}: indices reach from {places.min()} to {places.max()}; use 0..{length - 1}"
        raise ArgumentError(message)
    if array.ndim == 0:
        return like(weights, selected)
    dx = np.zeros((*array.shape[:axis], length, *array.shape[axis + 1 :]), array.dtype)
    np.put_along_axis(dx, places, selected, axis)
    return like(weights, dx)
