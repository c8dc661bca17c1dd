"""Transformers without LayerNorm and without an activation: the softmax of attention is all that is not linear.

Jha and Reagen, "Entropy-Guided Attention for Private LLMs", arXiv 2501.03489. Under encryption every nonlinearity
costs; these are the parts that remain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from logitscope.errors import ArgumentError, ShapeError
from logitscope.nn.entropy_guided_attention import EntropyGuidedAttention
from logitscope.nn.gpt import GPT

if TYPE_CHECKING:
    from logitscope.nn.entropy_guided_attention import Temperature
    from logitscope.nn.gpt import GPTConfig

_WARM_UP = 100
"""Steps of power iteration before a spectral norm is used."""


class ScaledFusedFFN(nn.Module):
    """A feed-forward network without activation, which is one matrix: ``beta x + W x / alpha``, residual included.

    Parameters
    ----------
    dim
        Size of a token's vector.
    layer_scale
        Whether alpha and beta are learned; otherwise they stay 1.
    bias
        Whether the matrix has a bias.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import ScaledFusedFFN
    >>> network = ScaledFusedFFN(4)
    >>> x = torch.randn(2, 4)
    >>> torch.equal(network(x), x + x @ network.linear.weight.T)
    True
    """

    def __init__(self, dim: int, *, layer_scale: bool = True, bias: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim, bias=bias)
        self.alpha, self.beta = (nn.Parameter(torch.ones(()), requires_grad=layer_scale) for _ in range(2))

    @classmethod
    def from_linears(cls, first: nn.Linear, second: nn.Linear) -> ScaledFusedFFN:
        """Fuse the two layers of a feed-forward network that has no activation between them.

        Raises
        ------
        ShapeError
            If the second does not lead back to the width of the first.
        """
        if first.in_features != second.out_features or first.out_features != second.in_features:
            sizes = f"{first.in_features} to {first.out_features} to {second.out_features}"
            message = (
                f"ScaledFusedFFN: the layers lead from {sizes}; use two that lead back to their input's size"
            )
            raise ShapeError(message)
        biased = first.bias is not None or second.bias is not None
        fused = cls(first.in_features, bias=biased).to(first.weight.dtype)
        with torch.no_grad():
            fused.linear.weight.copy_(second.weight @ first.weight)
            if biased:
                through = 0.0 if first.bias is None else second.weight @ first.bias
                fused.linear.bias.copy_(through + (0.0 if second.bias is None else second.bias))
        return fused

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) to (..., dim)."""
        out: Tensor = self.beta * x + self.linear(x) / self.alpha
        return out


class SoftmaxOnlyBlock(nn.Module):
    """Attention and a fused network; no LayerNorm, no activation.

    Parameters
    ----------
    embed_dim, num_heads, max_len, temperature
        As in :class:`EntropyGuidedAttention`.
    layer_scale
        As in :class:`ScaledFusedFFN`.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import SoftmaxOnlyBlock
    >>> SoftmaxOnlyBlock(32, 4, max_len=8)(torch.zeros(1, 8, 32)).shape
    torch.Size([1, 8, 32])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        max_len: int,
        *,
        temperature: Temperature | None = "per_head_position",
        layer_scale: bool = True,
    ) -> None:
        super().__init__()
        self.attention = EntropyGuidedAttention(embed_dim, num_heads, max_len, temperature=temperature)
        self.network = ScaledFusedFFN(embed_dim, layer_scale=layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, embed_dim) to (B, T, embed_dim)."""
        deeper: Tensor = self.network(x + self.attention(x))
        return deeper


def softmax_only_gpt(
    config: GPTConfig, *, temperature: Temperature | None = "per_head_position", std: float = 0.02
) -> GPT:
    """Make a GPT of softmax-only blocks, without a norm before its head.

    Parameters
    ----------
    config
        Sizes; what it says of attention does not count.
    temperature
        As in :class:`EntropyGuidedAttention`.
    std
        Standard deviation of the new weights.

    Examples
    --------
    >>> from logitscope.nn import GPTConfig, softmax_only_gpt
    >>> model = softmax_only_gpt(GPTConfig(vocabulary=10, context=16, layers=2, heads=2, width=8))
    >>> sum(isinstance(module, type(model.norm)) for module in model.modules())
    1
    """
    model = GPT(config)
    blocks = [
        SoftmaxOnlyBlock(config.width, config.heads, config.context, temperature=temperature)
        for _ in range(config.layers)
    ]
    for block in blocks:
        for linear in (block.attention.qkv, block.attention.out, block.network.linear):
            nn.init.normal_(linear.weight, std=std)
    model.blocks = nn.ModuleList(blocks)
    model.norm = nn.Identity()  # type: ignore[assignment]
    return model


def StaticNorm(linear: nn.Linear, kind: Literal["weight", "spectral"] = "weight") -> nn.Linear:
    """Divide a layer's matrix by a norm of itself, which costs nothing once it is trained.

    Parameters
    ----------
    linear
        The layer; it is changed and returned.
    kind
        "weight" divides by the Frobenius norm, "spectral" by the largest singular value, found by power iteration as
        the layer is used in training.

    Raises
    ------
    ArgumentError
        For another kind.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import StaticNorm
    >>> linear = StaticNorm(torch.nn.Linear(4, 4), "weight")
    >>> round(float(linear.weight.detach().norm()), 4)
    1.0
    """
    if kind == "weight":
        parametrize.register_parametrization(linear, "weight", _FrobeniusNorm())
    elif kind == "spectral":
        parametrizations.spectral_norm(linear)
        for _ in range(_WARM_UP):
            _ = linear.weight  # each look is a step of power iteration
    else:
        message = f"StaticNorm: kind is {kind!r}; use 'weight' or 'spectral'"
        raise ArgumentError(message)
    return linear


class _FrobeniusNorm(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        normed: Tensor = weight / weight.norm()
        return normed
