"""Selective self-attention: each token says how sharply it looks, and how much of it is seen.

Zhang, Chang, Li, Roy-Chowdhury, Chen and Oymak, "Selective Attention: Enhancing Transformer through Principled Context
Control", NeurIPS 2024, arXiv 2411.12892.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from logitscope.errors import ArgumentError, ShapeError
from logitscope.nn.attention import FusedSelfAttention
from logitscope.nn.token_temperature import PositionTemperature, TokenTemperature, check_positions
from logitscope.ops.attention_decode import attention_decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

    from logitscope.nn.attention import SelfAttention
    from logitscope.nn.rotary import RotaryPosition
    from logitscope.nn.token_temperature import PositionKind
    from logitscope.ops.attention_result import AttentionResult
    from logitscope.ops.kv_cache import KVCache


class SelectiveStats(NamedTuple):
    """What :class:`SelectiveAttention` returns beside its output when asked."""

    tau_q: Tensor
    """(B, H, T), inverse temperature of each query."""
    tau_v: Tensor
    """(B, kv heads, S), what each value is multiplied by."""
    entropy: Tensor
    """(B, H, T), of the weights, in nats."""
    max_logit: Tensor
    """(B, H, T), largest score of each query."""


class SelectiveAttention(FusedSelfAttention):
    """Attention whose queries have an inverse temperature and whose values have a gate, both made from the token.

    Parameters
    ----------
    embed_dim
        Size of a token's vector.
    num_heads
        Number of heads.
    num_kv_heads
        Number of heads of keys and values, a divisor of ``num_heads``.
    head_dim
        Size of a head; ``embed_dim / num_heads`` by default.
    query_gate, value_gate
        Whether queries have a temperature made from the token, and values a gate.
    position
        Whether a query's inverse temperature grows with the logarithm of the number of keys that it sees.
    value_position
        The same for values.
    weight_sharing
        Make gates from the projected queries and values, which adds next to no parameters; otherwise from the token
        through a network of ``tmp_hidden`` units.
    per_head_gate
        Whether each head has a gate of its own.
    tmp_hidden
        Width of that network, a quarter of ``embed_dim`` by default; not with ``weight_sharing``.
    alpha_init
        First parameter of the position's term. At -4.6 a converted model is almost what it was; 0 is good for training
        from scratch.
    pos_param
        "sigmoid" for ``sigmoid(alpha) log n``, the paper's, or "gompertz" for ``exp(-exp(alpha)) log n``, its code's.
    rope
        A :class:`RotaryPosition` for queries and keys.
    bias
        Whether the projections have one.
    causal
        Whether a token sees only those up to itself.
    batch_first
        Whether tokens are (B, T, embed_dim) rather than (T, B, embed_dim).

    Raises
    ------
    ArgumentError
        Naming the argument, what came and what would work.

    Notes
    -----
    ``tau(x) = tanh(w . gelu(q)) + 1 + sigmoid(alpha) log n``, for the n-th token. The gates' ``w`` start at 0, so
    a new module without the position's term is ordinary attention. A temperature of 0 looks everywhere alike, a
    negative one turns the order of the keys around.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import SelectiveAttention
    >>> attention = SelectiveAttention(32, 4, alpha_init=0.0)
    >>> out, stats = attention(torch.zeros(1, 3, 32), need_stats=True)
    >>> stats.tau_q[0, 0]  # 1 + log(n) / 2
    tensor([1.0000, 1.3466, 1.5493], grad_fn=<SelectBackward0>)
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        query_gate: bool = True,
        value_gate: bool = True,
        value_position: bool = False,
        position: bool = True,
        weight_sharing: bool = True,
        per_head_gate: bool = True,
        tmp_hidden: int | None = None,
        alpha_init: float = -4.6,
        pos_param: PositionKind = "sigmoid",
        rope: RotaryPosition | None = None,
        bias: bool = False,
        causal: bool = True,
        batch_first: bool = True,
    ) -> None:
        super().__init__(
            embed_dim, num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim, bias=bias, causal=causal
        )
        if weight_sharing and tmp_hidden is not None:
            message = (
                f"SelectiveAttention: tmp_hidden is {tmp_hidden} with weight_sharing; use one of the two"
            )
            raise ArgumentError(message)
        if value_position and not value_gate:
            message = "SelectiveAttention: value_position needs value_gate; use value_gate=True"
            raise ArgumentError(message)

        def gate(heads: int) -> TokenTemperature:
            source = None if weight_sharing else (embed_dim, tmp_hidden or max(1, embed_dim // 4))
            return TokenTemperature(self.head_dim, heads, per_head=per_head_gate, network=source)

        self.query_gate = gate(self.num_heads) if query_gate else None
        self.value_gate = gate(self.num_kv_heads) if value_gate else None
        self.query_position = PositionTemperature(alpha_init, pos_param) if position else None
        self.value_position = PositionTemperature(alpha_init, pos_param) if value_position else None
        self.rope = rope
        self.batch_first = batch_first

    @classmethod
    def in_gpt(cls, width: int, num_heads: int, context: int) -> Self:
        """Make one for training from scratch."""
        return cls(width, num_heads, alpha_init=0.0, bias=True)

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        *,
        kv: Tensor | None = None,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        need_stats: bool = False,
    ) -> Tensor | tuple[Tensor, SelectiveStats]:
        """Attend.

        Parameters
        ----------
        x
            (B, T, embed_dim), or (T, B, embed_dim) if not ``batch_first``.
        kv
            Tokens that are attended to, (B, S, embed_dim), all of which are seen; ``x`` itself by default.
        mask
            Bool, True where a query may see a key; broadcasts to (B, H, T, S).
        cache
            Keys and gated values of the tokens before ``x``, to which those of ``x`` are added; no gradients then.
        need_stats
            Whether to return :class:`SelectiveStats` as well.
        """
        if cache is not None and (kv is not None or mask is not None or not self.causal):
            message = "SelectiveAttention: cache is for causal self-attention; use it without kv and mask"
            raise ArgumentError(message)
        tokens, context = (
            part if part is None or self.batch_first else part.transpose(0, 1) for part in (x, kv)
        )
        assert tokens is not None
        q, k, v = self.project(tokens, context)
        start = 0 if cache is None else _length(cache)
        causal = self.causal and context is None
        seen = self._seen(q, k, mask, causal, start)
        held = self._held(k, causal, start)
        tau_q = self._temperature(self.query_gate, self.query_position, q, tokens, seen)
        tau_v = self._temperature(
            self.value_gate, self.value_position, v, tokens if context is None else context, held
        )
        v = tau_v[..., None] * v
        if self.rope is not None:
            q, k = self.rope(q, start), self.rope(k, start)
        stats = ("entropy",) if need_stats else ()
        factor = tau_q / self.temperature
        if cache is None:
            result = self.attend(q, k, v, inv_temperature=factor, mask=mask, is_causal=causal, stats=stats)
        else:
            result = _decode(q, k, v, factor, cache, stats)
        out = self.join(result.out)
        out = out if self.batch_first else out.transpose(0, 1)
        if not need_stats:
            return out
        return out, SelectiveStats(tau_q, tau_v, result.entropy, result.max_logit)

    def _seen(self, q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, start: int) -> Tensor:
        """How many keys each query sees, broadcastable to (B, H, T)."""
        queries, keys = q.shape[2], k.shape[2]
        if causal:
            seen = torch.arange(start + 1, start + queries + 1, device=q.device)
        else:
            seen = torch.full((queries,), keys, device=q.device)
        if mask is not None:
            allowed = mask & (torch.arange(keys, device=q.device) < seen[:, None])
            seen = allowed.sum(-1)
        return seen.clamp_min(1)

    def _held(self, k: Tensor, causal: bool, start: int) -> Tensor:
        """Position of each value: its own in causal attention, otherwise the last one's."""
        keys = k.shape[2]
        if causal:
            return torch.arange(start + 1, start + keys + 1, device=k.device)
        return torch.full((keys,), keys, device=k.device).clamp_min(1)

    def _temperature(
        self,
        gate: TokenTemperature | None,
        position: PositionTemperature | None,
        heads: Tensor,
        tokens: Tensor,
        positions: Tensor,
    ) -> Tensor:
        """``tau`` of each of the heads (B, heads, T, D) of the tokens."""
        tau = heads.new_ones(heads.shape[:3])
        if gate is not None:
            tau = tau + gate(heads if gate.network is None else tokens)
        if position is not None:
            tau = tau + position(positions.to(heads.dtype))
        return tau


def selective_temperature(q: Tensor, w: Tensor, alpha: Tensor | float, positions: Tensor) -> Tensor:
    """Inverse temperature of queries, ``tanh(w . gelu(q)) + 1 + sigmoid(alpha) log n``.

    Parameters
    ----------
    q
        (B, H, T, D), projected queries, or values for their gate.
    w
        (D,) for all heads, or (H, D).
    alpha
        A number, with its gradient.
    positions
        How many keys each query sees, n, 1 or more; broadcasts to (B, H, T).

    Returns
    -------
    Tensor
        (B, H, T), for ``inv_temperature`` of :func:`logitscope.nn.functional.attention`.

    Raises
    ------
    ShapeError, ArgumentError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import selective_temperature
    >>> q = torch.ones(1, 1, 2, 4)
    >>> selective_temperature(q, torch.zeros(4), alpha=0.0, positions=torch.tensor([1, 8]))
    tensor([[[1.0000, 2.0397]]])
    """
    if q.dim() != 4 or tuple(w.shape) not in {(q.shape[3],), (q.shape[1], q.shape[3])}:
        message = (
            f"selective_temperature: w has shape {tuple(w.shape)} for q of {tuple(q.shape)}; "
            f"use (D,) or (H, D) with (B, H, T, D)"
        )
        raise ShapeError(message)
    check_positions("selective_temperature", positions)
    gate = torch.tanh((nn.functional.gelu(q) * w.reshape(-1, 1, q.shape[3])).sum(-1))
    growth = torch.sigmoid(torch.as_tensor(alpha, dtype=q.dtype)) * positions.to(q.dtype).log()
    return gate + 1.0 + growth


def _length(cache: KVCache) -> int:
    """How many tokens all sequences of a cache have."""
    lengths = {int(length) for length in cache.lengths}
    if len(lengths) > 1:
        message = f"SelectiveAttention: the cache holds {sorted(lengths)} tokens; use sequences of one length"
        raise ArgumentError(message)
    return lengths.pop()


def _decode(
    q: Tensor, k: Tensor, v: Tensor, factor: Tensor, cache: KVCache, stats: tuple[str, ...]
) -> AttentionResult:
    q, k, v, factor = (part.detach() for part in (q, k, v, factor))
    cache.append(k.contiguous(), v.contiguous())
    return attention_decode(q.contiguous(), cache, inv_temperature=factor, stats=stats)


ATTENTION: Mapping[str, type[SelfAttention]] = {"selective": SelectiveAttention}
"""What this module offers under which name."""
