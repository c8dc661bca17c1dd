"""Binary cross entropy and the focal loss with their gradient, which the kernel makes in the same call."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from logitscope.nn.functional._composite_gradient import composite_gradients
from logitscope.nn.functional._path import array, check_dtype, needs_composite, tensor_of, wide
from logitscope.ops.binary_cross_entropy import Options, binary_loss


def differentiable(operation: str, logits: Tensor, targets: Tensor, options: Options) -> Tensor:
    """Compute a loss of the family with the gradients of whatever requires one."""
    check_dtype(operation, logits=logits, targets=targets)
    weight, pos_weight = (
        None if one is None else torch.as_tensor(one, dtype=wide(logits.dtype), device=logits.device)
        for one in (options.weight, options.pos_weight)
    )
    other_gradients = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (targets, weight, pos_weight)
    )
    gamma, alpha = options.focal or (None, None)
    rest = (weight, pos_weight, gamma, alpha, options.reduction)
    if other_gradients or needs_composite(logits, targets, weight, pos_weight):
        # The kernel checks the options of no elements.
        nothing = np.empty((0, 1))
        binary_loss(operation, nothing, nothing, Options(None, None, options.focal, options.reduction), False)
        return _composite(logits, targets, *rest)
    with_gradient = torch.is_grad_enabled() and logits.requires_grad
    loss: Tensor = _binary_cross_entropy(logits, targets, *rest, with_gradient)[0]
    return loss


def _composite(
    logits: Tensor,
    targets: Tensor,
    weight: Tensor | None,
    pos_weight: Tensor | None,
    gamma: float | None,
    alpha: float | None,
    reduction: str,
) -> Tensor:
    z, t = logits.to(wide(logits.dtype)), targets.to(wide(logits.dtype))
    # A target of 0 or 1 has no part in the other term, even at an infinite logit.
    up = torch.where(t == 1, 0.0, (1 - t) * nn.functional.softplus(torch.where(t == 1, 0.0, z)))
    down = torch.where(t == 0, 0.0, t * nn.functional.softplus(-torch.where(t == 0, 0.0, z)))
    losses = up + (down if pos_weight is None else pos_weight * down)
    if gamma:
        u = (1 - t) * torch.sigmoid(z) + t * torch.sigmoid(-z)
        losses = u**gamma * losses
    if alpha is not None:
        losses = (alpha * t + (1 - alpha) * (1 - t)) * losses
    if weight is not None:
        losses = weight * losses
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.mean()


@torch.library.custom_op("logitscope::binary_cross_entropy", mutates_args=())
def _binary_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    weight: Tensor | None,
    pos_weight: Tensor | None,
    gamma: float | None,
    alpha: float | None,
    reduction: str,
    with_gradient: bool,
) -> tuple[Tensor, Tensor]:
    factors, positive = (None if one is None else array(one) for one in (weight, pos_weight))
    options = Options(factors, positive, None if gamma is None else (gamma, alpha), reduction)
    operation = "binary_cross_entropy_with_logits" if gamma is None else "sigmoid_focal_loss"
    answer = binary_loss(operation, array(logits), array(targets), options, with_gradient)
    loss, gradient = answer if with_gradient else (answer, None)
    return (
        torch.as_tensor(loss).reshape(logits.shape if reduction == "none" else ()),
        logits.new_empty(0) if gradient is None else tensor_of(gradient),
    )


@_binary_cross_entropy.register_fake
def _(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    reduction, with_gradient = arguments[-2:]
    loss = logits.new_empty(logits.shape if reduction == "none" else (), dtype=wide(logits.dtype))
    return loss, logits.new_empty(logits.shape if with_gradient else 0)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    logits, targets, weight, pos_weight, *ctx.rest, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(logits, targets, weight, pos_weight, output[1])


def _gradient(ctx: Any, dloss: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    logits, targets, weight, pos_weight, gradient = ctx.saved_tensors
    if torch.is_grad_enabled():  # the gradient will be differentiated itself
        names = ("gamma", "alpha", "reduction")
        fixed = dict(zip(names, ctx.rest, strict=True)) | {"weight": weight, "pos_weight": pos_weight}
        composite = partial(_composite, targets=targets, **fixed)
        (dlogits,) = composite_gradients(ctx, composite, (logits,), dloss)
    else:
        dlogits = (gradient * dloss).to(gradient.dtype)
    return dlogits, *(None,) * 7


_binary_cross_entropy.register_autograd(_gradient, setup_context=_keep)
