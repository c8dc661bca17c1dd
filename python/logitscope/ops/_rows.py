"""What the row operations share: which axis, where results go, and the way of rows to the kernels.

The kernels take rows that lie one after the other. Arrays that do are passed on as they are; others go
through blocks of about ``BLOCK_BYTES``, so a strided or transposed array is not copied as a whole.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope._arrays import as_floats, as_numpy, is_gpu, is_tensor, like
from logitscope._dtypes import name_of
from logitscope.errors import ArgumentError, DTypeError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

BLOCK_BYTES = 1 << 20


def axis_of(operation: str, array: Any, axis: int) -> int:
    """``axis`` counted from the front; an array without axes counts as one of shape (1,).

    Raises
    ------
    numpy.exceptions.AxisError
        When there is no such axis.
    ShapeError
        When the axis has no elements.
    """
    index, rank = operator.index(axis), max(int(array.ndim), 1)
    if not -rank <= index < rank:
        use = f"use {-rank}..{rank - 1}"
        message = f"{operation}: axis {index} is out of range for shape {array.shape}; {use}"
        raise np.exceptions.AxisError(message)
    if array.ndim and array.shape[index] == 0:
        message = f"{operation}: axis {index} of shape {array.shape} has no elements; use at least one"
        raise ShapeError(message)
    return index % rank


def with_rows_last(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """View an array so that ``axis`` is the last of at least two."""
    view = np.moveaxis(np.atleast_1d(array), axis, -1)
    return view if view.ndim > 1 else view[None]


def without_axis(x: Any, array: NDArray[Any], axis: int, numbers: NDArray[Any], *, keepdims: bool) -> Any:
    """One number a row of ``array``, of the kind of ``x`` and its shape without ``axis``."""
    shape = list(array.shape)
    if shape:
        shape[axis : axis + 1] = [1] if keepdims else []
    result = numbers.reshape(shape)
    result = like(x, result)
    return result[()] if result.ndim == 0 and not keepdims and not is_tensor(x) else result


def same_shape(operation: str, name: str, value: Any, array: NDArray[Any]) -> NDArray[Any]:
    """Read ``value`` as an array of the shape and element type of ``array``."""
    other = as_floats(operation, name, value)
    if other.shape != array.shape:
        message = f"{operation}: {name} has shape {other.shape}; use {array.shape}"
        raise ShapeError(message)
    if other.dtype != array.dtype:
        message = f"{operation}: {name} has dtype {name_of(other.dtype)}; use {name_of(array.dtype)}"
        raise DTypeError(message)
    return other


def output(operation: str, x: Any, array: NDArray[Any], out: Any) -> tuple[Any, NDArray[Any]]:
    """Return the array for the result, ``out`` or a new one like ``x``, and the same as NumPy sees it.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        When ``out`` cannot take the result.
    """
    if out is None:
        new = np.empty(array.shape, array.dtype)
        return like(x, new), new
    if not (isinstance(out, np.ndarray) or is_tensor(out)):
        message = f"{operation}: out is a {type(out).__name__}; use a NumPy array or a torch tensor"
        raise DTypeError(message)
    target = as_numpy(operation, "out", out)
    if target.shape != array.shape:
        message = f"{operation}: out has shape {target.shape}; use {array.shape}"
        raise ShapeError(message)
    if target.dtype != array.dtype:
        message = f"{operation}: out has dtype {name_of(target.dtype)}; use {name_of(array.dtype)}"
        raise DTypeError(message)
    if not target.flags.writeable:
        message = f"{operation}: out is read-only; use an array that can be written"
        raise ArgumentError(message)
    if overlap(target, array) and not is_same_memory(target, array):
        message = f"{operation}: out overlaps x in part; use x itself or memory apart from it"
        raise ArgumentError(message)
    return out, target


def check_no_out(operation: str, out: Any) -> None:
    """Raise if there is an array for the result of an operation that records gradients."""
    if out is not None:
        message = f"{operation}: out is given but x requires a gradient; use x.detach() or no out"
        raise ArgumentError(message)


def is_same_memory(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays of one shape are the same elements in the same order."""
    return a.ctypes.data == b.ctypes.data and a.strides == b.strides


def overlap(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays share an element."""
    return np.may_share_memory(a, b) and np.shares_memory(a, b)


def forward(operation: str, kernel: Callable[..., None], x: Any, axis: int, out: Any, *options: Any) -> Any:
    """Apply a kernel to the rows of ``x`` along an axis; the result has the shape of ``x``."""
    if is_gpu(x):
        return on_gpu(operation, {"x": x}, axis, out=out)
    array = as_floats(operation, "x", x)
    axis = axis_of(operation, array, axis)
    result, target = output(operation, x, array, out)
    run(kernel, [with_rows_last(array, axis)], [with_rows_last(target, axis)], *options)
    return result


def backward(
    operation: str, kernel: Callable[..., None], inputs: dict[str, Any], axis: int, *options: Any
) -> Any:
    """Apply the gradient of a kernel to the rows of named arrays of one shape; the result is like the first."""
    (name, first), *others = inputs.items()
    if is_gpu(first):
        return on_gpu(operation, inputs, axis)
    array = as_floats(operation, name, first)
    reads = [array, *(same_shape(operation, other, value, array) for other, value in others)]
    axis = axis_of(operation, array, axis)
    dx = np.empty(array.shape, array.dtype)
    run(kernel, [with_rows_last(read, axis) for read in reads], [with_rows_last(dx, axis)], *options)
    return like(first, dx)


def on_gpu(operation: str, inputs: Mapping[str, Any], axis: int, **options: Any) -> Any:
    """Apply an operation to the rows of named arrays on a GPU; the result is on it, too."""
    from logitscope.gpu import rows

    return rows.run(operation, inputs, axis, **options)


def run(
    kernel: Callable[..., None], reads: Sequence[NDArray[Any]], fills: Sequence[NDArray[Any]], *options: Any
) -> None:
    """Call ``kernel(*reads, *options, *fills)``, if need be in blocks of the longest axis that all share."""
    first = reads[0]
    contiguous = all(array.flags.c_contiguous for array in (*reads, *fills))
    if contiguous and not any(overlap(array, fill) for array in reads for fill in fills):
        kernel(*reads, *options, *fills)
        return
    longest = int(np.argmax(first.shape[:-1]))
    rows = first.shape[longest]
    step = max(1, BLOCK_BYTES * rows // max(1, first.nbytes))
    for start in range(0, rows, step):
        part = (slice(None),) * longest + (slice(start, start + step),)
        block = [np.ascontiguousarray(array[part]) for array in reads]
        filled = [np.empty(array[part].shape, array.dtype) for array in fills]
        kernel(*block, *options, *filled)
        for array, values in zip(fills, filled, strict=True):
            array[part] = values
