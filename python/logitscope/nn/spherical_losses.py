"""Losses of three numbers: the target's logit, and the sum of squares and the sum of all logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class SphericalLoss(Protocol):
    """What gives m losses of the targets' logits (m,) or (m, K), the sums of squares (m,), the sums (m,) and D."""

    def __call__(self, own: Tensor, square: Tensor, sum: Tensor, classes: int, /) -> Tensor:
        """Compute the losses."""


def z_loss_of(
    own: Tensor, square: Tensor, sum: Tensor, classes: int, *, a: float, b: float, **_: Any
) -> Tensor:
    """Softplus of the standardised logit (arXiv 1604.08859): shift and scale of all logits change nothing."""
    mean = sum / classes
    variance = square / classes - mean**2
    # Logits that are all the same have no standardised form: 0, and no gradient through it.
    flat = variance <= 1e-12 * (square / classes)
    deviation = torch.where(flat, 1.0, variance).sqrt() + 1e-12
    z = torch.where(flat, 0.0, (own - mean) / deviation)
    return -nn.functional.logsigmoid(a * (z - b)) / a


def taylor_loss_of(own: Tensor, square: Tensor, sum: Tensor, classes: int, **_: Any) -> Tensor:
    """Negative logarithm of the share of ``1 + o + o² / 2`` (arXiv 1511.05042)."""
    return torch.log(classes + sum + square / 2) - torch.log(1 + own + own**2 / 2)


def spherical_loss_of(
    own: Tensor, square: Tensor, sum: Tensor, classes: int, *, eps: float, **_: Any
) -> Tensor:
    """Negative logarithm of the share of ``o² + eps`` (arXiv 1511.05042)."""
    return torch.log(square + classes * eps) - torch.log(own**2 + eps)


def squared_loss_of(own: Tensor, square: Tensor, sum: Tensor, classes: int, **_: Any) -> Tensor:
    """Squared distance to 1 at the targets and 0 elsewhere."""
    several = own if own.dim() == 2 else own[:, None]
    return square - 2 * several.sum(dim=1) + several.shape[1]


LOSSES: Mapping[str, Any] = {
    "z": z_loss_of,
    "taylor": taylor_loss_of,
    "spherical": spherical_loss_of,
    "squared": squared_loss_of,
}
