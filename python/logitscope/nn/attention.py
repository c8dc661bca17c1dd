"""Self-attention over the fused kernel: its temperature can be turned, its statistics watched."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from logitscope.errors import ArgumentError
from logitscope.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

    from logitscope.ops.attention_result import AttentionResult
    from logitscope.record.watch import AttentionObservation, AttentionRequest


class Observer(Protocol):
    """Who wants to see an attention module at work, such as ``logitscope.record``'s watch."""

    def request(self, module: FusedSelfAttention) -> AttentionRequest | None:
        """Say what is wanted of this forward pass; None for nothing."""

    def observe(self, module: FusedSelfAttention, observation: AttentionObservation) -> None:
        """Take what was asked for."""


class SelfAttention(nn.Module, ABC):
    """What the kinds of self-attention share: the projections, and the cut into heads.

    Parameters
    ----------
    width
        Size of a token's vector, a multiple of ``num_heads``.
    num_heads
        Number of heads.
    num_kv_heads
        Number of heads of keys and values, a divisor of ``num_heads``; as many by default.
    head_dim
        Size of a head; ``width / num_heads`` by default.
    bias
        Whether the projections have one.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        sizes = {"width": (width, num_heads), "num_heads": (num_heads, kv_heads)}
        if head_dim is not None:
            sizes["width"] = (head_dim, 1)
        for name, (whole, part) in sizes.items():
            if part < 1 or whole < 1 or whole % part:
                message = (
                    f"{type(self).__name__}: {name} {whole} is no multiple of {part} heads; use one that is"
                )
                raise ArgumentError(message)
        self.num_heads = num_heads
        self.num_kv_heads = kv_heads
        self.head_dim = width // num_heads if head_dim is None else head_dim
        self.qkv = nn.Linear(width, (num_heads + 2 * kv_heads) * self.head_dim, bias=bias)
        self.out = nn.Linear(num_heads * self.head_dim, width, bias=bias)
        self.temperature: float | Tensor = 1.0
        """What the scores are divided by: a number, or a tensor (a buffer or parameter) that broadcasts to
        (B, H, T). A compiled model wants a tensor: it is compiled anew for each number."""

    @classmethod
    def in_gpt(cls, width: int, num_heads: int, context: int) -> Self:
        """Make one as a GPT that looks back on ``context`` tokens has it."""
        return cls(width, num_heads)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: (B, T, width) to (B, T, width)."""
        return self.join(self.mix(*self.project(x)))

    def project(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the tokens x (B, T, width), keys and values of ``context`` or of x, (B, heads, T, D) each."""
        groups = [self.num_heads, self.num_kv_heads, self.num_kv_heads]
        if context is None:
            parts = self._heads(x, self.qkv.weight, self.qkv.bias, groups)
        else:
            rows = self.num_heads * self.head_dim
            biases = (None, None) if self.qkv.bias is None else (self.qkv.bias[:rows], self.qkv.bias[rows:])
            parts = [
                *self._heads(x, self.qkv.weight[:rows], biases[0], groups[:1]),
                *self._heads(context, self.qkv.weight[rows:], biases[1], groups[1:]),
            ]
        q, k, v = parts
        return q, k, v

    def _heads(self, x: Tensor, weight: Tensor, bias: Tensor | None, groups: list[int]) -> list[Tensor]:
        heads = nn.functional.linear(x, weight, bias).view(*x.shape[:2], sum(groups), self.head_dim)
        # Views; cut along dimension 2, so that their gradients go into place in one copy.
        return [part.transpose(1, 2) for part in torch.split(heads, groups, 2)]

    def join(self, mixed: Tensor) -> Tensor:
        """What the heads give, (B, H, T, D), to tokens (B, T, width)."""
        joined: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return joined

    @abstractmethod
    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Weight the values of the tokens: (B, heads, T, D) each, to (B, H, T, D)."""


class FusedSelfAttention(SelfAttention):
    """What the kinds over logitscope's kernel share: they can be watched.

    Parameters
    ----------
    width, num_heads, num_kv_heads, head_dim, bias
        As in :class:`SelfAttention`.
    causal
        Whether a token sees only those up to itself.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = True,
        causal: bool = True,
    ) -> None:
        super().__init__(width, num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim, bias=bias)
        self.causal = causal
        self.observer: Observer | None = None
        self.device: Literal["cpu", "gpu"] = "cpu"
        """Where the kernel runs; ``"gpu"`` sends queries, keys and values there and the result back."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Weight the values."""
        out: Tensor = self.attend(q, k, v, inv_temperature=1.0 / self.temperature).out
        return out

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, *, stats: tuple[str, ...] = (), **options: Any
    ) -> AttentionResult:
        """Call the kernel, and tell the observer what it saw, if it wants to know."""
        request = None if self.observer is None else self.observer.request(self)
        options.setdefault("is_causal", self.causal)
        if self.device != "cpu":
            options.setdefault("device", self.device)
        if request is not None:
            # The spread of the scores, which costs more than the entropy, comes with the maps.
            stats = ("entropy",) if request.map_bins is None else ("entropy", "logits")
        result = functional.attention(q, k, v, stats=stats, **options)
        if request is not None and self.observer is not None:
            map_ = None if request.map_bins is None else self._map(q, k, request, options)
            slice_ = _slice(q, k, request, options) if request.slices else {}
            self.observer.observe(self, _observation(q, k, result, map_, options["is_causal"], **slice_))
        return result

    @torch.no_grad()
    def _map(self, q: Tensor, k: Tensor, request: AttentionRequest, options: dict[str, Any]) -> Any:
        """Average the weights of one batch element in bins."""
        if request.map_bins is None or 0 in q.shape[:3]:
            return None
        sample = min(request.sample, q.shape[0] - 1)
        queries, keys = (tensor.detach()[sample : sample + 1] for tensor in (q, k))
        for name, shape in (("inv_temperature", q.shape[:3]), ("mask", (*q.shape[:3], k.shape[2]))):
            if isinstance(given := options.get(name), Tensor):
                options = options | {name: given.expand(shape)[sample : sample + 1]}
        bins = min(request.map_bins[0], q.shape[2]), min(request.map_bins[1], k.shape[2])
        # The values do not matter for the weights: the keys stand in.
        result = functional.attention(queries, keys, keys, map_bins=bins, **options)
        return result.map[0].numpy(force=True)


