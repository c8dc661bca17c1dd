"""The usual activations, which others are compared with, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from logitscope.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class ReLU2(nn.Module):
    """The square of ``max(x, 0)`` (So et al., arXiv 2109.08668).

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import ReLU2
    >>> ReLU2()(torch.tensor([-2.0, 3.0]))
    tensor([0., 9.])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply to each element."""
        return nn.functional.relu(x).square()


class SwiGLU(nn.Module):
    """``silu(a) * b`` of the two halves of a row (Shazeer, arXiv 2002.05202): takes two numbers for each that it gives.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import SwiGLU
    >>> SwiGLU()(torch.tensor([[0.0, 20.0, 5.0, 2.0]]))
    tensor([[ 0., 40.]])
    """

    inputs_per_output = 2
    """What :class:`FeedForward` makes its first layer wider by."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply to the rows of x (..., 2 H)."""
        if x.shape[-1] % 2:
            message = f"SwiGLU: x has shape {tuple(x.shape)}; use rows of an even length"
            raise ShapeError(message)
        gate, value = x.chunk(2, dim=-1)
        gated: Tensor = nn.functional.silu(gate) * value
        return gated


ACTIVATION: Mapping[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "relu2": ReLU2,
    "silu": nn.SiLU,
    "swiglu": SwiGLU,
    "tanh": nn.Tanh,
}
"""What this module offers under which name."""
