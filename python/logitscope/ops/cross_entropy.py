"""Cross entropy of class logits against class indices, with its gradient and statistics in the same call."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from logitscope import _native
from logitscope._arrays import as_floats, as_numpy, is_tensor, like, needs_autograd
from logitscope.errors import DTypeError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitscope.ops.softmax import Empty

Reduction = Literal["mean", "sum", "none"]


@dataclass(frozen=True, slots=True, eq=False)
class LossStats:
    """Statistics of the rows of a loss; arrays of the shape of the targets, of the kind that came in."""

    lse: Any
    """Logarithm of the sum of the exponentials of a row's logits."""
    argmax: Any
    """The first class with the largest logit, int64; NaN is passed over."""
    v: Any
    """-log of the target's probability, the loss of the row; 0 where it is ignored."""


def cross_entropy(
    logits: Any,
    targets: Any,
    *,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_stats: bool = False,
    empty: Empty = "nan",
) -> Any:
    """Cross entropy of class logits, ``-log softmax(logits)[target]``, accurate down to the smallest float.

    Parameters
    ----------
    logits
        (..., V), NumPy array or torch CPU tensor of float32 or float64; the classes are the last axis.
    targets
        (...) integers of any type, in 0..V-1 or ``ignore_index``.
    ignore_index
        Rows with this target have no loss and a gradient of 0, whatever their logits hold.
    reduction
        ``"mean"`` over the rows that are not ignored, ``"sum"`` or ``"none"``.
    return_grad
        Also return the gradient of the loss (of the sum of the losses for ``"none"``) with respect to the
        logits. It is made in the same call.
    return_stats
        Also return a :class:`LossStats`.
    empty
        What the mean of no rows is: ``"nan"`` (as in torch) or ``"zero"``.

    Returns
    -------
    loss, (loss, gradient), (loss, stats) or (loss, gradient, stats)
        Of the kind and dtype of ``logits``; a mean or sum is a NumPy scalar or a tensor without axes.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError
        Naming the argument, what came and what would work.
    TargetError
        For a target that is neither a class nor ``ignore_index``, naming its row.

    Notes
    -----
    Complement form: with R the sum of ``exp(z_k - z_y)`` over the classes k other than the target y, the loss
    is ``log1p(R)`` and the gradient at the target ``-R / (1 + R)``. Where ``logsumexp(z) - z_y`` rounds to 0
    (in float32 for a margin above 17) they stay exact. A row with NaN or ``inf``, or of ``-inf`` alone, has a
    NaN loss and gradient; ``-inf`` at the target has the loss ``inf``.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.loss import cross_entropy
    >>> logits = np.array([[80.0, 0.0], [0.0, 0.0]], np.float32)
    >>> loss, gradient = cross_entropy(logits, np.array([0, 1]), reduction="sum", return_grad=True)
    >>> float(np.float32(np.log(2))) == float(loss)
    True
    >>> gradient
    array([[-1.8048513e-35,  1.8048513e-35],
           [ 5.0000000e-01, -5.0000000e-01]], dtype=float32)
    """
    if needs_autograd(logits) and not return_grad:
        loss = _differentiable(logits, targets, ignore_index, reduction, empty)
        if not return_stats:
            return loss
        detached = cross_entropy(
            logits.detach(), targets, ignore_index=ignore_index, reduction="none", return_stats=True
        )
        return loss, detached[1]
    problem = _Problem.of("cross_entropy", logits, targets, ignore_index)
    dtype = problem.logits.dtype
    rows = problem.targets.shape
    losses = np.empty(rows, dtype)
    gradient = np.empty(problem.logits.shape, dtype) if return_grad else None
    lse, argmax = (np.empty(rows, dtype), np.empty(rows, np.int64)) if return_stats else (None, None)
    reduced = _native.cross_entropy(*problem.rows(), reduction, empty, losses, gradient, None, lse, argmax)
    answer = [_reduced(logits, reduced, dtype) if reduction != "none" else like(logits, losses)]
    if gradient is not None:
        answer.append(like(logits, gradient))
    if lse is not None and argmax is not None:
        v = losses.copy() if reduction == "none" else losses
        answer.append(LossStats(lse=like(logits, lse), argmax=like(logits, argmax), v=like(logits, v)))
    return answer[0] if len(answer) == 1 else tuple(answer)


