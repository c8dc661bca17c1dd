"""Causal self-attention with torch's own kernel: what ours is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from logitscope.nn.attention import SelfAttention

if TYPE_CHECKING:
    from collections.abc import Mapping


class TorchCausalSelfAttention(SelfAttention):
    """Multi-head causal self-attention with torch's ``scaled_dot_product_attention``; it cannot be watched.

    Parameters
    ----------
    width
        Size of a token's vector, a multiple of ``num_heads``.
    num_heads
        Number of heads.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import TorchCausalSelfAttention
    >>> TorchCausalSelfAttention(32, 4)(torch.zeros(1, 8, 32)).shape
    torch.Size([1, 8, 32])
    """

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Weight the values."""
        factor = 1.0 / self.temperature
        if isinstance(factor, Tensor):
            q = q * factor.expand(q.shape[:3])[..., None]
        elif factor != 1.0:
            q = q * factor
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


ATTENTION: Mapping[str, type[SelfAttention]] = {"torch": TorchCausalSelfAttention}
"""What this module offers under which name."""
