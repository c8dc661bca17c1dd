"""Sigmoid self-attention: each key is weighted for itself, with a bias that keeps the sums of the weights near 1.

Ramapuram et al., "Theory, Analysis, and Best Practices for Sigmoid Self-Attention", ICLR 2025, arXiv 2409.04431.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from logitscope.errors import ArgumentError
from logitscope.nn.attention import FusedSelfAttention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

    from logitscope.nn.attention import SelfAttention
    from logitscope.nn.rotary import RotaryPosition

OutNorm = Literal["rms", "layer"]


class SigmoidAttention(FusedSelfAttention):
    """Multi-head self-attention with ``sigmoid(q.k / sqrt(D) / temperature + b)`` in place of the softmax.

    Parameters
    ----------
    embed_dim
        Size of a token's vector, a multiple of ``num_heads``.
    num_heads
        Number of heads.
    seq_len
        n, how many tokens a training sequence has; needed for ``bias_init="auto"``.
    bias_init
        b: "auto" for ``-log(n)``, the paper's, or a number.
    learn_bias
        Whether each head learns its own b.
    qk_norm
        Whether each head's queries and keys are normalised by their root mean square (QK norm).
    out_norm
        Normalise what is added to the residual stream, "rms" or "layer" (the paper's hybrid norm for long texts).
    alibi
        Whether scores fall with the distance of the tokens (ALiBi).
    rope
        A :class:`RotaryPosition` for queries and keys.
    num_kv_heads
        Number of heads of keys and values, a divisor of ``num_heads``.
    causal
        Whether a token sees only those up to itself.
    bias
        Whether the projections have one.
    length_rescale
        Whether sequences of another length m than n add ``log(n / m)`` to b.

    Raises
    ------
    ArgumentError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import SigmoidAttention
    >>> attention = SigmoidAttention(32, 4, seq_len=8)
    >>> attention(torch.zeros(1, 8, 32)).shape, round(float(attention.sigmoid_bias[0]), 4)
    (torch.Size([1, 8, 32]), -2.0794)
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        seq_len: int | None = None,
        bias_init: Literal["auto"] | float = "auto",
        learn_bias: bool = False,
        qk_norm: bool = False,
        out_norm: OutNorm | None = None,
        alibi: bool = False,
        rope: RotaryPosition | None = None,
        num_kv_heads: int | None = None,
        causal: bool = True,
        bias: bool = False,
        length_rescale: bool = False,
    ) -> None:
        super().__init__(embed_dim, num_heads, num_kv_heads=num_kv_heads, bias=bias, causal=causal)
        start = _first_bias(bias_init, seq_len)
        if length_rescale and seq_len is None:
            message = "SigmoidAttention: length_rescale needs seq_len; give the length of training sequences"
            raise ArgumentError(message)
        self.seq_len = seq_len
        self.length_rescale = length_rescale
        self.sigmoid_bias: Tensor
        self.alibi_slopes: Tensor | None
        biases = torch.full((num_heads,), start)
        if learn_bias:
            self.sigmoid_bias = nn.Parameter(biases)
        else:
            self.register_buffer("sigmoid_bias", biases)
        self.register_buffer("alibi_slopes", alibi_slopes(num_heads) if alibi else None)
        self.q_norm = nn.RMSNorm(self.head_dim) if qk_norm else None
        self.k_norm = nn.RMSNorm(self.head_dim) if qk_norm else None
        self.out_norm = _norm(out_norm, embed_dim)
        self.rope = rope

    @classmethod
    def in_gpt(cls, width: int, num_heads: int, context: int) -> Self:
        """Make one for training sequences of ``context`` tokens."""
        return cls(width, num_heads, seq_len=context, bias=True)

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Weight the values."""
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rope is not None:
            q, k = self.rope(q), self.rope(k)
        bias = self.sigmoid_bias
        if self.length_rescale and self.seq_len is not None:
            bias = bias + math.log(self.seq_len / max(k.shape[2], 1))
        slopes = self.alibi_slopes
        out: Tensor = self.attend(
            q,
            k,
            v,
            inv_temperature=1.0 / self.temperature,
            kind="sigmoid",
            sigmoid_bias=bias.to(q.dtype),
            alibi_slopes=None if slopes is None else slopes.to(q.dtype),
        ).out
        return out

    def join(self, mixed: Tensor) -> Tensor:
        """What the heads give to tokens, normalised if so asked."""
        joined = super().join(mixed)
        return joined if self.out_norm is None else self.out_norm(joined)

    def extra_repr(self) -> str:
        """Show the bias."""
        return f"sigmoid_bias={float(self.sigmoid_bias.detach()[0]):.4f}, causal={self.causal}"


def alibi_slopes(num_heads: int) -> Tensor:
    """Slopes of ALiBi (Press et al., arXiv 2108.12409): a geometric row of powers of 2 for H heads, (H,).

    Where H is no power of 2 the row of the next smaller one is filled up with every other slope of the next larger.
    """
    whole = 2 ** math.floor(math.log2(num_heads))
    slopes = 2.0 ** (-8.0 / whole * torch.arange(1, whole + 1))
    between = 2.0 ** (-4.0 / whole * (2 * torch.arange(num_heads - whole) + 1))
    return torch.cat((slopes, between))


def _first_bias(bias_init: str | float, seq_len: int | None) -> float:
    if seq_len is not None and seq_len < 1:
        message = f"SigmoidAttention: seq_len is {seq_len}; use 1 or more"
        raise ArgumentError(message)
    if not isinstance(bias_init, str):
        return float(bias_init)
    if bias_init != "auto":
        message = f"SigmoidAttention: bias_init is {bias_init!r}; use 'auto' or a number"
        raise ArgumentError(message)
    if seq_len is None:
        message = "SigmoidAttention: bias_init='auto' needs seq_len; give the length of training sequences"
        raise ArgumentError(message)
    return -math.log(seq_len)


def _norm(kind: str | None, width: int) -> nn.Module | None:
    if kind is None:
        return None
    if kind == "rms":
        return nn.RMSNorm(width)
    if kind == "layer":
        return nn.LayerNorm(width)
    message = f"SigmoidAttention: out_norm is {kind!r}; use 'rms', 'layer' or None"
    raise ArgumentError(message)


ATTENTION: Mapping[str, type[SelfAttention]] = {"sigmoid": SigmoidAttention}
"""What this module offers under which name."""
