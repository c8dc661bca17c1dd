"""Polynomials composed with any function: the general form of which PolyReLU and PolyNorm are two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from logitscope.errors import ArgumentError
from logitscope.nn.activation import Polynomial

if TYPE_CHECKING:
    from collections.abc import Callable


class PolyCom(Polynomial):
    """A trainable polynomial and a function, one after the other (Zhuo et al., arXiv 2411.03884); plain torch.

    Type I is ``sum of a_i inner(x)**i``, type II ``sum of a_i inner(x**i)``, i from 1, and the constant a_0.
    :class:`PolyReLU` and :class:`PolyNorm` are the two that have kernels of their own.

    Parameters
    ----------
    order
        The highest power, 1 to 5.
    inner
        What is composed, a function of a tensor.
    kind
        ``"I"`` or ``"II"``.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import PolyCom
    >>> PolyCom(2, torch.sin, kind="II")(torch.tensor([1.0, 2.0])).detach()  # (sin(x) + sin(x**2)) / 2
    tensor([0.8415, 0.0762])
    """

    def __init__(
        self, order: int = 3, inner: Callable[[Tensor], Tensor] = torch.relu, *, kind: str = "I"
    ) -> None:
        super().__init__(order)
        if kind not in ("I", "II"):
            message = f"PolyCom: kind is {kind!r}; use 'I' or 'II'"
            raise ArgumentError(message)
        self.inner = inner
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        """Apply to x of any shape that ``inner`` takes."""
        powers = range(1, len(self.weight) + 1)
        if self.kind == "I":
            inside = self.inner(x)
            terms = [inside**power for power in powers]
        else:
            terms = [self.inner(x**power) for power in powers]
        y: Tensor = torch.stack(terms, dim=-1) @ self.weight.flip(0) + self.bias
        return y

    def extra_repr(self) -> str:
        """Show the options."""
        name = getattr(self.inner, "__name__", type(self.inner).__name__)
        return f"{super().extra_repr()}, inner={name}, kind={self.kind!r}"
