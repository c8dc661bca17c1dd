"""Losses of the target's probability alone, each a link over the kernel of cross entropy.

A loss phi(v) of v = -log p has the gradient phi'(v) (p - e_y); v is computed in complement form, so none of them
rounds to 0 before its true value does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from logitscope.ops._loss_problem import Options
from logitscope.ops.cross_entropy import loss

if TYPE_CHECKING:
    from logitscope.ops.cross_entropy import Reduction
    from logitscope.ops.softmax import Empty


def comp_sum_loss(
    logits: Any,
    targets: Any,
    tau: float = 1.0,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    return_grad: bool = False,
) -> Any:
    """Comp-sum loss, ``(exp((1 - tau) v) - 1) / (1 - tau)`` of ``v = -log softmax(logits)[target]``.

    ``tau`` 0 is the sum of exponentials, 1 cross entropy, 1 + q generalized cross entropy, 2 the mean absolute
    error ``1 - p``. Mao, Mohri and Zhong, arXiv 2304.07288.

    Parameters
    ----------
    logits
        (..., V), NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16.
    targets
        (...) integers in 0..V-1 or ``ignore_index``, or (..., V) soft targets: the loss is then the sum over the
        classes of the target's mass times the loss with that class as the target.
    tau
        At least 0. Below 1 the loss overflows to ``inf`` (and the gradient to ``inf`` and ``-inf``) in rows with
        (1 - tau) v above 88.7 in float32; above 1 the gradient vanishes as p does.
    weight, ignore_index, label_smoothing, reduction, empty, return_grad
        As in :func:`~logitscope.loss.cross_entropy`.

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
    >>> from logitscope.loss import comp_sum_loss
    >>> float(comp_sum_loss(np.zeros((1, 4)), np.array([0]), tau=2.0))  # 1 - p
    0.75
    """
    options = Options(
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        empty=empty,
        link="comp_sum",
        link_params={"tau": tau},
    )
    return loss("comp_sum_loss", logits, targets, options, return_grad, False)


def generalized_cross_entropy(
    logits: Any,
    targets: Any,
    q: float = 0.7,
    *,
    k: float | None = None,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    return_grad: bool = False,
) -> Any:
    """Generalized cross entropy ``(1 - p**q) / q`` of the target's probability, which forgives wrong labels.

    Zhang and Sabuncu, arXiv 1805.07836.

    Parameters
    ----------
    logits, targets, weight, ignore_index, reduction, empty, return_grad
        As in :func:`~logitscope.loss.cross_entropy`.
    q
        Above 0 (near cross entropy) and at most 1 (the mean absolute error).
    k
        The truncated form: rows with p of at most ``k``, between 0 and 1, have the constant ``(1 - k**q) / q`` and no
        gradient.

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
    >>> from logitscope.loss import generalized_cross_entropy
    >>> float(generalized_cross_entropy(np.zeros((1, 4)), np.array([0]), q=0.5))
    1.0
    """
    options = Options(
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        empty=empty,
        link="gce" if k is None else "truncated_gce",
        link_params={"q": q} if k is None else {"q": q, "k": k},
    )
    return loss("generalized_cross_entropy", logits, targets, options, return_grad, False)


def focal_loss(
    logits: Any,
    targets: Any,
    gamma: float = 2.0,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    return_grad: bool = False,
) -> Any:
    """Focal loss ``-(1 - p)**gamma * log p`` of the target's probability: easy rows count less.

    Lin et al., arXiv 1708.02002, with the softmax of all classes.

    Parameters
    ----------
    logits, targets, weight, ignore_index, reduction, empty, return_grad
        As in :func:`~logitscope.loss.cross_entropy`; ``weight`` takes the part of the paper's alpha.
    gamma
        At least 0, which is cross entropy.

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
    >>> from logitscope.loss import focal_loss
    >>> round(float(focal_loss(np.zeros((1, 2)), np.array([0]))), 6)  # log(2) / 4
    0.173287
    """
    options = Options(
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        empty=empty,
        link="focal",
        link_params={"gamma": gamma},
    )
    return loss("focal_loss", logits, targets, options, return_grad, False)


def poly_loss(
    logits: Any,
    targets: Any,
    epsilon: float = 1.0,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    return_grad: bool = False,
) -> Any:
    """Poly-1 loss ``-log p + epsilon * (1 - p)`` of the target's probability.

    Leng et al., arXiv 2204.12511.

    Parameters
    ----------
    logits, targets, weight, ignore_index, reduction, empty, return_grad
        As in :func:`~logitscope.loss.cross_entropy`.
    epsilon
        Added to the coefficient of the first term of the loss's series in 1 - p.

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
    >>> from logitscope.loss import poly_loss
    >>> round(float(poly_loss(np.zeros((1, 2)), np.array([0]), epsilon=2.0)), 6)  # log(2) + 1
    1.693147
    """
    options = Options(
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        empty=empty,
        link="poly",
        link_params={"epsilon": epsilon},
    )
    return loss("poly_loss", logits, targets, options, return_grad, False)


def symmetric_cross_entropy(
    logits: Any,
    targets: Any,
    *,
    a: float = 0.1,
    b: float = 1.0,
    log_zero: float = -4.0,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    return_grad: bool = False,
) -> Any:
    """Symmetric cross entropy ``-a * log p - b * log_zero * (1 - p)``, which forgives wrong labels.

    The second term is the cross entropy of the prediction against the target, with ``log_zero`` for log 0.
    Wang et al., arXiv 1908.06112.

    Parameters
    ----------
    logits, targets, weight, ignore_index, reduction, empty, return_grad
        As in :func:`~logitscope.loss.cross_entropy`.
    a, b
        Weights of the two terms, at least 0.
    log_zero
        A negative number; the paper's A.

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
    >>> from logitscope.loss import symmetric_cross_entropy
    >>> float(symmetric_cross_entropy(np.zeros((1, 2)), np.array([0]), a=0.0))
    2.0
    """
    options = Options(
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        empty=empty,
        link="symmetric",
        link_params={"a": a, "b": b, "log_zero": log_zero},
    )
    return loss("symmetric_cross_entropy", logits, targets, options, return_grad, False)
