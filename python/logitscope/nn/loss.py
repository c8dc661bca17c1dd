"""The loss as a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from logitscope.nn.functional import cross_entropy

if TYPE_CHECKING:
    from torch import Tensor


class CrossEntropyLoss(nn.Module):
    """Cross entropy with the arguments of torch's module of the same name, as far as it has them.

    Parameters
    ----------
    ignore_index
        Rows with this target do not count.
    reduction
        "mean" over the rows that count, "sum", or "none".

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import CrossEntropyLoss
    >>> CrossEntropyLoss()(torch.zeros(2, 4), torch.tensor([0, 3]))
    tensor(1.3863)
    """

    def __init__(self, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.reduction = reduction

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of logits (N, V) or (N, V, ...) and targets (N) or (N, ...)."""
        return cross_entropy(logits, targets, ignore_index=self.ignore_index, reduction=self.reduction)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"ignore_index={self.ignore_index}, reduction={self.reduction!r}"
