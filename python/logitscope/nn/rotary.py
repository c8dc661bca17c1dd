"""Rotary positions: queries and keys turned by their place, so that scores depend on distances."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from logitscope.errors import ArgumentError


class RotaryPosition(nn.Module):
    """Turns pairs of a head's numbers by angles that grow with the position (RoPE, Su et al., arXiv 2104.09864).

    Parameters
    ----------
    head_dim
        Size of a head, even.
    base
        The slowest pair turns by ``base ** (2 / head_dim - 1)`` a position.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import RotaryPosition
    >>> turn, x = RotaryPosition(8), torch.ones(1, 1, 3, 8)
    >>> bool(torch.allclose(turn(x).norm(dim=-1), x.norm(dim=-1)))
    True
    >>> bool(torch.allclose(turn(x)[:, :, 1:], turn(x[:, :, 1:], start=1)))
    True
    """

    def __init__(self, head_dim: int, base: float = 10000.0) -> None:
        super().__init__()
        if head_dim % 2:
            message = f"RotaryPosition: head_dim is {head_dim}; use an even number"
            raise ArgumentError(message)
        speeds = base ** -(torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
        self.speeds: Tensor
        self.register_buffer("speeds", speeds, persistent=False)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Turn x (..., T, D), whose first position is ``start``."""
        positions = torch.arange(start, start + x.shape[-2], dtype=torch.float64, device=x.device)
        angles = positions[:, None] * self.speeds.double()
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        first, second = x.chunk(2, -1)
        return torch.cat((first * cos - second * sin, first * sin + second * cos), -1)
