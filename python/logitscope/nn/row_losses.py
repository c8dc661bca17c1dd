"""Losses over StableMax, of the margin, and of the spherical family as modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from logitscope.nn.functional._row_loss import row_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor


class _RowLoss(nn.Module):
    """One of these losses and its options, for classes in dimension 1 as torch has them."""

    weight: Tensor | None
    operation: str

    def __init__(
        self,
        parameters: dict[str, float],
        weight: Tensor | None,
        ignore_index: int,
        reduction: str,
        empty: str,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.parameters_of_loss = parameters
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.empty = empty

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of logits (N, V) or (N, V, ...) and targets (N) or (N, ...)."""
        return self.loss_of(logits.movedim(1, -1) if logits.dim() > 1 else logits, targets)

    def loss_of(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of logits with the classes last."""
        return row_loss(
            self.operation,
            list(self.parameters_of_loss.values()),
            logits,
            targets,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            empty=self.empty,
        )

    def extra_repr(self) -> str:
        """Show the options."""
        shown = {**self.parameters_of_loss, "ignore_index": self.ignore_index, "reduction": self.reduction}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())


class StableMaxCrossEntropy(_RowLoss):
    """Cross entropy over StableMax, which no logit absorbs (Prieto et al., arXiv 2501.04697).

    Parameters
    ----------
    weight, ignore_index, reduction, empty
        As in :class:`CrossEntropyLoss`.
    label_smoothing
        The share of a target that is spread over all classes.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import StableMaxCrossEntropy
    >>> StableMaxCrossEntropy()(torch.tensor([[40.0, 0, 0]]), torch.tensor([0]))  # log(43 / 41)
    tensor(0.0476)
    """

    operation = "stablemax_cross_entropy"

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        empty: str = "nan",
    ) -> None:
        super().__init__({"label_smoothing": label_smoothing}, weight, ignore_index, reduction, empty)


class MarginLoss(_RowLoss):
    """Margin of the target as a loss, ``max(z_k for k != y) - z_y``, for attacks by gradient (arXiv 1608.04644).

    Parameters
    ----------
    weight, ignore_index, reduction, empty
        As in :class:`CrossEntropyLoss`.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import MarginLoss
    >>> MarginLoss(reduction="none")(torch.tensor([[4.0, 1.0, 3.0], [0.0, 5.0, 2.0]]), torch.tensor([0, 2]))
    tensor([-1.,  3.])
    """

    operation = "margin_loss"

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        empty: str = "nan",
    ) -> None:
        super().__init__({}, weight, ignore_index, reduction, empty)


class TaylorSoftmaxLoss(_RowLoss):
    """Log-Taylor-softmax loss, of ``1 + z + z**2 / 2`` in place of the exponential (arXiv 1412.7091).

    Parameters
    ----------
    weight, ignore_index, reduction, empty
        As in :class:`CrossEntropyLoss`.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import TaylorSoftmaxLoss
    >>> TaylorSoftmaxLoss()(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))  # log(6 / 5)
    tensor(0.1823)
    """

    operation = "taylor_softmax_loss"

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        empty: str = "nan",
    ) -> None:
        super().__init__({}, weight, ignore_index, reduction, empty)


class SphericalSoftmaxLoss(_RowLoss):
    """Log-spherical-softmax loss, of ``z**2 + epsilon`` in place of the exponential (arXiv 1412.7091).

    Parameters
    ----------
    epsilon
        Above 0.
    weight, ignore_index, reduction, empty
        As in :class:`CrossEntropyLoss`.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import SphericalSoftmaxLoss
    >>> SphericalSoftmaxLoss(epsilon=1.0)(torch.tensor([[3.0, 0.0]]), torch.tensor([0]))  # log(11 / 10)
    tensor(0.0953)
    """

    operation = "spherical_softmax_loss"

    def __init__(
        self,
        epsilon: float = 1e-3,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        empty: str = "nan",
    ) -> None:
        super().__init__({"epsilon": epsilon}, weight, ignore_index, reduction, empty)


class ZStandardizedLoss(_RowLoss):
    """Z-loss, of the target's logit standardised by its row: neither shifts nor scales count (arXiv 1604.08859).

    Parameters
    ----------
    a
        Sharpness, above 0.
    b
        Where the loss levels off, in deviations above the mean.
    weight, ignore_index, reduction, empty
        As in :class:`CrossEntropyLoss`.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import ZStandardizedLoss
    >>> logits = torch.tensor([[1.0, 2.0, 4.0]])
    >>> ZStandardizedLoss()(logits, torch.tensor([2])), ZStandardizedLoss()(7 * logits - 3, torch.tensor([2]))
    (tensor(3.6890), tensor(3.6890))
    """

    operation = "z_standardized_loss"

    def __init__(
        self,
        a: float = 1.0,
        b: float = 5.0,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        empty: str = "nan",
    ) -> None:
        super().__init__({"a": a, "b": b}, weight, ignore_index, reduction, empty)


LOSS: Mapping[str, Callable[[], nn.Module]] = {
    "margin": MarginLoss,
    "spherical": SphericalSoftmaxLoss,
    "stablemax": StableMaxCrossEntropy,
    "taylor": TaylorSoftmaxLoss,
    "z_standardized": ZStandardizedLoss,
}
"""What this module offers under which name."""
