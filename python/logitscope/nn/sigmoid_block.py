"""A transformer block around sigmoid attention, with the norms that Ramapuram et al. (arXiv 2409.04431) advise."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from logitscope.errors import ArgumentError
from logitscope.nn.sigmoid_attention import SigmoidAttention


class LayerScale(nn.Module):
    """Multiplies each channel by a learned factor, small at first (Touvron et al., arXiv 2103.17239).

    Parameters
    ----------
    dim
        Number of channels, the last axis.
    init
        The first factor.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import LayerScale
    >>> LayerScale(2, init=0.5)(torch.tensor([2.0, 4.0])).tolist()
    [1.0, 2.0]
    """

    def __init__(self, dim: int, init: float = 1e-4) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Tensor) -> Tensor:
        """Scale x (..., dim)."""
        return x * self.factor


class SigmoidTransformerBlock(nn.Module):
    """Sigmoid attention and a two-layer network, each added to its normalised input.

    Parameters
    ----------
    embed_dim, num_heads, seq_len
        As in :class:`SigmoidAttention`.
    norm
        "pre", or "hybrid", which also normalises what attention adds: ``x + norm(attn(norm(x)))``, for long texts.
    layer_scale
        First factor of a :class:`LayerScale` on both branches, as advised for vision; None for none.
    hidden
        Width of the network, four times ``embed_dim`` by default.
    options
        Further options of :class:`SigmoidAttention`.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import SigmoidTransformerBlock
    >>> block = SigmoidTransformerBlock(32, 4, seq_len=8, norm="hybrid", layer_scale=1e-4, qk_norm=True)
    >>> block(torch.zeros(1, 8, 32)).shape
    torch.Size([1, 8, 32])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        seq_len: int,
        norm: Literal["pre", "hybrid"] = "pre",
        layer_scale: float | None = None,
        hidden: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if norm not in ("pre", "hybrid"):
            message = f"SigmoidTransformerBlock: norm is {norm!r}; use 'pre' or 'hybrid'"
            raise ArgumentError(message)
        hidden = 4 * embed_dim if hidden is None else hidden
        if norm == "hybrid":
            options.setdefault("out_norm", "layer")
        self.attention_norm = nn.LayerNorm(embed_dim)
        self.attention = SigmoidAttention(embed_dim, num_heads, seq_len=seq_len, **options)
        self.network_norm = nn.LayerNorm(embed_dim)
        self.network = nn.Sequential(nn.Linear(embed_dim, hidden), nn.GELU(), nn.Linear(hidden, embed_dim))
        scales = [None if layer_scale is None else LayerScale(embed_dim, layer_scale) for _ in range(2)]
        self.attention_scale, self.network_scale = (
            nn.Identity() if scale is None else scale for scale in scales
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, embed_dim) to (B, T, embed_dim)."""
        x = x + self.attention_scale(self.attention(self.attention_norm(x)))
        deeper: Tensor = x + self.network_scale(self.network(self.network_norm(x)))
        return deeper
