"""The penalty on the logarithm of the softmax's normaliser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope._arrays import as_floats, like, needs_autograd
from logitscope.errors import ArgumentError
from logitscope.ops import _rows
from logitscope.ops._loss_problem import reduced
from logitscope.ops.logsumexp import logsumexp_backward, lse_of_rows

if TYPE_CHECKING:
    from logitscope.ops.cross_entropy import Reduction


def logsumexp_penalty(
    logits: Any, scale: float = 1e-4, *, reduction: Reduction = "mean", return_grad: bool = False
) -> Any:
    """``scale * logsumexp(logits) ** 2`` of rows, which keeps the softmax's normaliser near 1.

    The auxiliary "z-loss" of PaLM (arXiv 2204.02311) alone; ``cross_entropy(..., lse_square_scale=scale)`` has it in
    the same sweep as the loss.

    Parameters
    ----------
    logits
        (..., V), NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16.
    scale
        At least 0.
    reduction
        ``"mean"`` over the rows, ``"sum"`` or ``"none"``.
    return_grad
        Also return the gradient of the penalty (of the sum of the penalties for ``"none"``).

    Returns
    -------
    penalty or (penalty, gradient)
        Of the kind and dtype of ``logits``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.loss import logsumexp_penalty
    >>> bool(np.isclose(logsumexp_penalty(np.zeros((2, 3)), 0.1), 0.1 * np.log(3) ** 2))
    True
    """
    operation = "logsumexp_penalty"
    if reduction not in ("mean", "sum", "none"):
        message = f"{operation}: reduction is {reduction!r}; use 'mean', 'sum' or 'none'"
        raise ArgumentError(message)
    if not 0 <= scale < np.inf:
        message = f"{operation}: scale is {scale!r}; use a finite number, at least 0"
        raise ArgumentError(message)
    if needs_autograd(logits) and not return_grad:
        return _differentiable(logits, scale, reduction)
    rows = as_floats(operation, "logits", logits)
    _rows.axis_of(operation, rows, -1)
    lse = lse_of_rows(np.atleast_1d(rows))
    penalties = np.asarray(scale * np.square(lse), lse.dtype)
    divisor = penalties.size if reduction == "mean" else 1
    penalty = like(logits, penalties)
    if reduction != "none":
        total = float(penalties.sum(dtype=np.float64))
        penalty = reduced(logits, total / divisor if divisor else np.nan, lse.dtype)
    if not return_grad:
        return penalty
    slope = np.asarray(2 * scale / max(divisor, 1) * lse, lse.dtype)
    return penalty, like(logits, logsumexp_backward(rows, lse, slope))


def _differentiable(logits: Any, scale: float, reduction: str) -> Any:
    from logitscope.nn.functional import logsumexp
    from logitscope.nn.functional._path import check_dtype, wide

    check_dtype("logsumexp_penalty", logits=logits)
    penalties = scale * logsumexp(logits.to(wide(logits.dtype))).square()
    if reduction == "none":
        return penalties
    return penalties.mean() if reduction == "mean" else penalties.sum()
