"""Gradients through the plain-torch path, for what will be differentiated again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


def composite_gradients(
    ctx: Any, composite: Callable[..., Tensor], inputs: Sequence[Tensor], upstream: Tensor
) -> list[Tensor | None]:
    """Compute the gradients of ``composite(*inputs)`` that ``ctx`` asks for, with a graph of their own.

    ``inputs`` are the first of the operator's.
    """
    wanted = [index for index in range(len(inputs)) if ctx.needs_input_grad[index]]
    with torch.enable_grad():
        value = composite(*inputs)
    found = torch.autograd.grad(
        value, [inputs[index] for index in wanted], upstream, create_graph=True, allow_unused=True
    )
    gradients: list[Tensor | None] = [None] * len(inputs)
    for index, gradient in zip(wanted, found, strict=True):
        gradients[index] = gradient
    return gradients
