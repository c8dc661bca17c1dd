"""Losses over logits."""

from __future__ import annotations

from logitscope.ops.cross_entropy import LossStats, cross_entropy, cross_entropy_backward

__all__ = ["LossStats", "cross_entropy", "cross_entropy_backward"]
