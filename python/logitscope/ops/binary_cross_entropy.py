"""Binary cross entropy of logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    pos_weight
        Factor of the targets' part: a number, or one for each element of the last axis.
    reduction
        ``"mean"`` over all elements, ``"sum"`` or ``"none"``.
    return_grad
        Also return the gradient of the loss (of the sum of the losses for ``"none"``) with respect to the logits.

    Returns
    -------
    loss or (loss, gradient)
        Of the kind and dtype of ``logits``.

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
    operation = "binary_cross_entropy_with_logits"
    if needs_autograd(logits) and not return_grad:
        from logitscope.nn.functional._first_order import first_order

        def with_gradient(x: Any) -> Any:
            options: dict[str, Any] = {"pos_weight": pos_weight, "reduction": reduction}
            return binary_cross_entropy_with_logits(x, targets, **options, return_grad=True)

        return first_order(with_gradient, logits)
    if reduction not in ("mean", "sum", "none"):
        message = f"{operation}: reduction is {reduction!r}; use 'mean', 'sum' or 'none'"
        raise ArgumentError(message)
    array = as_floats(operation, "logits", logits)
    wanted = _rows.same_shape(operation, "targets", targets, array)
    factors = _pos_weight(operation, pos_weight, array)
    losses, slopes = np.empty(array.shape, wide(array.dtype)), np.empty(array.shape, array.dtype)
    divisor = losses.size if reduction == "mean" else 1
    if array.size:
        contiguous = np.ascontiguousarray(array), np.ascontiguousarray(wanted)
        _native.binary_cross_entropy(*contiguous, factors, 1 / divisor, losses, slopes)
    loss = like(logits, losses)
    if reduction != "none":
        total = float(losses.sum(dtype=np.float64))
        loss = reduced(logits, total / divisor if divisor else np.nan, losses.dtype)
    return (loss, like(logits, slopes)) if return_grad else loss


def _pos_weight(operation: str, pos_weight: Any, array: NDArray[Any]) -> NDArray[Any]:
    """One factor for each element of the last axis."""
    columns = array.shape[-1:] or (1,)
    given = widen(as_numpy(operation, "pos_weight", 1.0 if pos_weight is None else pos_weight))
    if given.dtype.kind not in "fiu":
        message = f"{operation}: pos_weight has dtype {given.dtype}; use {name_of(array.dtype)}"
        raise DTypeError(message)
    if given.shape not in ((), columns):
        message = f"{operation}: pos_weight has shape {given.shape}; use a number or {columns}"
        raise ShapeError(message)
    if not (given >= 0).all():
        message = f"{operation}: pos_weight is {given.min()}; use numbers of at least 0"
        raise ArgumentError(message)
    return np.ascontiguousarray(np.broadcast_to(given.astype(wide(array.dtype)), columns))
