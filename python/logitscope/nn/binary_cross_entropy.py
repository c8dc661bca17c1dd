"""Binary cross entropy and the focal loss as modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from logitscope.nn.functional._binary_cross_entropy import differentiable
from logitscope.ops.binary_cross_entropy import Options

if TYPE_CHECKING:
    from torch import Tensor


class BCEWithLogitsLoss(nn.Module):
    """Binary cross entropy of logits, with the arguments of torch's module of the same name.

    Parameters
    ----------
    weight
        Factors of the losses that broadcast to the shape of the logits, kept in the module's state as torch does.
    reduction
        "mean" over all elements, "sum", or "none".
    pos_weight
        A factor of the targets' part, or one for each element of the last dimension; kept likewise.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import BCEWithLogitsLoss
    >>> BCEWithLogitsLoss()(torch.tensor([80.0]), torch.tensor([1.0]))
    tensor(1.8049e-35)
    """

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self, weight: Tensor | None = None, *, reduction: str = "mean", pos_weight: Tensor | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)
        self.reduction = reduction

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of logits and targets of one shape."""
        options = Options(self.weight, self.pos_weight, None, self.reduction)
        return differentiable("binary_cross_entropy_with_logits", logits, targets, options)

    def extra_repr(self) -> str:
        """Show the reduction."""
        return f"reduction={self.reduction!r}"


class SigmoidFocalLoss(nn.Module):
    """Focal loss of logits: binary cross entropy in which easy elements count less (Lin et al., arXiv 1708.02002).

    Parameters
    ----------
    alpha
        Weighs the targets' part by ``alpha`` and the other by ``1 - alpha``; None leaves that out.
    gamma
        At least 0, which is binary cross entropy.
    reduction
        "mean" over all elements, "sum", or "none".

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import SigmoidFocalLoss
    >>> SigmoidFocalLoss(alpha=None)(torch.zeros(3), torch.tensor([0.0, 0, 1]))  # log(2) / 4
    tensor(0.1733)
    """

    def __init__(self, alpha: float | None = 0.25, gamma: float = 2.0, *, reduction: str = "mean") -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma
        self.reduction = reduction

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of logits and targets of one shape."""
        options = Options(None, None, (self.gamma, self.alpha), self.reduction)
        return differentiable("sigmoid_focal_loss", logits, targets, options)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"alpha={self.alpha}, gamma={self.gamma}, reduction={self.reduction!r}"
