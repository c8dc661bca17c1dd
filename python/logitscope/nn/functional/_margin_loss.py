"""The margin of the target as a differentiable loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logitscope.nn.functional._row_loss import row_loss

if TYPE_CHECKING:
    from torch import Tensor


def margin_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    empty: str = "nan",
) -> Tensor:
    """Margin of the target turned into a loss: ``max(z_k for k != y) - z_y``, above 0 where another class wins.

    What attacks by gradient raise (Carlini and Wagner, arXiv 1608.04644): unlike that of cross entropy its gradient
    does not fade where a row is confident. Of equal other logits the first has it.

    Parameters
    ----------
    logits
        (V,), (N, V) or (N, V, ...), the classes in dimension 1 as in torch, at least two; float32, float64, float16
        or bfloat16.
    targets
        (), (N,) or (N, ...) integers in 0..V-1 or ``ignore_index``.
    weight, ignore_index, reduction, empty
        As in :func:`cross_entropy`.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn.functional import margin_loss
    >>> logits = torch.tensor([[4.0, 1.0, 3.0]], requires_grad=True)
    >>> loss = margin_loss(logits, torch.tensor([0]))
    >>> loss.backward()
    >>> loss.item(), logits.grad
    (-1.0, tensor([[-1.,  0.,  1.]]))
    """
    return row_loss(
        "margin_loss",
        (),
        logits.movedim(1, -1) if logits.dim() > 1 else logits,
        targets,
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        empty=empty,
    )