class CausalSelfAttention(FusedSelfAttention):
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


def _observation(
    q: Tensor, k: Tensor, result: AttentionResult, map_: Any, is_causal: bool, **slice_: Any
) -> AttentionObservation:
    from logitscope.record.watch import AttentionObservation

    queries, keys = q.shape[2], k.shape[2]
    return AttentionObservation(
        max_logit=result.max_logit.numpy(force=True),
        entropy=result.entropy.numpy(force=True),
        lse=result.lse.numpy(force=True),
        map=map_,
        moments=_moments(result),
        visible=np.arange(1, queries + 1) if is_causal else np.full(queries, keys),
        **slice_,
    )


def _moments(result: AttentionResult) -> Any:
    """Number, mean and squared distances of each row's scores; None where they were not looked at, or are none."""
    if result.logit_count is None or not result.logit_count.numel():
        return None
    parts = (result.logit_count, result.logit_mean, result.logit_m2)
    return tuple(part.numpy(force=True) for part in parts)


def _slice(q: Tensor, k: Tensor, request: AttentionRequest, options: dict[str, Any]) -> dict[str, Any]:
    """Queries, their temperature in them, and keys of one batch element."""
    sample = min(request.sample, q.shape[0] - 1)
    inverse = torch.as_tensor(options.get("inv_temperature", 1.0), device=q.device).expand(q.shape[:3])
    queries = q[sample].detach().float() * inverse[sample, ..., None]
    return {"query": queries.numpy(force=True), "key": k[sample].detach().float().numpy(force=True)}


ATTENTION: Mapping[str, type[SelfAttention]] = {"softmax": CausalSelfAttention}
"""What this module offers under which name."""
