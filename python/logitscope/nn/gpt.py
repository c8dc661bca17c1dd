"""A small language model: the one that every language experiment trains."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from logitscope.errors import ArgumentError, ShapeError
from logitscope.methods import find_method
from logitscope.nn.feed_forward import FeedForward

if TYPE_CHECKING:
    from collections.abc import Iterator

    from logitscope.nn.attention import SelfAttention


@dataclass(frozen=True)
class GPTConfig:
    """Sizes and choices of a GPT."""

    vocabulary: int
    context: int = 128
    """The longest text it can look back on, in tokens."""
    layers: int = 4
    heads: int = 4
    width: int = 128
    attention: str = "softmax"
    """A name of ``logitscope.methods.method_names("attention")``."""
    activation: str = "gelu"
    """A name of ``logitscope.methods.method_names("activation")``."""
    tie_weights: bool = True
    """Whether the output layer is the transposed embedding."""

    def __post_init__(self) -> None:
        for name in ("vocabulary", "context", "layers", "heads", "width"):
            if getattr(self, name) < 1:
                message = f"GPTConfig: {name} is {getattr(self, name)}; use 1 or more"
                raise ArgumentError(message)
        if self.width % self.heads:
            message = f"GPTConfig: width {self.width} is no multiple of {self.heads} heads; use one that is"
            raise ArgumentError(message)


class Block(nn.Module):
    """Attention and a two-layer network, each added to its normalised input."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        width = config.width
        self.attention_norm = nn.LayerNorm(width)
        attention = find_method("attention", config.attention)
        self.attention = attention.in_gpt(width, config.heads, config.context)
        self.network_norm = nn.LayerNorm(width)
        self.network = FeedForward(width, activation=config.activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) to (B, T, width)."""
        x = x + self.attention(self.attention_norm(x))
        deeper: Tensor = x + self.network(self.network_norm(x))
        return deeper


class GPT(nn.Module):
    """A decoder-only transformer with learned positions (Radford et al. 2019, GPT-2), pre-norm.

    Parameters
    ----------
    config
        Sizes and choices.
    options
        Fields of :class:`GPTConfig`, in place of a config or over it.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import GPT, GPTConfig
    >>> model = GPT(GPTConfig(vocabulary=10, context=16, layers=1, heads=2, width=8))
    >>> model(torch.zeros(3, 16, dtype=torch.int64)).shape
    torch.Size([3, 16, 10])
    >>> GPT(model.config, attention="torch", activation="polynorm").blocks[0].network.activation
    PolyNorm(order=3, eps=1e-06, scale='rms')
    """

    def __init__(self, config: GPTConfig | None = None, **options: Any) -> None:
        super().__init__()
        config = GPTConfig(**options) if config is None else replace(config, **options)
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.position = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        self._initialise()
        if config.tie_weights:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of each next token: (B, T) to (B, T, vocabulary)."""
        length = tokens.shape[-1]
        if length > self.config.context:
            message = f"GPT: {length} tokens; use {self.config.context} or fewer, the context of this model"
            raise ShapeError(message)
        x = self.embedding(tokens) + self.position.weight[:length]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits

    @property
    def attentions(self) -> Iterator[SelfAttention]:
        """The attention modules, first layer first."""
        for block in self.blocks:
            attention: SelfAttention = block.attention  # type: ignore[assignment]
            yield attention

    def set_temperature(self, temperature: float) -> None:
        """Divide the attention scores of all layers by ``temperature`` from now on."""
        for attention in self.attentions:
            attention.temperature = temperature

    @torch.no_grad()
    def generate(self, tokens: Tensor, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Continue a text by drawing each next token from the model's distribution.

        Parameters
        ----------
        tokens
            (T,), at least one.
        count
            Number of tokens to add.
        generator
            Source of randomness.

        Returns
        -------
        Tensor
            (T + count,).
        """
        for _ in range(count):
            logits = self(tokens[None, -self.config.context :])[0, -1]
            drawn = torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)
            tokens = torch.cat((tokens, drawn))
        return tokens

    def _initialise(self) -> None:
        """Small normal weights; smaller where a residual stream sums over the layers (GPT-2)."""
        residual = 0.02 / math.sqrt(2 * self.config.layers)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                last = name.endswith(("attention.out", "network.down"))
                nn.init.normal_(module.weight, std=residual if last else 0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
