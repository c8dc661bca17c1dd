"""Softmax collapse: rows whose sum of exponentials rounds to 1, so that their loss teaches nothing.

Prieto, Barsbey, Mediano and Birdal, "Grokking at the Edge of Numerical Stability", ICLR 2025, arXiv 2501.04697.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from logitscope._arrays import as_floats, as_numpy, like
from logitscope._dtypes import BFLOAT16, name_of, narrow, widen
from logitscope.errors import ArgumentError, DTypeError, ShapeError, TargetError
from logitscope.ops.logsumexp import logsumexp

if TYPE_CHECKING:
    from numpy.typing import NDArray

Accumulator = Literal["float64", "float32", "float16", "bfloat16"]


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxCollapse:
    """What :func:`softmax_collapse` finds; fractions are of the rows that are not ignored."""

    frac_sc: float
    """Rows whose sum is exactly 1 and whose largest logit is the target's."""
    frac_zero_loss: float
    """Rows whose loss, in the textbook form, is exactly 0."""
    frac_zero_target_grad: float
    """Rows whose target has the probability 1, and so a gradient of exactly 0."""
    per_sample: Any
    """Shape of the rows, bool: which rows are those of ``frac_sc``."""
    margin: Any
    """Shape of the rows, float64: the target's logit less the logsumexp of the others; NaN where ignored."""


def softmax_collapse(
    logits: Any, targets: Any = None, accum_dtype: Accumulator = "float32", *, ignore_index: int = -100
) -> SoftmaxCollapse:
    """Find the rows in which a softmax of some precision loses all classes but the target's.

    Parameters
    ----------
    logits
        (..., V), NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16.
    targets
        (...), integers; by default each row's largest logit.
    accum_dtype
        The precision in which the loss under study adds up: "float64", "float32", "float16" or "bfloat16". Sums of
        the latter two are kept in float32 and rounded once, as CPU and GPU kernels do.
    ignore_index
        Rows with this target do not count.

    Returns
    -------
    SoftmaxCollapse
        NaN fractions, with a ``RuntimeWarning``, if no row counts.

    Raises
    ------
    DTypeError, ShapeError, TargetError, ArgumentError, DeviceError
        Naming the argument, what came and what would work.

    Notes
    -----
    A sum ``S = sum(exp(z - max))`` is 1 when all other terms together are at most half the distance from 1 to the
    next number: a margin of 36.7 in float64, 16.6 in float32, 7.6 in float16 and 5.5 in bfloat16. Then the loss
    ``log S - (z - max)`` is exactly 0 and so is the target's gradient. :func:`logitscope.loss.cross_entropy` in its
    default, complement form does not collapse: this tells about the other ones. A row with NaN or ``inf`` has a
    loss of NaN and is not collapsed.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.dynamics import softmax_collapse
    >>> logits = np.array([[40.0, 0.0, 0.0], [9.0, 0.0, 0.0]], np.float32)
    >>> softmax_collapse(logits, np.array([0, 0])).per_sample
    array([ True, False])
    >>> softmax_collapse(logits, np.array([0, 0]), "float16").frac_sc
    1.0
    """
    rows, classes = checked_rows("softmax_collapse", logits, targets, ignore_index)
    if accum_dtype not in get_args(Accumulator):
        message = f"softmax_collapse: accum_dtype is {accum_dtype!r}; use {', '.join(get_args(Accumulator))}"
        raise ArgumentError(message)
    counted = classes != ignore_index
    chosen = np.where(counted, classes, 0)[:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        below = rows - rows.max(1, keepdims=True)
        terms = np.exp(below)
        total = _rounded(_sum(terms, accum_dtype), accum_dtype)
        target = np.take_along_axis(below, chosen, 1)[:, 0]
        loss = _rounded(np.log(total) - target, accum_dtype)
        probability = _rounded(np.exp(target) / total, accum_dtype)
    collapsed = counted & (total == 1) & (target == 0)
    shape = np.shape(logits)[:-1]
    return SoftmaxCollapse(
        _fraction(collapsed, counted),
        _fraction(loss == 0, counted),
        _fraction(probability == 1, counted),
        like(logits, collapsed.reshape(shape)),
        like(logits, np.where(counted, margins(rows, chosen), np.nan).reshape(shape)),
    )


def checked_rows(
    operation: str, logits: Any, targets: Any, ignore_index: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits as rows of float64 and the class of each, checked; the largest logit's where none are given."""
    array = as_floats(operation, "logits", logits)
    if array.ndim < 1 or not array.shape[-1]:
        message = f"{operation}: logits has shape {array.shape}; use (..., V) with one class or more"
        raise ShapeError(message)
    rows = widen(array).reshape(-1, array.shape[-1]).astype(np.float64)
    if targets is None:
        return rows, rows.argmax(1)
    classes = as_numpy(operation, "targets", targets)
    if classes.dtype.kind not in "iu":
        message = f"{operation}: targets has dtype {name_of(classes.dtype)}; use integers"
        raise DTypeError(message)
    if classes.shape != array.shape[:-1]:
        message = f"{operation}: targets has shape {classes.shape}; use {array.shape[:-1]}"
        raise ShapeError(message)
    classes = classes.reshape(-1).astype(np.int64)
    wrong = ((classes < 0) | (classes >= rows.shape[1])) & (classes != ignore_index)
    if wrong.any():
        row = int(wrong.argmax())
        message = f"{operation}: target {classes[row]} in row {row} is no class; use 0..{rows.shape[1] - 1}"
        raise TargetError(message)
    return rows, classes


def margins(rows: NDArray[np.float64], chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """The chosen (N, 1) logit of each row less the logsumexp of the others."""
    others = rows.copy()
    np.put_along_axis(others, chosen, -np.inf, 1)
    with np.errstate(invalid="ignore"):
        difference: NDArray[np.float64] = np.take_along_axis(rows, chosen, 1)[:, 0] - logsumexp(others)
    return difference


def _sum(terms: NDArray[np.float64], accumulator: Accumulator) -> NDArray[Any]:
    wide = np.float64 if accumulator == "float64" else np.float32
    total: NDArray[Any] = terms.astype(wide).sum(1)
    return total


def _rounded(numbers: NDArray[Any], accumulator: Accumulator) -> NDArray[Any]:
    """To the precision of the accumulator, in a type that NumPy computes with."""
    return widen(narrow(numbers, BFLOAT16 if accumulator == "bfloat16" else np.dtype(accumulator)))


def _fraction(hits: NDArray[np.bool_], counted: NDArray[np.bool_]) -> float:
    if counted.any():
        return float(hits[counted].mean())
    warnings.warn("softmax_collapse: no row counts, all are ignored", RuntimeWarning, stacklevel=3)
    return float("nan")
