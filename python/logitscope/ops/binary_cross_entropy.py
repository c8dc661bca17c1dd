"""Binary cross entropy of logits, and the focal loss over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from logitscope import _native
from logitscope._arrays import as_floats, as_numpy, like, needs_autograd
from logitscope._dtypes import name_of, wide, widen
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.ops import _rows
from logitscope.ops._loss_problem import reduced

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitscope.ops.cross_entropy import Reduction


def binary_cross_entropy_with_logits(
    logits: Any,
    targets: Any,
    *,
    weight: Any = None,
    pos_weight: Any = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
) -> Any:
    """Binary cross entropy, ``(1 - t) * softplus(z) + pos_weight * t * softplus(-z)``, of each logit.

    Parameters
    ----------
    logits
        Any shape, NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16.
    targets
        Probabilities of the shape and dtype of ``logits``.
    weight
        Factor of each loss, not negative: anything that broadcasts to the shape of ``logits``. As in torch, the mean is
        over the number of elements all the same.
    pos_weight
        Factor of the targets' part: a number, or one for each element of the last axis.
    reduction
        ``"mean"`` over all elements, ``"sum"`` or ``"none"``.
    return_grad
        Also return the gradient of the loss (of the sum of the losses for ``"none"``) with respect to the logits.

    Returns
    -------
    loss or (loss, gradient)
        Of the kind of ``logits``; the gradient of their dtype, the loss too, or float32 for 16-bit logits.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError
        Naming the argument, what came and what would work.

    Notes
    -----
    The gradient is ``(1 - t) * sigmoid(z) - pos_weight * t * sigmoid(-z)``, each sigmoid in its own right: where
    ``sigmoid(z) - 1`` would round to 0 it stays exact. A target of exactly 0 or 1 has no part in the other
    term, even at an infinite logit.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.loss import binary_cross_entropy_with_logits
    >>> loss = binary_cross_entropy_with_logits(np.float32([40]), np.float32([1]))
    >>> bool(np.isclose(loss, np.exp(-40), rtol=1e-6, atol=0))
    True
    """
    options = Options(weight, pos_weight, None, reduction)
    return binary_loss("binary_cross_entropy_with_logits", logits, targets, options, return_grad)


def sigmoid_focal_loss(
    logits: Any,
    targets: Any,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    weight: Any = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
) -> Any:
    """Focal loss of each logit: binary cross entropy times ``(1 - p_t)**gamma``, so that easy ones count less.

    ``p_t`` is the probability of the target, ``t * p + (1 - t) * (1 - p)``. Lin et al., arXiv 1708.02002.

    Parameters
    ----------
    logits, targets, weight, reduction, return_grad
        As in :func:`binary_cross_entropy_with_logits`.
    alpha
        In 0..1: another factor ``alpha * t + (1 - alpha) * (1 - t)``; None leaves it out.
    gamma
        At least 0, which is binary cross entropy.

    Returns
    -------
    loss or (loss, gradient)
        As of :func:`binary_cross_entropy_with_logits`.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.loss import sigmoid_focal_loss
    >>> round(float(sigmoid_focal_loss(np.zeros(3), np.array([0.0, 0, 1]), alpha=None)), 6)  # log(2) / 4
    0.173287
    """
    options = Options(weight, None, (float(gamma), None if alpha is None else float(alpha)), reduction)
    return binary_loss("sigmoid_focal_loss", logits, targets, options, return_grad)


class Options(NamedTuple):
    """The options of a loss of this family, as users give them."""

    weight: Any
    pos_weight: Any
    focal: tuple[float, float | None] | None
    """gamma and alpha."""
    reduction: str


def binary_loss(operation: str, logits: Any, targets: Any, options: Options, return_grad: bool) -> Any:
    """Compute a loss of the family under the name of ``operation``."""
    weight, pos_weight, focal, reduction = options
    if needs_autograd(logits, targets, weight, pos_weight) and not return_grad:
        from logitscope.nn.functional._binary_cross_entropy import differentiable

        return differentiable(operation, logits, targets, options)
    if reduction not in ("mean", "sum", "none"):
        message = f"{operation}: reduction is {reduction!r}; use 'mean', 'sum' or 'none'"
        raise ArgumentError(message)
    array = as_floats(operation, "logits", logits)
    wanted = _rows.same_shape(operation, "targets", targets, array)
    columns = array.shape[-1:] or (1,)
    positive = _factors(operation, "pos_weight", 1.0 if pos_weight is None else pos_weight, array)
    if positive.shape not in ((), columns):
        message = f"{operation}: pos_weight has shape {positive.shape}; use a number or {columns}"
        raise ShapeError(message)
    losses, slopes = np.empty(array.shape, wide(array.dtype)), np.empty(array.shape, array.dtype)
    divisor = losses.size if reduction == "mean" else 1
    own = None if weight is None else _weight(operation, weight, array)
    if columns[0]:
        _native.binary_cross_entropy(
            np.ascontiguousarray(array),
            np.ascontiguousarray(wanted),
            np.ascontiguousarray(np.broadcast_to(positive, columns)),
            own,
            focal,
            1 / max(divisor, 1),
            losses,
            slopes,
        )
    loss = like(logits, losses)
    if reduction != "none":
        total = float(losses.sum(dtype=np.float64))
        loss = reduced(logits, total / divisor if divisor else np.nan, losses.dtype)
    return (loss, like(logits, slopes)) if return_grad else loss


def _weight(operation: str, weight: Any, array: NDArray[Any]) -> NDArray[Any]:
    """One factor for each element of the last axis, or for each element."""
    given = _factors(operation, "weight", weight, array)
    try:
        whole = np.broadcast_to(given, array.shape)
    except ValueError:
        message = f"{operation}: weight has shape {given.shape}; use one that broadcasts to {array.shape}"
        raise ShapeError(message) from None
    columns = array.shape[-1:] or (1,)
    is_one_a_column = given.size <= columns[0] and given.ndim <= 1
    return np.ascontiguousarray(np.broadcast_to(given, columns) if is_one_a_column else whole)


def _factors(operation: str, name: str, value: Any, array: NDArray[Any]) -> NDArray[Any]:
    given = widen(as_numpy(operation, name, value))
    if given.dtype.kind not in "fiu":
        message = f"{operation}: {name} has dtype {given.dtype}; use {name_of(array.dtype)}"
        raise DTypeError(message)
    if not (given >= 0).all():
        message = f"{operation}: {name} is {given.min()}; use numbers of at least 0"
        raise ArgumentError(message)
    return given.astype(wide(array.dtype))
