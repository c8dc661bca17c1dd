"""Causal self-attention over the fused kernel: its temperature can be turned, its statistics watched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor, nn

from logitscope.nn import functional
from logitscope.ops.attention import attention as fused_attention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logitscope.ops.attention import AttentionResult
    from logitscope.record.watch import AttentionObservation, AttentionRequest


class Observer(Protocol):
    """Who wants to see an attention module at work, such as ``logitscope.record``'s watch."""

    def request(self, module: CausalSelfAttention) -> AttentionRequest | None:
        """Say what is wanted of this forward pass; None for nothing."""

    def observe(self, module: CausalSelfAttention, observation: AttentionObservation) -> None:
        """Take what was asked for."""


class SelfAttention(nn.Module):
    """What the kinds of causal self-attention share: the projections, and the cut into heads.

    Parameters
    ----------
    width
        Size of a token's vector, a multiple of ``num_heads``.
    num_heads
        Number of heads.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.temperature: float | Tensor = 1.0
        """What the scores are divided by: a number, or a tensor (a buffer or parameter) that broadcasts to
        (B, H, T). A compiled model wants a tensor: it is compiled anew for each number."""

    def forward(self, x: Tensor) -> Tensor:
        """Attend: (B, T, width) to (B, T, width)."""
        batch, length, width = x.shape
        heads = self.qkv(x).view(batch, length, 3, self.num_heads, width // self.num_heads)
        # Views, each (B, H, T, D); cut along dimension 2, so that their gradients go into place in one copy.
        q, k, v = (part.transpose(1, 2) for part in heads.unbind(2))
        mixed = self.mix(q, k, v)
        projected: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return projected

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Weight the values of the tokens seen so far: (B, H, T, D) each."""
        raise NotImplementedError


class CausalSelfAttention(SelfAttention):
    """Multi-head causal self-attention with logitscope's kernel.

    Parameters
    ----------
    width
        Size of a token's vector, a multiple of ``num_heads``.
    num_heads
        Number of heads.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import CausalSelfAttention
    >>> CausalSelfAttention(32, 4)(torch.zeros(1, 8, 32)).shape
    torch.Size([1, 8, 32])
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__(width, num_heads)
        self.observer: Observer | None = None

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Weight the values, and tell the observer how, if it wants to know."""
        request = None if self.observer is None else self.observer.request(self)
        result = functional.attention(
            q,
            k,
            v,
            inv_temperature=1.0 / self.temperature,
            is_causal=True,
            stats=() if request is None else ("entropy",),
        )
        if request is not None and self.observer is not None:
            self.observer.observe(self, self._observation(q, k, result, request))
        out: Tensor = result.out
        return out

    def _observation(
        self, q: Tensor, k: Tensor, result: AttentionResult, request: AttentionRequest
    ) -> AttentionObservation:
        from logitscope.record.watch import AttentionObservation

        return AttentionObservation(
            max_logit=result.max_logit.numpy(force=True),
            entropy=result.entropy.numpy(force=True),
            lse=result.lse.numpy(force=True),
            map=self._map(q, k, request),
            visible=np.arange(1, q.shape[2] + 1),
        )

    def _map(self, q: Tensor, k: Tensor, request: AttentionRequest) -> Any:
        """Average the weights of one batch element in bins."""
        if request.map_bins is None or 0 in q.shape[:3]:
            return None
        sample = min(request.sample, q.shape[0] - 1)
        queries, keys = (tensor[sample : sample + 1].numpy(force=True) for tensor in (q, k))
        inv_temperature: Any = 1.0 / self.temperature
        if isinstance(inv_temperature, Tensor):
            rows = inv_temperature.expand(q.shape[:3])[sample : sample + 1]
            inv_temperature = rows.numpy(force=True)
        # The values do not matter for the weights: the keys stand in.
        result = fused_attention(
            queries,
            keys,
            keys,
            inv_temperature=np.asarray(inv_temperature, queries.dtype),
            is_causal=True,
            map_bins=(min(request.map_bins[0], q.shape[2]), min(request.map_bins[1], q.shape[2])),
        )
        return result.map[0]


ATTENTION: Mapping[str, type[SelfAttention]] = {"softmax": CausalSelfAttention}
"""What this module offers under which name."""
