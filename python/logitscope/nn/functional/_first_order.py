"""Functions that return their gradient as differentiable ones, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Callable


def first_order(with_gradient: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    """Call a function that returns (value, gradient); the gradient of rows apart has an axis more than their values.

    Second derivatives are an error of torch's.
    """
    value: Tensor = _FirstOrder.apply(x, with_gradient)
    return value


class _FirstOrder(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, with_gradient: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        value, gradient = with_gradient(x.detach())
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        rows_apart = 0 < upstream.dim() < gradient.dim()
        factor = upstream[..., None] if rows_apart else upstream
        return (gradient * factor).to(gradient.dtype), None
