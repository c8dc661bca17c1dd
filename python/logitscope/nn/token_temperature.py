"""Temperatures that tokens make themselves, and that grow with the position: the gates of selective attention.

Zhang et al., "Selective Attention", NeurIPS 2024, arXiv 2411.12892.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from logitscope.errors import ArgumentError, ShapeError

PositionKind = Literal["sigmoid", "gompertz"]


class TokenTemperature(nn.Module):
    """``tanh(w . gelu(h))`` of each head's vector h; 0 at first.

    Parameters
    ----------
    head_dim
        Size of a head.
    num_heads
        Number of heads.
    per_head
        Whether each head has a ``w`` of its own.
    network
        (width, hidden): make h from the whole token by a matrix of its own, instead of taking it from attention's
        projection, whose weights are then shared.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import TokenTemperature
    >>> gate = TokenTemperature(8, num_heads=2)
    >>> gate(torch.ones(1, 2, 5, 8)).shape, sum(p.numel() for p in gate.parameters())
    (torch.Size([1, 2, 5]), 16)
    """

    def __init__(
        self, head_dim: int, num_heads: int, *, per_head: bool = True, network: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        size = head_dim if network is None else network[1]
        self.num_heads = num_heads
        self.network = None if network is None else nn.Linear(*network, bias=False)
        self.w = nn.Parameter(torch.zeros(num_heads if per_head else 1, size))

    def forward(self, x: Tensor) -> Tensor:
        """Gate of each head, (B, H, T), of heads (B, H, T, D), or of tokens (B, T, width) if it has a network."""
        if self.network is not None:
            raw = nn.functional.gelu(self.network(x)) @ self.w.T
            return torch.tanh(raw).transpose(1, 2).expand(-1, self.num_heads, -1)
        if x.dim() != 4 or x.shape[1] != self.num_heads or x.shape[3] != self.w.shape[1]:
            wanted = f"(B, {self.num_heads}, T, {self.w.shape[1]})"
            message = f"TokenTemperature: x has shape {tuple(x.shape)}; use {wanted}"
            raise ShapeError(message)
        return torch.tanh((nn.functional.gelu(x) * self.w[:, None]).sum(-1))


class PositionTemperature(nn.Module):
    """``s(alpha) log n`` of positions n = 1, 2, ...: what keeps attention from thinning out over long texts.

    Parameters
    ----------
    alpha_init
        The first alpha.
    kind
        "sigmoid" or "gompertz", which is ``exp(-exp(alpha))``: what brings alpha to 0..1.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import PositionTemperature
    >>> PositionTemperature(0.0)(torch.tensor([1.0, 10.0])).tolist()
    [0.0, 1.1512925624847412]
    """

    def __init__(self, alpha_init: float = -4.6, kind: PositionKind = "sigmoid") -> None:
        super().__init__()
        if kind not in get_args(PositionKind):
            message = f"PositionTemperature: kind is {kind!r}; use {' or '.join(get_args(PositionKind))}"
            raise ArgumentError(message)
        self.kind = kind
        self.alpha = nn.Parameter(torch.tensor(float(alpha_init)))

    @property
    def rate(self) -> Tensor:
        """What the logarithm is multiplied by, 0 to 1."""
        return torch.sigmoid(self.alpha) if self.kind == "sigmoid" else torch.exp(-torch.exp(self.alpha))

    def forward(self, positions: Tensor) -> Tensor:
        """Term of each position, of any shape."""
        check_positions("PositionTemperature", positions)
        return self.rate * positions.log()


def check_positions(operation: str, positions: Tensor) -> None:
    """Raise for a position below 1, where the values may be looked at."""
    if positions.is_meta or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return
    if positions.numel() and positions.min() < 1:
        message = f"{operation}: positions has {positions.min().item():g}; use 1 or more, the first is 1"
        raise ArgumentError(message)
