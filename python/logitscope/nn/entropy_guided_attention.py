"""Attention whose entropy is known and can be trained on, with a learned temperature for each head and position.

Jha and Reagen, "Entropy-Guided Attention for Private LLMs", arXiv 2501.03489.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from logitscope.errors import ArgumentError, ShapeError
from logitscope.nn.attention import FusedSelfAttention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

    from logitscope.nn.attention import SelfAttention

Temperature = Literal["per_head_position", "per_head"]

LOWEST_TEMPERATURE = 1e-3
"""A temperature that is learned as itself stays above."""


class EntropyGuidedAttention(FusedSelfAttention):
    """Multi-head causal self-attention that keeps the entropy of each row, with its gradient, in ``entropy``.

    Parameters
    ----------
    embed_dim
        Size of a token's vector, a multiple of ``num_heads``.
    num_heads
        Number of heads.
    max_len
        The longest sequence.
    temperature
        What divides the scores, 1 at first: "per_head_position" learns a number for each head and position, "per_head"
        one for each head, None none.
    log_param
        Learn the logarithm of the temperature, which cannot change its sign. Otherwise the temperature itself is
        learned, and kept above 0.001.
    num_kv_heads
        Number of heads of keys and values, a divisor of ``num_heads``.
    bias
        Whether the projections have one.

    Raises
    ------
    ArgumentError
        Naming the argument, what came and what would work. In a forward pass ``ShapeError`` if the sequence is longer
        than ``max_len``.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import EntropyGuidedAttention
    >>> attention = EntropyGuidedAttention(32, 4, max_len=8)
    >>> out = attention(torch.zeros(1, 8, 32))
    >>> attention.entropy[0, 0]  # of the uniform rows: log 1 .. log 8
    tensor([0.0000, 0.6931, 1.0986, 1.3863, 1.6094, 1.7918, 1.9459, 2.0794],
           grad_fn=<SelectBackward0>)
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        max_len: int,
        *,
        temperature: Temperature | None = "per_head_position",
        log_param: bool = True,
        num_kv_heads: int | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__(embed_dim, num_heads, num_kv_heads=num_kv_heads, bias=bias)
        if max_len < 1:
            message = f"EntropyGuidedAttention: max_len is {max_len}; use 1 or more"
            raise ArgumentError(message)
        columns = {"per_head_position": max_len, "per_head": 1, None: 0}
        if temperature not in columns:
            message = (
                f"EntropyGuidedAttention: temperature is {temperature!r}; "
                f"use 'per_head_position', 'per_head' or None"
            )
            raise ArgumentError(message)
        self.max_len = max_len
        self.log_param = log_param
        start = torch.zeros if log_param else torch.ones
        shape = (num_heads, columns[temperature])
        self.theta = None if temperature is None else nn.Parameter(start(shape))
        self.entropy: Tensor | None = None
        """(B, H, T), of the last forward pass, in nats, with its gradient."""

    @classmethod
    def in_gpt(cls, width: int, num_heads: int, context: int) -> Self:
        """Make one for texts of up to ``context`` tokens."""
        return cls(width, num_heads, context, bias=True)

    def learned_temperature(self, length: int) -> Tensor | None:
        """Give the temperatures of the first positions, (H, length) or (H, 1); None if none are learned."""
        if self.theta is None:
            return None
        theta = self.theta[:, :length]
        return theta.exp() if self.log_param else theta.clamp_min(LOWEST_TEMPERATURE)

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Weight the values, and keep the entropy."""
        length = q.shape[2]
        if length > self.max_len:
            message = f"EntropyGuidedAttention: {length} tokens; use {self.max_len} or fewer, its max_len"
            raise ShapeError(message)
        learned = self.learned_temperature(length)
        total = self.temperature if learned is None else learned * self.temperature
        result = self.attend(q, k, v, inv_temperature=1.0 / total, stats=("entropy",))
        self.entropy = result.entropy
        out: Tensor = result.out
        return out


ATTENTION: Mapping[str, type[SelfAttention]] = {"entropy_guided": EntropyGuidedAttention}
"""What this module offers under which name."""
