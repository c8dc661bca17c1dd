"""The arguments of a linear layer and its loss in one, checked and as the compiled module takes them."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from logitscope._arrays import as_floats, as_numpy, same_dtype
from logitscope._dtypes import BFLOAT16, name_of, widen
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.ops._loss_problem import (
    Options,
    class_indices,
    class_weight,
    masses_of,
    native_options,
    normalizer_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitscope import _native

Mode = Literal["auto", "plain", "chunked", "recompute"]

CHUNK = 256
"""Rows of logits in memory at most: so many that reading the weight costs little beside the products."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How a loss is computed, whatever it is."""

    mode: str = "auto"
    num_chunks: int | None = None
    filter_eps: float | None = None
    shift: int = 0

    def chunk(self, operation: str, rows: int, classes: int, columns: int) -> int | None:
        """Give the number of rows whose logits are in memory at a time; None for tiles."""
        if self.mode not in get_args(Mode):
            known = ", ".join(f"'{mode}'" for mode in get_args(Mode))
            message = f"{operation}: mode is {self.mode!r}; use {known}"
            raise ArgumentError(message)
        if self.num_chunks is not None:
            if self.mode in ("plain", "recompute"):
                message = (
                    f"{operation}: num_chunks is {self.num_chunks} in mode '{self.mode}'; use mode 'chunked'"
                )
                raise ArgumentError(message)
            if operator.index(self.num_chunks) < 1:
                message = f"{operation}: num_chunks is {self.num_chunks}; use an integer above 0"
                raise ArgumentError(message)
        if self.mode == "recompute":
            return None
        few = self.mode == "auto" and self.num_chunks is None and (rows < columns or classes <= columns)
        if self.mode == "plain" or few:
            return max(rows, 1)
        count = self.num_chunks or -(-rows // CHUNK)
        return max(-(-rows // max(count, 1)), 1)

    def check_shift(self, operation: str, rows: tuple[int, ...]) -> int:
        """Give the shift, which rows of this shape must allow."""
        shift = operator.index(self.shift)
        if shift and not rows:
            message = f"{operation}: shift is {shift} for an input without an axis of time; use (..., T, d)"
            raise ShapeError(message)
        if not 0 <= shift <= (rows[-1] if rows else 0):
            message = f"{operation}: shift is {shift}; use an integer in 0..{rows[-1]}"
            raise ArgumentError(message)
        return shift


class LinearProblem(NamedTuple):
    """Checked arguments: N rows, V classes, d columns."""

    operation: str
    dtype: np.dtype[Any]
    """Of the gradients; losses, and what is one number a class, are computed with."""
    input: NDArray[Any]  # (N, d)
    weight: NDArray[Any]  # (V, d)
    bias: NDArray[Any] | None  # (V,)
    targets: NDArray[Any]  # (N,) or (N, V)
    class_weight: NDArray[Any] | None  # (V,)
    options: _native.LossOptions
    filter_eps: float | None
    chunk: int | None
    shape: tuple[int, ...]
    """Of the rows."""
    shift: int
    reduction: str

    @classmethod
    def of(
        cls, operation: str, input: Any, weight: Any, targets: Any, bias: Any, options: Options, plan: Plan
    ) -> LinearProblem:
        rows, matrix = as_floats(operation, "input", input), as_floats(operation, "weight", weight)
        if rows.ndim == 0 or matrix.ndim != 2 or matrix.shape[1] != rows.shape[-1] or matrix.shape[0] == 0:
            message = (
                f"{operation}: input has shape {rows.shape}, weight {matrix.shape}; use (..., d) and (classes, d), "
                "at least one class"
            )
            raise ShapeError(message)
        named = [("input", rows), ("weight", matrix)]
        offsets = None
        if bias is not None:
            offsets = as_floats(operation, "bias", bias)
            if offsets.shape != matrix.shape[:1]:
                message = f"{operation}: bias has shape {offsets.shape}; use {matrix.shape[:1]}, one a class"
                raise ShapeError(message)
            named.append(("bias", offsets))
        dtype, shape = same_dtype(operation, named), rows.shape[:-1]
        shift = plan.check_shift(operation, shape)
        # Stands for logits, which nobody makes.
        no_logits = np.broadcast_to(np.zeros((), dtype), (*shape, len(matrix)))
        wanted = as_numpy(operation, "targets", targets)
        if wanted.dtype.kind == "f" or wanted.dtype == BFLOAT16:
            if shift:
                message = f"{operation}: shift is {shift} with soft targets; shift them, or use classes"
                raise ArgumentError(message)
            wanted = masses_of(operation, wanted, no_logits, options)
        elif wanted.dtype.kind not in "iu":
            use = f"integers, or {name_of(dtype)} for soft targets"
            message = f"{operation}: targets has dtype {wanted.dtype}; use {use}"
            raise DTypeError(message)
        else:
            wanted = class_indices(operation, wanted, shape)
            wanted = shifted(wanted, shift, operator.index(options.ignore_index))
        factors = None
        if options.weight is not None:
            factors = class_weight(operation, options.weight, no_logits, "class_weight")
        kept = (*shape[:-1], shape[-1] - shift) if shape else ()
        normalizer = normalizer_of(operation, options.normalizer, kept)
        native = native_options(operation, options, kept)
        if isinstance(normalizer, np.ndarray):
            native["normalizer"] = padded(normalizer, shift, 1.0)
        count = int(np.prod(shape))
        return cls(
            operation=operation,
            dtype=dtype,
            input=_row_major(rows.reshape(count, rows.shape[-1])),
            weight=_row_major(matrix),
            bias=None if offsets is None else np.ascontiguousarray(widen(offsets)),
            targets=np.ascontiguousarray(wanted),
            class_weight=factors,
            options=native,
            filter_eps=None if plan.filter_eps is None else float(plan.filter_eps),
            chunk=plan.chunk(operation, count, *matrix.shape),
            shape=shape,
            shift=shift,
            reduction=options.reduction,
        )

    def kept(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Shape what is one number a row, without the rows that the shift leaves without a target."""
        shaped = rows.reshape(self.shape)
        return shaped[..., : self.shape[-1] - self.shift] if self.shift else shaped


def shifted(targets: NDArray[Any], shift: int, ignore_index: int) -> NDArray[Any]:
    """Move the targets of later positions to earlier rows."""
    return padded(targets[..., shift:], shift, ignore_index) if shift else targets


def padded(rows: NDArray[Any], shift: int, value: float) -> NDArray[Any]:
    """Add rows at the end of the last axis."""
    return np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, shift)], constant_values=value) if shift else rows


def _row_major(matrix: NDArray[Any]) -> NDArray[Any]:
    """Return the matrix itself if its rows are contiguous."""
    size = matrix.itemsize
    contiguous = matrix.shape[1] <= 1 or matrix.strides[1] == size
    readable = contiguous and all(stride >= 0 and stride % size == 0 for stride in matrix.strides)
    return matrix if readable else np.ascontiguousarray(matrix)
