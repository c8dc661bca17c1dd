"""Activations with trainable coefficients, and their gradients."""

from __future__ import annotations

from logitscope.ops.poly_norm import poly_norm, poly_norm_backward
from logitscope.ops.poly_relu import poly_relu, poly_relu_backward

__all__ = ["poly_norm", "poly_norm_backward", "poly_relu", "poly_relu_backward"]
