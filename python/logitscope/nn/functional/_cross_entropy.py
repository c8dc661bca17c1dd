"""Cross entropy with its gradient, which the kernel makes in the same call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from logitscope.errors import ArgumentError, DTypeError, ShapeError, TargetError
from logitscope.loss import cross_entropy as cross_entropy_rows
from logitscope.nn import composite
from logitscope.nn.functional._path import array, check_dtype, needs_composite

if TYPE_CHECKING:
    from logitscope.ops.cross_entropy import Reduction

_REDUCTIONS: tuple[Reduction, ...] = ("mean", "sum", "none")


def cross_entropy(
    logits: Tensor, targets: Tensor, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """Cross entropy of class logits and the right classes, accurate down to the smallest float.

    Parameters
    ----------
    logits
        (V,), (N, V) or (N, V, ...), the classes in dimension 1 as in torch; float32 or float64.
    targets
        (), (N,) or (N, ...) integers in 0..V-1 or ``ignore_index``.
    ignore_index
        Rows with this target do not count and have no gradient.
    reduction
        "mean" over the rows that count, "sum", or "none".

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn.functional import cross_entropy
    >>> cross_entropy(torch.tensor([[80.0, 0.0]]), torch.tensor([0]))
    tensor(1.8049e-35)
    """
    _check(logits, targets, reduction)
    rows_last = logits if logits.dim() < 3 else logits.movedim(1, -1)
    if needs_composite(logits, targets):
        _check_targets(rows_last, targets, ignore_index)
        return composite.cross_entropy(rows_last, targets, ignore_index, reduction)
    wants_gradient = torch.is_grad_enabled() and logits.requires_grad
    loss: Tensor = _cross_entropy(rows_last, targets, ignore_index, reduction, wants_gradient)[0]
    return loss


@torch.library.custom_op("logitscope::cross_entropy", mutates_args=())
def _cross_entropy(
    logits: Tensor, targets: Tensor, ignore_index: int, reduction: str, with_gradient: bool
) -> tuple[Tensor, Tensor]:
    answer = cross_entropy_rows(
        array(logits),
        array(targets),
        ignore_index=ignore_index,
        reduction=_REDUCTIONS[_REDUCTIONS.index(reduction)],
        return_grad=with_gradient,
    )
    loss, gradient = answer if with_gradient else (answer, None)
    return (
        torch.as_tensor(loss).reshape(targets.shape if reduction == "none" else ()),
        logits.new_empty(0) if gradient is None else torch.from_numpy(gradient),
    )


@_cross_entropy.register_fake
def _(
    logits: Tensor, targets: Tensor, ignore_index: int, reduction: str, with_gradient: bool
) -> tuple[Tensor, Tensor]:
    loss = logits.new_empty(targets.shape if reduction == "none" else ())
    return loss, logits.new_empty(logits.shape if with_gradient else 0)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    logits, targets, ctx.ignore_index, ctx.reduction, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(logits, targets, output[1])


def _gradient(ctx: Any, dloss: Tensor, _: Any) -> tuple[Tensor, None, None, None, None]:
    logits, targets, gradient = ctx.saved_tensors
    if torch.is_grad_enabled():  # the gradient will be differentiated itself
        with torch.enable_grad():
            loss = composite.cross_entropy(logits, targets, ctx.ignore_index, ctx.reduction)
        (dlogits,) = torch.autograd.grad(loss, logits, dloss, create_graph=True)
    else:
        # A fresh tensor: what was saved must survive a second backward.
        dlogits = gradient * (dloss[..., None] if ctx.reduction == "none" else dloss)
    return dlogits, None, None, None, None


_cross_entropy.register_autograd(_gradient, setup_context=_keep)


def _check(logits: Tensor, targets: Tensor, reduction: str) -> None:
    check_dtype("cross_entropy", logits=logits)
    if targets.dtype.is_floating_point or targets.dtype.is_complex or targets.dtype == torch.bool:
        message = f"cross_entropy: targets are {targets.dtype}; use an integer type, such as torch.int64"
        raise DTypeError(message)
    if reduction not in _REDUCTIONS:
        message = f"cross_entropy: reduction {reduction!r} is unknown; use {', '.join(_REDUCTIONS)}"
        raise ArgumentError(message)
    shape = tuple(logits.shape)
    expected = shape[:1] + shape[2:] if len(shape) > 1 else ()
    if len(shape) == 0 or shape[min(1, len(shape) - 1)] == 0:
        message = f"cross_entropy: logits of shape {shape} have no class; use (N, V) or (N, V, ...), V > 0"
        raise ShapeError(message)
    if tuple(targets.shape) != expected:
        message = (
            f"cross_entropy: targets of shape {tuple(targets.shape)} do not fit logits of shape {shape}; "
            f"use {expected} (the classes are dimension 1)"
        )
        raise ShapeError(message)


def _check_targets(logits: Tensor, targets: Tensor, ignore_index: int) -> None:
    """Raise for a class that there is not, where the values may be looked at."""
    if targets.is_meta or torch._C._are_functorch_transforms_active():
        return
    classes = logits.shape[-1]
    wrong = ((targets < 0) | (targets >= classes)) & (targets != ignore_index)
    if wrong.any():
        row = int(wrong.flatten().nonzero()[0])
        message = (
            f"cross_entropy: target {int(targets.flatten()[row])} in row {row} is out of range; "
            f"use 0..{classes - 1} or ignore_index ({ignore_index})"
        )
        raise TargetError(message)
