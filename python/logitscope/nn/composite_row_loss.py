"""The losses over StableMax and of the spherical family in plain torch, with the semantics of their kernel.

The other path of ``logitscope.nn.functional.row_loss``: double backward, forward-mode derivatives, ``torch.func`` and
devices other than the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from logitscope.nn.functional._path import wide
from logitscope.nn.functional._stablemax import signed_log

if TYPE_CHECKING:
    from collections.abc import Sequence


def row_loss(
    logits: Tensor,
    operation: str,
    parameters: Sequence[float],
    targets: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    empty: str,
) -> Tensor:
    """Compute the loss that ``operation`` names of logits (..., V) and targets (...)."""
    logits = logits.to(wide(logits.dtype))
    live = targets != ignore_index
    # An ignored row is replaced, not multiplied by 0: NaN in it reaches neither the loss nor a gradient.
    logits = logits.masked_fill(~live[..., None], 0.0)
    targets = targets.masked_fill(~live, 0).long()
    losses = _losses(operation, parameters, logits, targets[..., None])
    weights = torch.ones_like(losses) if weight is None else weight.take(targets)
    weights = weights.masked_fill(~live, 0.0)
    losses = weights * losses
    if operation == "stablemax_cross_entropy" and parameters[0] > 0.0:
        losses = (1.0 - parameters[0]) * losses + parameters[0] * _of_all(logits, weight) * live
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    total, divisor = losses.sum(), weights.sum()
    if empty == "zero":
        return torch.where(divisor == 0, 0.0, total / torch.where(divisor == 0, 1.0, divisor))
    return total / divisor


def _losses(operation: str, parameters: Sequence[float], z: Tensor, targets: Tensor) -> Tensor:
    own = z.gather(-1, targets).squeeze(-1)
    match operation:
        case "stablemax_cross_entropy":
            return -torch.log_softmax(signed_log(z), -1).gather(-1, targets).squeeze(-1)
        case "margin_loss":
            return z.scatter(-1, targets, -torch.inf).max(dim=-1).values - own
        case "taylor_softmax_loss":
            return _of_shares(1 + z + 0.5 * z.square(), targets)
        case "squared_error_loss":
            return z.square().sum(-1) - own.square() + (own - 1).square()
        case "spherical_softmax_loss":
            return _of_shares(z.square() + parameters[0], targets)
    a, b = parameters
    from_mean = z - z.mean(-1, keepdim=True)
    variance = from_mean.square().mean(-1)
    # Equal logits have no deviation: there is nothing to divide by, and no gradient.
    alike = variance == 0
    deviation = torch.where(alike, 1.0, variance).sqrt()
    standardised = torch.where(alike, 0.0, (own - z.mean(-1)) / deviation)
    return nn.functional.softplus(a * (b - standardised)) / a


def _of_all(z: Tensor, weight: Tensor | None) -> Tensor:
    """The mean over all classes of the loss over StableMax; classes without weight count nothing."""
    losses = -torch.log_softmax(signed_log(z), -1)
    if weight is not None:
        losses = (weight * losses).masked_fill(weight == 0.0, 0.0)
    return losses.mean(-1)


def _of_shares(shares: Tensor, targets: Tensor) -> Tensor:
    others = shares.scatter(-1, targets, 0.0).sum(-1)
    return (others / shares.gather(-1, targets).squeeze(-1)).log1p()
