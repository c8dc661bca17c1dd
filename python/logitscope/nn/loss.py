"""The loss as a module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from logitscope.nn.functional import cross_entropy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class CrossEntropyLoss(nn.Module):
    """Cross entropy with the arguments of torch's module of the same name, and more.

    Parameters
    ----------
    weight
        (V,) factors of the classes, kept in the module's state as torch does.
    ignore_index
        Rows with this target do not count.
    reduction
        "mean" over the rows that count, "sum", or "none".
    label_smoothing
        The share of a target that is spread evenly over the classes.
    smooth_over, temperature, softcap, lse_square_scale, entropy_weight, link, link_params, complement, empty
        As in :func:`logitscope.loss.cross_entropy`.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import CrossEntropyLoss
    >>> CrossEntropyLoss()(torch.zeros(2, 4), torch.tensor([0, 3]))
    tensor(1.3863)
    >>> CrossEntropyLoss(link="gce", link_params={"q": 0.5})(torch.zeros(2, 4), torch.tensor([0, 3]))
    tensor(1.)
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        smooth_over: str = "all",
        temperature: float = 1.0,
        softcap: float | None = None,
        lse_square_scale: float = 0.0,
        entropy_weight: float = 0.0,
        link: str = "ce",
        link_params: Mapping[str, float] | None = None,
        complement: bool = True,
        empty: str = "nan",
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.extras: dict[str, Any] = {
            "label_smoothing": label_smoothing,
            "smooth_over": smooth_over,
            "temperature": temperature,
            "softcap": softcap,
            "lse_square_scale": lse_square_scale,
            "entropy_weight": entropy_weight,
            "link": link,
            "link_params": link_params,
            "complement": complement,
            "empty": empty,
        }

    def forward(self, logits: Tensor, targets: Tensor, normalizer: Tensor | float | None = None) -> Tensor:
        """Loss of logits (N, V) or (N, V, ...) and targets (N) or (N, ...), or soft ones shaped as the logits.

        ``normalizer`` replaces the divisor of the mean, such as the number of tokens of all micro-batches.
        """
        return cross_entropy(
            logits,
            targets,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            normalizer=normalizer,
            **self.extras,
        )

    def extra_repr(self) -> str:
        """Show the options that are not the defaults."""
        usual = {"smooth_over": "all", "temperature": 1.0, "link": "ce", "complement": True, "empty": "nan"}
        extras = [
            f"{name}={value!r}" for name, value in self.extras.items() if value and value != usual.get(name)
        ]
        if not self.extras["complement"]:
            extras.append("complement=False")
        return ", ".join([f"ignore_index={self.ignore_index}, reduction={self.reduction!r}", *extras])
