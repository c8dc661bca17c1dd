"""Activations with trainable coefficients and their gradients, and the usual ones beside them."""

from __future__ import annotations

from logitscope.ops.poly_norm import poly_norm, poly_norm_backward
from logitscope.ops.poly_relu import poly_relu, poly_relu_backward
from logitscope.ops.usual_activations import gelu, relu2, swiglu

__all__ = ["gelu", "poly_norm", "poly_norm_backward", "poly_relu", "poly_relu_backward", "relu2", "swiglu"]
