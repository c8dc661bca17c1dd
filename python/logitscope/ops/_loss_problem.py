"""What the losses over class logits share: their arguments, checked and as the compiled module takes them."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from logitscope._arrays import as_floats, as_numpy, is_tensor, like
from logitscope._dtypes import BFLOAT16, name_of, wide, widen
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.ops import _rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from logitscope import _native


@dataclass(frozen=True, slots=True, eq=False)
class Options:
    """The options of ``cross_entropy``, as users give them."""

    weight: Any = None
    ignore_index: int = -100
    label_smoothing: float = 0.0
    smooth_over: str = "all"
    reduction: str = "mean"
    normalizer: Any = None
    temperature: float = 1.0
    softcap: float | None = None
    lse_square_scale: float = 0.0
    entropy_weight: float = 0.0
    link: str = "ce"
    link_params: Mapping[str, float] = field(default_factory=dict)
    complement: bool = True
    empty: str = "nan"
    axis: int = -1


class Problem(NamedTuple):
    """Checked arguments, the classes in the last axis."""

    operation: str
    logits: NDArray[Any]
    targets: NDArray[Any]
    weight: NDArray[Any] | None
    options: _native.LossOptions

    @classmethod
    def of(cls, operation: str, logits: Any, targets: Any, options: Options) -> Problem:
        rows = class_rows(operation, logits, options.axis)
        wanted = as_numpy(operation, "targets", targets)
        if wanted.dtype.kind == "f" or wanted.dtype == BFLOAT16:
            wanted = masses_of(operation, wanted, rows, options)
        else:
            wanted = class_indices(operation, wanted, rows.shape[:-1])
        weight = None if options.weight is None else class_weight(operation, options.weight, rows)
        return cls(operation, rows, wanted, weight, native_options(operation, options, rows.shape[:-1]))

    def arguments(self) -> tuple[str, NDArray[Any], NDArray[Any], NDArray[Any] | None, _native.LossOptions]:
        """Give the compiled module logits of four axes, of which only the last must be contiguous."""
        return self.operation, four_axes(self.logits), self.targets, self.weight, self.options


def class_rows(operation: str, logits: Any, axis: int = -1) -> NDArray[Any]:
    """Read logits and put the axis of the classes last."""
    rows = as_floats(operation, "logits", logits)
    if rows.ndim == 0 or (-rows.ndim <= axis < rows.ndim and rows.shape[axis] == 0):
        message = f"{operation}: logits has shape {rows.shape}; use (..., classes), at least one class"
        raise ShapeError(message)
    return np.moveaxis(rows, _rows.axis_of(operation, rows, axis), -1)


def class_indices(operation: str, targets: Any, rows: tuple[int, ...]) -> NDArray[np.int64]:
    """Read the class of each row."""
    classes = as_numpy(operation, "targets", targets)
    if classes.dtype.kind not in "iu":
        message = f"{operation}: targets has dtype {classes.dtype}; use integers"
        raise DTypeError(message)
    if classes.shape != rows:
        message = f"{operation}: targets has shape {classes.shape}; use {rows}"
        raise ShapeError(message)
    if classes.dtype == np.uint64:
        # What int64 cannot hold is no class either; the largest int64 stands for all of it.
        classes = np.minimum(classes, np.uint64(np.iinfo(np.int64).max))
    return classes.astype(np.int64, order="C", copy=False)


def class_weight(operation: str, weight: Any, rows: NDArray[Any], name: str = "weight") -> NDArray[Any]:
    """Read one factor a class."""
    factors = widen(as_numpy(operation, name, weight))
    if factors.dtype.kind not in "fiu":
        message = f"{operation}: {name} has dtype {name_of(factors.dtype)}; use {name_of(rows.dtype)}"
        raise DTypeError(message)
    if factors.shape != rows.shape[-1:]:
        message = f"{operation}: {name} has shape {factors.shape}; use {rows.shape[-1:]}, one a class"
        raise ShapeError(message)
    return factors.astype(wide(rows.dtype), order="C", copy=False)


def four_axes(logits: NDArray[Any]) -> NDArray[Any]:
    """View logits with four axes, copied only if the last is not contiguous."""
    missing = 4 - logits.ndim
    logits = logits[(None,) * missing] if missing >= 0 else logits.reshape(-1, 1, 1, logits.shape[-1])
    size = logits.itemsize
    readable = all(stride >= 0 and stride % size == 0 for stride in logits.strides)
    if not (readable and (logits.shape[-1] == 1 or logits.strides[-1] == size)):
        logits = np.ascontiguousarray(logits)
    return logits


def reduced(logits: Any, value: float, dtype: np.dtype[Any]) -> Any:
    """Return a reduced loss as the kind that came in."""
    return like(logits, np.array(value, dtype)) if is_tensor(logits) else dtype.type(value)


def normalizer_of(operation: str, normalizer: Any, rows: tuple[int, ...]) -> Any:
    """Read the divisor of a mean: a number for the sum, or float64 numbers, one a row."""
    if normalizer is None:
        return None
    divisors = as_numpy(operation, "normalizer", normalizer)
    if divisors.dtype.kind not in "fiu":
        message = f"{operation}: normalizer has dtype {divisors.dtype}; use a number, or one a row"
        raise DTypeError(message)
    if divisors.shape not in ((), rows):
        message = f"{operation}: normalizer has shape {divisors.shape}; use () or {rows}, one a row"
        raise ShapeError(message)
    return float(divisors) if divisors.ndim == 0 else divisors.astype(np.float64, order="C", copy=False)


def masses_of(operation: str, masses: NDArray[Any], rows: NDArray[Any], options: Options) -> NDArray[Any]:
    """Read soft targets."""
    if options.ignore_index != -100:
        got = f"ignore_index is {options.ignore_index} with soft targets"
        message = f"{operation}: {got}; use a weight of 0 for what does not count, or targets of classes"
        raise ArgumentError(message)
    if masses.dtype != rows.dtype:
        message = (
            f"{operation}: targets has dtype {name_of(masses.dtype)}; use {name_of(rows.dtype)}, "
            "or integers for classes"
        )
        raise DTypeError(message)
    if masses.ndim == rows.ndim:
        masses = np.moveaxis(masses, options.axis, -1)
    if masses.shape != rows.shape:
        message = (
            f"{operation}: targets has shape {masses.shape}; use integers of shape {rows.shape[:-1]}, "
            f"or {rows.shape} for soft targets"
        )
        raise ShapeError(message)
    return np.ascontiguousarray(masses)


def native_options(operation: str, options: Options, rows: tuple[int, ...]) -> _native.LossOptions:
    """Give options as the compiled module takes them."""
    return {
        "ignore_index": operator.index(options.ignore_index),
        "reduction": options.reduction,
        "empty": options.empty,
        "temperature": float(options.temperature),
        "softcap": None if options.softcap is None else float(options.softcap),
        "label_smoothing": float(options.label_smoothing),
        "smooth_over": options.smooth_over,
        "lse_square_scale": float(options.lse_square_scale),
        "entropy_weight": float(options.entropy_weight),
        "normalizer": normalizer_of(operation, options.normalizer, rows),
        "link": options.link,
        "link_params": [(name, float(value)) for name, value in options.link_params.items()],
        "complement": bool(options.complement),
    }
