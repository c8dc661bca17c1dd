"""Losses over logits."""

from __future__ import annotations

from logitscope.ops.binary_cross_entropy import binary_cross_entropy_with_logits, sigmoid_focal_loss
from logitscope.ops.cross_entropy import LossStats, cross_entropy, cross_entropy_backward
from logitscope.ops.linear_cross_entropy import (
    LinearGradients,
    linear_cross_entropy,
    linear_cross_entropy_backward,
)
from logitscope.ops.linked_losses import (
    comp_sum_loss,
    focal_loss,
    generalized_cross_entropy,
    poly_loss,
    symmetric_cross_entropy,
)
from logitscope.ops.logsumexp_penalty import logsumexp_penalty
from logitscope.ops.row_losses import (
    margin_loss,
    spherical_loss,
    spherical_softmax_loss,
    stablemax_cross_entropy,
    taylor_softmax_loss,
    z_standardized_loss,
)

__all__ = [
    "LinearGradients",
    "LossStats",
    "binary_cross_entropy_with_logits",
    "comp_sum_loss",
    "cross_entropy",
    "cross_entropy_backward",
    "focal_loss",
    "generalized_cross_entropy",
    "linear_cross_entropy",
    "linear_cross_entropy_backward",
    "logsumexp_penalty",
    "margin_loss",
    "poly_loss",
    "sigmoid_focal_loss",
    "spherical_loss",
    "spherical_softmax_loss",
    "stablemax_cross_entropy",
    "symmetric_cross_entropy",
    "taylor_softmax_loss",
    "z_standardized_loss",
]
