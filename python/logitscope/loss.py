"""Losses over logits."""

from __future__ import annotations

from logitscope.ops.cross_entropy import LossStats, cross_entropy, cross_entropy_backward
from logitscope.ops.linked_losses import (
    comp_sum_loss,
    focal_loss,
    generalized_cross_entropy,
    poly_loss,
    symmetric_cross_entropy,
)

__all__ = [
    "LossStats",
    "comp_sum_loss",
    "cross_entropy",
    "cross_entropy_backward",
    "focal_loss",
    "generalized_cross_entropy",
    "poly_loss",
    "symmetric_cross_entropy",
]
