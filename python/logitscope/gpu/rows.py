"""Operations on rows of arrays on a GPU."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from logitscope.errors import ArgumentError, DeviceError, DTypeError, ShapeError
from logitscope.gpu.array import GpuArray
from logitscope.ops import _rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logitscope import _native


def run(
    operation: str,
    inputs: Mapping[str, Any],
    axis: int,
    *,
    out: Any = None,
    temperature: float = 1.0,
    empty: str = "nan",
) -> GpuArray:
    """Apply an operation to the rows along an axis of named arrays of one shape; the result has that shape."""
    if out is not None:
        message = f"{operation}: out is given with a GpuArray; use the array that comes back"
        raise ArgumentError(message)
    first = checked(operation, inputs)
    axis = _rows.axis_of(operation, first, axis)
    tensors = [rows_last(value, axis) for value in inputs.values()]
    answer = call(operation, first, tensors, axis, temperature, empty)
    return GpuArray.of(rows_back(answer, first, axis), first, first.shape)


def logsumexp(x: GpuArray, axis: int, *, keepdims: bool) -> GpuArray:
    """Logsumexp along an axis."""
    axis = _rows.axis_of("logsumexp", x, axis)
    answer = call("logsumexp", x, [rows_last(x, axis)], axis)
    shape = list(x.shape)
    if shape:
        shape[axis : axis + 1] = [1] if keepdims else []
    return GpuArray.of(answer, x, shape)


def logsumexp_backward(x: GpuArray, dlse: Any, axis: int) -> GpuArray:
    """Gradient of logsumexp; it is computed from x alone."""
    operation = "logsumexp_backward"
    axis = _rows.axis_of(operation, x, axis)
    without = x.shape[:axis] + x.shape[axis + 1 :]
    _same_kind(operation, "dlse", dlse, x)
    if dlse.shape not in (without, x.shape[:axis] + (1,) * bool(x.ndim) + x.shape[axis + 1 :]):
        message = f"{operation}: dlse has shape {dlse.shape}; use {without}"
        raise ShapeError(message)
    answer = call(operation, x, [rows_last(x, axis), dlse.tensor], axis)
    return GpuArray.of(rows_back(answer, x, axis), x, x.shape)


def checked(operation: str, inputs: Mapping[str, Any]) -> GpuArray:
    """Return the first of named arrays of one shape, dtype and device."""
    (_, first), *others = inputs.items()
    for name, other in others:
        _same_kind(operation, name, other, first)
        if other.shape != first.shape:
            message = f"{operation}: {name} has shape {other.shape}; use {first.shape}"
            raise ShapeError(message)
    array: GpuArray = first
    return array


def call(
    operation: str,
    x: GpuArray,
    tensors: list[_native.GpuTensor],
    axis: int,
    temperature: float = 1.0,
    empty: str = "nan",
) -> _native.GpuTensor:
    """Apply an operation to tensors whose rows are those of x along an axis."""
    columns = x.shape[axis] if x.shape else 1
    return x.device.native.rows(operation, tensors, columns, float(temperature), empty)


def rows_last(x: GpuArray, axis: int) -> _native.GpuTensor:
    """Return the numbers of x with an axis last."""
    outer, columns, inner = _split(x, axis)
    return x.tensor if inner == 1 else x.device.native.transpose(x.tensor, (outer, columns, inner))


def rows_back(tensor: _native.GpuTensor, x: GpuArray, axis: int) -> _native.GpuTensor:
    """Return numbers that have an axis of x last, in the order of x."""
    outer, columns, inner = _split(x, axis)
    return tensor if inner == 1 else x.device.native.transpose(tensor, (outer, inner, columns))


def _split(x: GpuArray, axis: int) -> tuple[int, int, int]:
    if not x.shape:
        return 1, 1, 1
    return prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1 :])


def _same_kind(operation: str, name: str, value: Any, x: GpuArray) -> None:
    if not isinstance(value, GpuArray) or value.device is not x.device:
        where = repr(value.device) if isinstance(value, GpuArray) else f"a {type(value).__name__}"
        message = f"{operation}: {name} is {where}; use a GpuArray on {x.device!r}"
        raise DeviceError(message)
    if value.dtype != x.dtype:
        message = f"{operation}: {name} has dtype {value.dtype}; use {x.dtype}"
        raise DTypeError(message)
