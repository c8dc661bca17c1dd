"""Layers in the parameterisation in which wide networks train as kernels."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from logitscope.errors import ArgumentError
from logitscope.methods import find_method

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class NTKLinear(nn.Module):
    """Linear layer with standard normal parameters, scaled in the forward pass (arXiv 1806.07572).

    ``sigma_w / sqrt(in_features) * W x + sigma_b * b``: gradients stay of one size as the layer gets wider.

    Parameters
    ----------
    in_features, out_features
        Sizes.
    sigma_w, sigma_b
        What weights and biases are scaled by; the paper has 1 and writes beta for the second.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import NTKLinear
    >>> NTKLinear(3, 2)(torch.zeros(1, 3)).shape
    torch.Size([1, 2])
    """

    def __init__(
        self, in_features: int, out_features: int, sigma_w: float = 1.0, sigma_b: float = 0.1
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            message = f"NTKLinear: sizes are {in_features} and {out_features}; use 1 or more"
            raise ArgumentError(message)
        self.sigma_w, self.sigma_b = sigma_w, sigma_b
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.randn(out_features))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        scale = self.sigma_w / math.sqrt(self.weight.shape[1])
        out: Tensor = nn.functional.linear(x, scale * self.weight, self.sigma_b * self.bias)
        return out

    def extra_repr(self) -> str:
        """Show sizes and scales."""
        out_features, in_features = self.weight.shape
        return f"{in_features}, {out_features}, sigma_w={self.sigma_w}, sigma_b={self.sigma_b}"


def ntk_mlp(
    widths: Sequence[int],
    activation: str | Callable[[], nn.Module] = "relu",
    sigma_w: float = 1.0,
    sigma_b: float = 0.1,
) -> nn.Sequential:
    """Fully connected network of :class:`NTKLinear` layers, whose kernel tends to ``theory.ntk_kernel``.

    Parameters
    ----------
    widths
        Inputs, hidden layers and outputs; ``len(widths) - 1`` is the depth of ``theory.ntk_kernel``.
    activation
        A name of ``method_names("activation")``, or what makes a module; after every layer but the last.
    sigma_w, sigma_b
        As in :class:`NTKLinear`.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import ntk_mlp
    >>> ntk_mlp([64, 256, 256, 1])(torch.zeros(5, 64)).shape
    torch.Size([5, 1])
    """
    if len(widths) < 2:
        message = f"ntk_mlp: widths are {list(widths)}; use at least inputs and outputs"
        raise ArgumentError(message)
    make = find_method("activation", activation) if isinstance(activation, str) else activation
    layers: list[nn.Module] = []
    for width, next_width in pairwise(widths):
        layers += [NTKLinear(width, next_width, sigma_w, sigma_b), make()]
    return nn.Sequential(*layers[:-1])
