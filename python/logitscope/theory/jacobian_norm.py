"""How much a function can stretch a small change of its input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable


def attention_jacobian_norm(
    fn: Callable[[Tensor], Tensor], x: Tensor, iters: int = 30, *, generator: torch.Generator | None = None
) -> float:
    """Spectral norm of the Jacobian of ``fn`` at ``x``, from below, by power iteration with its products.

    Parameters
    ----------
    fn
        A function of one tensor that can be differentiated twice, such as an attention module.
    x
        Where; any shape.
    iters
        Number of iterations, 1 or more; each is one product with the Jacobian and one with its transpose.
    generator
        Source of the first direction.

    Returns
    -------
    float
        The norm of ``J d`` for a direction ``d`` of length 1: never above the spectral norm, and close to it.

    Examples
    --------
    >>> import torch
    >>> from logitscope.theory import attention_jacobian_norm
    >>> round(attention_jacobian_norm(lambda x: x * torch.tensor([1.0, 3.0]), torch.zeros(2)), 4)
    3.0
    """
    if iters < 1:
        message = f"attention_jacobian_norm: iters is {iters}; use 1 or more"
        raise ArgumentError(message)
    x = x.detach().requires_grad_()
    direction = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
    direction = direction / direction.norm()
    with torch.enable_grad():
        y = fn(x)
        # The product with the transposed Jacobian is linear in ``probe``: its own gradient is the other product.
        probe = torch.zeros_like(y, requires_grad=True)
        (transposed,) = torch.autograd.grad(y, x, probe, create_graph=True)
    norm = 0.0
    for _ in range(iters):
        (image,) = torch.autograd.grad(transposed, probe, direction, retain_graph=True)
        norm = float(image.norm())
        (back,) = torch.autograd.grad(y, x, image, retain_graph=True)
        size = back.norm()
        if not size:
            break
        direction = back / size
    return norm