def cross_entropy_backward(
    dloss: Any,
    logits: Any,
    targets: Any,
    *,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Any:
    """Gradient of :func:`cross_entropy` with respect to the logits.

    For ``"mean"`` and ``"sum"`` the gradient that :func:`cross_entropy` returns, times ``dloss``, is the same
    and cheaper; with ``"none"`` each row needs its own factor.

    Parameters
    ----------
    dloss
        Gradient of the loss: a number, or for ``"none"`` an array of the shape of the targets.
    logits, targets, ignore_index, reduction
        As they were given to :func:`cross_entropy`.

    Returns
    -------
    array
        Kind, shape and dtype of ``logits``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, TargetError
        As :func:`cross_entropy`, and when ``dloss`` does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.loss import cross_entropy_backward
    >>> cross_entropy_backward(np.array([1.0, 4.0]), np.zeros((2, 2)), np.array([0, 1]), reduction="none")
    array([[-0.5,  0.5],
           [ 2. , -2. ]])
    """
    operation = "cross_entropy_backward"
    problem = _Problem.of(operation, logits, targets, ignore_index)
    dtype, rows = problem.logits.dtype, problem.targets.shape
    upstream = as_numpy(operation, "dloss", dloss)
    expected = rows if reduction == "none" else ()
    if upstream.shape != expected:
        message = f"{operation}: dloss has shape {upstream.shape}; use {expected} for reduction '{reduction}'"
        raise ShapeError(message)
    factors = np.broadcast_to(upstream, rows).astype(dtype, order="C")
    losses, gradient = np.empty(rows, dtype), np.empty(problem.logits.shape, dtype)
    _native.cross_entropy(*problem.rows(), reduction, "nan", losses, gradient, factors, None, None)
    return like(logits, gradient)


class _Problem(NamedTuple):
    """Checked arguments."""

    logits: NDArray[Any]
    targets: NDArray[np.int64]
    ignore_index: int

    @classmethod
    def of(cls, operation: str, logits: Any, targets: Any, ignore_index: int) -> _Problem:
        rows = as_floats(operation, "logits", logits)
        if rows.ndim == 0 or rows.shape[-1] == 0:
            message = f"{operation}: logits has shape {rows.shape}; use (..., classes), at least one class"
            raise ShapeError(message)
        classes = as_numpy(operation, "targets", targets)
        if classes.dtype.kind not in "iu":
            message = f"{operation}: targets has dtype {classes.dtype}; use integers"
            raise DTypeError(message)
        if classes.shape != rows.shape[:-1]:
            message = f"{operation}: targets has shape {classes.shape}; use {rows.shape[:-1]}"
            raise ShapeError(message)
        if classes.dtype == np.uint64:
            # What int64 cannot hold is no class either; the largest int64 stands for all of it.
            classes = np.minimum(classes, np.uint64(np.iinfo(np.int64).max))
        return cls(rows, classes.astype(np.int64, order="C", copy=False), operator.index(ignore_index))

    def rows(self) -> tuple[NDArray[Any], NDArray[np.int64], int]:
        """Give the compiled module logits of four axes, of which only the last must be contiguous."""
        logits = self.logits
        missing = 4 - logits.ndim
        logits = logits[(None,) * missing] if missing >= 0 else logits.reshape(-1, 1, 1, logits.shape[-1])
        size = logits.itemsize
        readable = all(stride >= 0 and stride % size == 0 for stride in logits.strides)
        if not (readable and (logits.shape[-1] == 1 or logits.strides[-1] == size)):
            logits = np.ascontiguousarray(logits)
        return logits, self.targets, self.ignore_index


def _reduced(logits: Any, value: float, dtype: np.dtype[Any]) -> Any:
    return like(logits, np.array(value, dtype)) if is_tensor(logits) else dtype.type(value)


def _differentiable(logits: Any, targets: Any, ignore_index: int, reduction: Reduction, empty: Empty) -> Any:
    from logitscope.nn.functional import cross_entropy as differentiable

    if empty == "zero" and reduction == "mean" and bool((targets == ignore_index).all()):
        reduction = "sum"  # of nothing: 0 with a gradient of 0
    # There the classes are dimension 1, as in torch.
    classes_second = logits.movedim(-1, 1) if logits.ndim > 2 else logits
    return differentiable(classes_second, targets, ignore_index=ignore_index, reduction=reduction)
