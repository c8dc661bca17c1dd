"""Activations with trainable coefficients as modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from logitscope.errors import ArgumentError
from logitscope.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Polynomial(nn.Module):
    """Coefficients that a whole layer shares, in the order of the paper's checkpoints."""

    def __init__(self, order: int) -> None:
        super().__init__()
        if not 1 <= order <= 5:
            message = f"{type(self).__name__}: order is {order}; use 1..5"
            raise ArgumentError(message)
        self.weight = nn.Parameter(torch.full((order,), 1 / order))
        self.bias = nn.Parameter(torch.zeros(1))

    @property
    def coefficients(self) -> Tensor:
        """(order + 1,) coefficients, the constant first and that of the highest power last."""
        return torch.cat([self.bias, self.weight.flip(0)])

    def extra_repr(self) -> str:
        """Show the order."""
        return f"order={len(self.weight)}"


class PolyReLU(Polynomial):
    """A trainable polynomial of ``max(x, 0)``, in place of an activation (Zhuo et al., arXiv 2411.03884).

    All coefficients start at ``1 / order`` and the constant at 0. Such scalars are best left out of weight decay.

    Parameters
    ----------
    order
        The highest power, 1 to 5.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import PolyReLU
    >>> activation = PolyReLU()
    >>> activation(torch.tensor([-1.0, 1.0, 3.0])).detach()
    tensor([ 0.,  1., 13.])
    >>> activation.coefficients.tolist()[0]
    0.0
    """

    def __init__(self, order: int = 3) -> None:
        super().__init__(order)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to each element of x of any shape."""
        return functional.poly_relu(x, self.weight, self.bias)


class PolyNorm(Polynomial):
    """A trainable sum of the normalised powers of rows, in place of an activation (Zhuo et al., arXiv 2411.03884).

    All coefficients start at ``1 / order`` and the constant at 0. Such scalars are best left out of weight decay.

    Parameters
    ----------
    order
        The highest power, 1 to 5.
    eps
        Added to the mean squares, above 0.
    scale
        ``"rms"``, or ``"l2"`` for the sum of squares in place of their mean.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import PolyNorm
    >>> PolyNorm()(torch.tensor([[1.0, -1.0], [3e10, 3e10]])).detach()
    tensor([[ 1.0000, -0.3333],
            [ 1.0000,  1.0000]])
    """

    def __init__(self, order: int = 3, eps: float = 1e-6, *, scale: str = "rms") -> None:
        super().__init__(order)
        self.eps = eps
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Apply to the rows of x (..., H)."""
        return functional.poly_norm(x, self.weight, self.bias, self.eps, scale=self.scale)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"{super().extra_repr()}, eps={self.eps}, scale={self.scale!r}"


ACTIVATION: Mapping[str, Callable[[], nn.Module]] = {"polynorm": PolyNorm, "polyrelu": PolyReLU}
"""What this module offers under which name."""
