"""Losses over StableMax, of the margin, and of the spherical family: no functions of the softmax's probability."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from logitscope import _native
from logitscope._arrays import like, needs_autograd
from logitscope._dtypes import wide
from logitscope.errors import ArgumentError, TargetError
from logitscope.ops._loss_problem import class_indices, class_rows, class_weight, reduced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logitscope.ops.cross_entropy import Reduction
    from logitscope.ops.softmax import Empty

SphericalKind = Literal["taylor", "spherical", "squared"]


def stablemax_cross_entropy(
    logits: Any,
    targets: Any,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    return_grad: bool = False,
) -> Any:
    """Cross entropy over StableMax, ``-log(s(z_y) / sum(s(z)))``, s(x) = 1 + x above 0 and 1 / (1 - x) below.

    s grows linearly, so no class absorbs the others in a floating-point sum until it is 1e7 times as large.
    Prieto et al., arXiv 2501.04697. Not invariant to shifts of the logits.

    Parameters
    ----------
    logits
        (..., V), NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16.
    targets
        (...) integers in 0..V-1 or ``ignore_index``.
    weight, ignore_index, reduction, empty, return_grad
        As in :func:`~logitscope.loss.cross_entropy`.
    label_smoothing
        0..1: that part of the target's mass is shared out among all classes.

    Returns
    -------
    loss or (loss, gradient)
        Of the kind and dtype of ``logits``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, TargetError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.loss import stablemax_cross_entropy
    >>> logits, targets = np.array([[40.0, 0, 0]]), np.array([0])
    >>> loss, gradient = stablemax_cross_entropy(logits, targets, return_grad=True)
    >>> bool(np.isclose(loss, np.log(43 / 41)))
    True
    >>> smooth = stablemax_cross_entropy(logits, targets, label_smoothing=0.3)
    >>> bool(np.isclose(smooth, 0.8 * np.log(43 / 41) + 0.2 * np.log(43)))
    True
    """
    arguments = (logits, targets, weight, ignore_index, reduction, empty, return_grad)
    return row_loss("stablemax_cross_entropy", (label_smoothing,), *arguments)


def margin_loss(
    logits: Any,
    targets: Any,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    return_grad: bool = False,
) -> Any:
    """Margin of the target turned into a loss: ``max(z_k for k != y) - z_y``, above 0 where another class wins.

    What attacks by gradient raise (Carlini and Wagner, arXiv 1608.04644): unlike that of cross entropy its gradient
    does not fade where a row is confident. ``LossStats.margin`` of :func:`~logitscope.loss.cross_entropy` is the
    negative of it.

    Parameters
    ----------
    logits, targets, weight, ignore_index, reduction, empty, return_grad
        As in :func:`~logitscope.loss.stablemax_cross_entropy`; at least two classes.

    Returns
    -------
    loss or (loss, gradient)
        Of the kind and dtype of ``logits``. Of equal other logits the first has the gradient.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, TargetError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.loss import margin_loss
    >>> loss, gradient = margin_loss(np.array([[4.0, 1.0, 3.0]]), np.array([0]), return_grad=True)
    >>> float(loss), gradient
    (-1.0, array([[-1.,  0.,  1.]]))
    """
    arguments = (logits, targets, weight, ignore_index, reduction, empty, return_grad)
    return row_loss("margin_loss", (), *arguments)


def taylor_softmax_loss(
    logits: Any,
    targets: Any,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    return_grad: bool = False,
) -> Any:
    """Log-Taylor-softmax loss, ``-log(f(z_y) / sum(f(z)))`` with ``f(x) = 1 + x + x**2 / 2``.

    Vincent, de Brébisson and Bouthillier, arXiv 1412.7091.

    Parameters
    ----------
    logits, targets, weight, ignore_index, reduction, empty, return_grad
        As in :func:`~logitscope.loss.stablemax_cross_entropy`.

    Returns
    -------
    loss or (loss, gradient)
        Of the kind and dtype of ``logits``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, TargetError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.loss import taylor_softmax_loss
    >>> bool(np.isclose(taylor_softmax_loss(np.array([[2.0, 0.0]]), np.array([0])), np.log(6 / 5)))
    True
    """
    arguments = (logits, targets, weight, ignore_index, reduction, empty, return_grad)
    return row_loss("taylor_softmax_loss", (), *arguments)


def spherical_softmax_loss(
    logits: Any,
    targets: Any,
    epsilon: float = 1e-3,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    return_grad: bool = False,
) -> Any:
    """Log-spherical-softmax loss, ``-log(f(z_y) / sum(f(z)))`` with ``f(x) = x**2 + epsilon``.

    Vincent, de Brébisson and Bouthillier, arXiv 1412.7091. Even in the logits.

    Parameters
    ----------
    logits, targets, weight, ignore_index, reduction, empty, return_grad
        As in :func:`~logitscope.loss.stablemax_cross_entropy`.
    epsilon
        Above 0.

    Returns
    -------
    loss or (loss, gradient)
        Of the kind and dtype of ``logits``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, TargetError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.loss import spherical_softmax_loss
    >>> loss = spherical_softmax_loss(np.array([[1.0, 1.0]]), np.array([0]))
    >>> bool(np.isclose(loss, np.log(2)))
    True
    """
    arguments = (logits, targets, weight, ignore_index, reduction, empty, return_grad)
    return row_loss("spherical_softmax_loss", (epsilon,), *arguments)


def spherical_loss(
    logits: Any,
    targets: Any,
    kind: SphericalKind = "taylor",
    eps: float = 0.1,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    return_grad: bool = False,
) -> Any:
    """Loss of the spherical family by name: of a row's sum, its sum of squares and the target's logit alone.

    Vincent, de Brébisson and Bouthillier, arXiv 1412.7091.

    Parameters
    ----------
    logits, targets, weight, ignore_index, reduction, empty, return_grad
        As in :func:`~logitscope.loss.stablemax_cross_entropy`.
    kind
        ``"taylor"``: :func:`~logitscope.loss.taylor_softmax_loss`; ``"spherical"``:
        :func:`~logitscope.loss.spherical_softmax_loss`; ``"squared"``: the squared distance from the target's unit
        vector.
    eps
        The epsilon of ``"spherical"``, above 0.

    Returns
    -------
    loss or (loss, gradient)
        Of the kind and dtype of ``logits``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, TargetError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.loss import spherical_loss
    >>> float(spherical_loss(np.array([[3.0, 1.0]]), np.array([0]), kind="squared"))  # (3 - 1)² + 1²
    5.0
    """
    kinds: dict[str, tuple[str, tuple[float, ...]]] = {
        "taylor": ("taylor_softmax_loss", ()),
        "spherical": ("spherical_softmax_loss", (eps,)),
        "squared": ("squared_error_loss", ()),
    }
    if kind not in kinds:
        message = f"spherical_loss: kind is {kind!r}; use 'taylor', 'spherical' or 'squared'"
        raise ArgumentError(message)
    operation, parameters = kinds[kind]
    arguments = (logits, targets, weight, ignore_index, reduction, empty, return_grad)
    return row_loss(operation, parameters, *arguments)


def z_standardized_loss(
    logits: Any,
    targets: Any,
    a: float = 1.0,
    b: float = 5.0,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    return_grad: bool = False,
) -> Any:
    """Z-loss, ``softplus(a * (b - z)) / a`` of the target's logit standardised by its row's mean and deviation.

    It does not change when a row is shifted or scaled, so it cannot be lowered by growing the logits.
    De Brébisson and Vincent, arXiv 1604.08859. (The "z-loss" of PaLM is
    :func:`~logitscope.loss.logsumexp_penalty`.)

    Parameters
    ----------
    logits, targets, weight, ignore_index, reduction, empty, return_grad
        As in :func:`~logitscope.loss.stablemax_cross_entropy`; at least two classes.
    a
        Sharpness, above 0.
    b
        Where the loss levels off: a target so many deviations above the mean adds little.

    Returns
    -------
    loss or (loss, gradient)
        Of the kind and dtype of ``logits``. Equal logits have no deviation: the loss is that of z = 0, the
        gradient 0.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, TargetError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.loss import z_standardized_loss
    >>> logits = np.array([[1.0, 2.0, 4.0]])
    >>> bool(np.isclose(*(z_standardized_loss(x, np.array([2])) for x in (logits, 7 * logits - 3))))
    True
    """
    arguments = (logits, targets, weight, ignore_index, reduction, empty, return_grad)
    return row_loss("z_standardized_loss", (a, b), *arguments)


def no_class(operation: str, target: int, row: int, classes: int) -> None:
    """Raise for a target that is none."""
    message = f"{operation}: target {target} in row {row} is no class; use 0..{classes - 1}"
    raise TargetError(message)


def row_loss(
    operation: str,
    parameters: Sequence[float],
    logits: Any,
    targets: Any,
    weight: Any,
    ignore_index: int,
    reduction: str,
    empty: str,
    return_grad: bool,
) -> Any:
    """Compute the loss that ``operation`` names."""
    if needs_autograd(logits, weight) and not return_grad:
        from logitscope.nn.functional._row_loss import row_loss as differentiable

        options = {"weight": weight, "ignore_index": ignore_index, "reduction": reduction, "empty": empty}
        return differentiable(operation, parameters, logits, targets, **options)
    rows = class_rows(operation, logits)
    classes = class_indices(operation, targets, rows.shape[:-1])
    factors = None if weight is None else class_weight(operation, weight, rows)
    losses = np.empty(rows.shape[:-1], wide(rows.dtype))
    gradient = np.empty(rows.shape, rows.dtype) if return_grad else None
    value = _native.row_loss(
        operation,
        [float(parameter) for parameter in parameters],
        np.ascontiguousarray(rows),
        classes,
        factors,
        operator.index(ignore_index),
        reduction,
        empty,
        losses,
        gradient,
    )
    of_rows = like(logits, losses) if reduction == "none" else reduced(logits, value, losses.dtype)
    return of_rows if gradient is None else (of_rows, like(logits, gradient))
