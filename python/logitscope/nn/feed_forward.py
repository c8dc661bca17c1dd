"""The two-layer network of a transformer's block, with any activation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from logitscope.errors import ArgumentError
from logitscope.methods import find_method

if TYPE_CHECKING:
    from collections.abc import Callable


class FeedForward(nn.Module):
    """Linear layer, activation, linear layer.

    Parameters
    ----------
    dim
        Size of a row.
    hidden
        Numbers between the layers. By default ``4 * dim``; ``8 * dim / 3`` for a gated activation, whose first layer
        is twice as wide, so that the networks of all activations have about as many weights.
    activation
        A name of ``logitscope.methods.method_names("activation")``, or what makes a module when called.
    match_params_to
        Choose ``hidden`` so that there are about as many parameters as in this module.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import FeedForward
    >>> [FeedForward(48, activation=name).down.in_features for name in ("polynorm", "swiglu")]
    [192, 128]
    >>> FeedForward(48)(torch.zeros(2, 48)).shape
    torch.Size([2, 48])
    """

    def __init__(
        self,
        dim: int,
        hidden: int | None = None,
        activation: str | Callable[[], nn.Module] = "gelu",
        *,
        match_params_to: nn.Module | None = None,
    ) -> None:
        super().__init__()
        make = find_method("activation", activation) if isinstance(activation, str) else activation
        inner: nn.Module = make()
        factor = int(getattr(inner, "inputs_per_output", 1))
        if hidden is not None and match_params_to is not None:
            message = "FeedForward: hidden and match_params_to both say how wide it is; use one of them"
            raise ArgumentError(message)
        if match_params_to is not None:
            others = dim + _size(inner)
            hidden = max(1, round((_size(match_params_to) - others) / (factor * (dim + 1) + dim)))
        elif hidden is None:
            hidden = round(8 * dim / (1 + factor))
        if dim < 1 or hidden < 1:
            message = f"FeedForward: dim is {dim} and hidden {hidden}; use 1 or more"
            raise ArgumentError(message)
        self.up = nn.Linear(dim, factor * hidden)
        self.activation = inner
        self.down = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) to (..., dim)."""
        out: Tensor = self.down(self.activation(self.up(x)))
        return out


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
