"""Losses over StableMax and of the spherical family with their gradient, which the kernel makes in the same call."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 -- torch reads the annotations of an operator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logitscope.nn import composite_row_loss
from logitscope.nn.functional._composite_gradient import composite_gradients
from logitscope.nn.functional._path import array, check_dtype, needs_composite, tensor_of, wide
from logitscope.ops import row_losses


def row_loss(
    operation: str,
    parameters: Sequence[float],
    logits: Tensor,
    targets: Tensor,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    empty: str = "nan",
) -> Tensor:
    """Compute the loss of :mod:`logitscope.ops.row_losses` that ``operation`` names, with its gradient.

    Parameters
    ----------
    operation, parameters
        Which loss, and its numbers.
    logits, targets, weight, ignore_index, reduction, empty
        As in that loss: the classes are the last dimension.
    """
    check_dtype(operation, logits=logits)
    if weight is not None:
        weight = torch.as_tensor(weight, dtype=wide(logits.dtype), device=logits.device)
    parameters = [float(parameter) for parameter in parameters]
    options = (targets, weight, ignore_index, reduction, empty)
    weight_has_gradient = weight is not None and weight.requires_grad and torch.is_grad_enabled()
    if weight_has_gradient or needs_composite(logits, targets, weight):
        _check(operation, parameters, logits, *options)
        return composite_row_loss.row_loss(logits, operation, parameters, *options)
    with_gradient = torch.is_grad_enabled() and logits.requires_grad
    loss: Tensor = _row_loss(logits, operation, parameters, *options, with_gradient)[0]
    return loss


@torch.library.custom_op("logitscope::row_loss", mutates_args=())
def _row_loss(
    logits: Tensor,
    operation: str,
    parameters: Sequence[float],
    targets: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    empty: str,
    with_gradient: bool,
) -> tuple[Tensor, Tensor]:
    factors = None if weight is None else array(weight)
    options = (factors, ignore_index, reduction, empty, with_gradient)
    answer = row_losses.row_loss(operation, parameters, array(logits), array(targets), *options)
    loss, gradient = answer if with_gradient else (answer, None)
    return (
        torch.as_tensor(loss).reshape(logits.shape[:-1] if reduction == "none" else ()),
        logits.new_empty(0) if gradient is None else tensor_of(gradient),
    )


@_row_loss.register_fake
def _(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    reduction, with_gradient = arguments[5], arguments[-1]
    shape = logits.shape[:-1] if reduction == "none" else ()
    loss = logits.new_empty(shape, dtype=wide(logits.dtype))
    return loss, logits.new_empty(logits.shape if with_gradient else 0)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    logits, ctx.operation, ctx.parameters, targets, weight, *ctx.rest, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(logits, targets, weight, output[1])


def _gradient(ctx: Any, dloss: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    logits, targets, weight, gradient = ctx.saved_tensors
    if torch.is_grad_enabled():  # the gradient will be differentiated itself
        fixed = {
            "operation": ctx.operation,
            "parameters": ctx.parameters,
            "targets": targets,
            "weight": weight,
        }
        fixed |= dict(zip(("ignore_index", "reduction", "empty"), ctx.rest, strict=True))
        composite = partial(composite_row_loss.row_loss, **fixed)
        (dlogits,) = composite_gradients(ctx, composite, (logits,), dloss)
    else:
        factor = dloss[..., None] if ctx.rest[1] == "none" else dloss
        dlogits = (gradient * factor).to(gradient.dtype)
    return dlogits, *(None,) * 8


_row_loss.register_autograd(_gradient, setup_context=_keep)


def _check(
    operation: str,
    parameters: Sequence[float],
    logits: Tensor,
    targets: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    empty: str,
) -> None:
    """Raise for options out of range, and for a class that there is not, where the values may be looked at."""
    classes = logits.shape[-1] if logits.dim() else 0
    # The kernel checks shapes and options of no rows.
    nothing = np.empty((0, classes)), np.empty(0, np.int64)
    row_losses.row_loss(operation, parameters, *nothing, None, ignore_index, reduction, empty, False)
    if targets.is_meta or torch._C._are_functorch_transforms_active():
        return
    wrong = ((targets < 0) | (targets >= classes)) & (targets != ignore_index)
    if wrong.any():
        row = int(wrong.flatten().nonzero()[0])
        value = int(targets.flatten()[row])
        row_losses.no_class(operation, value, row, classes)
