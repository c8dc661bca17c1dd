"""The loss family over class logits in plain torch, with the semantics of the kernel.

The other path of ``logitscope.nn.functional.cross_entropy``: double backward, forward-mode derivatives,
``torch.func``, devices other than the CPU, and gradients of soft targets. An infinite loss has NaN for a gradient,
as in torch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from logitscope.nn.functional._path import wide

if TYPE_CHECKING:
    from logitscope.ops._loss_problem import Options


def cross_entropy(logits: Tensor, targets: Tensor, options: Options) -> Tensor:
    """Compute the loss of logits (..., V) and targets (...) or (..., V); ``options`` hold tensors.

    The class weights and the normalizer of the options are tensors or None.
    """
    soft = targets.is_floating_point()
    logits = logits.to(wide(logits.dtype))
    targets = targets.to(logits.dtype) if soft else targets
    live = torch.ones(logits.shape[:-1], dtype=torch.bool, device=logits.device)
    if not soft:
        live = targets != options.ignore_index
        # An ignored row is replaced, not multiplied by 0: NaN in it reaches neither the loss nor a gradient.
        logits = logits.masked_fill(~live[..., None], 0.0)
        targets = targets.masked_fill(~live, 0).long()[..., None]
    z = logits * (1 / options.temperature)
    if options.softcap is not None:
        z = options.softcap * torch.tanh(z / options.softcap)
    weight = logits.new_ones(logits.shape[-1]) if options.weight is None else options.weight
    of_target = None if soft else weight.expand(logits.shape).gather(-1, targets)
    if of_target is None or options.label_smoothing:
        masses = _masses(logits, targets, weight, of_target, options)
        # Without mass there is no loss, however unlikely the class.
        v = (-z.log_softmax(dim=-1)).masked_fill(masses == 0, 0.0)
        losses = (masses * _link(v, options)).sum(dim=-1)
    else:
        losses = of_target.squeeze(-1) * _link(_minus_log_p(z, targets, options.complement), options)
    losses = losses.masked_fill(~live, 0.0)
    penalties = _penalties(z, options).masked_fill(~live, 0.0)
    if options.reduction == "none":
        return losses + penalties
    if options.reduction == "sum":
        return losses.sum() + penalties.sum()
    if options.normalizer is not None:
        normalized: Tensor = (losses + penalties) / options.normalizer
        return normalized.sum().to(logits.dtype)
    count = live.sum()
    divisor = count if of_target is None else (of_target.squeeze(-1) * live).sum()
    if options.empty == "zero":
        losses = torch.where(divisor == 0, 0.0, losses)
        divisor, count = torch.where(divisor == 0, 1, divisor), count.clamp(min=1)
    return losses.sum() / divisor + penalties.sum() / count


def _minus_log_p(z: Tensor, targets: Tensor, complement: bool) -> Tensor:
    """Compute -log p of the targets; in complement form log(1 + sum over the other classes)."""
    own = z.gather(-1, targets)
    if not complement:
        return z.logsumexp(dim=-1) - own.squeeze(-1)
    others = (z - own).scatter(-1, targets, -torch.inf)
    return -nn.functional.logsigmoid(-others.logsumexp(dim=-1))


def _masses(
    logits: Tensor, targets: Tensor, weight: Tensor, of_target: Tensor | None, options: Options
) -> Tensor:
    smoothing = options.label_smoothing
    receives = logits > -torch.inf if options.smooth_over == "finite" else torch.ones_like(logits).bool()
    share = receives * (smoothing / receives.sum(dim=-1, keepdim=True).clamp(min=1).to(logits.dtype))
    if of_target is None:
        return weight * ((1 - smoothing) * targets + share)
    return (weight * share).scatter_add(-1, targets, (1 - smoothing) * of_target)


def _penalties(z: Tensor, options: Options) -> Tensor:
    penalties = z.new_zeros(z.shape[:-1])
    if options.lse_square_scale:
        penalties = penalties + options.lse_square_scale * z.logsumexp(dim=-1).square()
    if options.entropy_weight:
        log_p = z.log_softmax(dim=-1)
        entropy = -(log_p.exp() * log_p.masked_fill(log_p == -torch.inf, 0.0)).sum(dim=-1)
        penalties = penalties + options.entropy_weight * entropy
    return penalties


def _link(v: Tensor, options: Options) -> Tensor:
    """Compute phi(v)."""
    values = options.link_params
    match options.link:
        case "comp_sum":
            return _comp_sum(v, values["tau"])
        case "gce":
            return _comp_sum(v, 1 + values["q"])
        case "mae":
            return _comp_sum(v, 2.0)
        case "focal":
            return (-torch.expm1(-v)) ** values["gamma"] * v
        case "poly":
            return v - values["epsilon"] * torch.expm1(-v)
        case "symmetric":
            return values["a"] * v + values["b"] * values["log_zero"] * torch.expm1(-v)
        case "truncated_gce":
            return _comp_sum(v.clamp(max=-math.log(values["k"])), 1 + values["q"])
    return v


def _comp_sum(v: Tensor, tau: float) -> Tensor:
    return v if tau == 1 else torch.expm1((1 - tau) * v) / (1 - tau)
