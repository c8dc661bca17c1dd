"""The losses as modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from logitscope.nn.functional import cross_entropy, linear_cross_entropy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from logitscope.nn.functional._on_gpu import DeviceName


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
        self.device: DeviceName | None = None
        """Where the loss is computed, as in :func:`logitscope.nn.functional.cross_entropy`."""

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
            device=self.device,
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


class LinearCrossEntropyLoss(nn.Module):
    """A linear layer's weight and the hidden rows before it to a loss, without the logits of all rows in memory.

    The layer stays where it is: its weight is an argument of the call, so that it may be tied to an embedding.

    Parameters
    ----------
    mode, num_chunks, filter_eps, shift
        As in :func:`logitscope.loss.linear_cross_entropy`.
    class_weight
        (V,) factors of the classes, kept in the module's state.
    ignore_index, reduction, label_smoothing
        As in :class:`CrossEntropyLoss`.
    options
        ``smooth_over``, ``temperature``, ``softcap``, ``lse_square_scale``, ``entropy_weight``, ``link``,
        ``link_params``, ``complement`` and ``empty``, as in :func:`logitscope.loss.cross_entropy`.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import LinearCrossEntropyLoss
    >>> head = torch.nn.Linear(8, 100, bias=False)
    >>> loss = LinearCrossEntropyLoss(shift=1)(torch.zeros(2, 5, 8), head.weight, torch.zeros(2, 5, dtype=torch.long))
    >>> round(loss.item(), 4)
    4.6052
    """

    class_weight: Tensor | None

    def __init__(
        self,
        *,
        mode: str = "auto",
        num_chunks: int | None = None,
        filter_eps: float | None = None,
        shift: int = 0,
        class_weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__()
        self.register_buffer("class_weight", class_weight)
        self.options: dict[str, Any] = {
            "mode": mode,
            "num_chunks": num_chunks,
            "filter_eps": filter_eps,
            "shift": shift,
            "ignore_index": ignore_index,
            "reduction": reduction,
            "label_smoothing": label_smoothing,
            **options,
        }
        self.device: DeviceName | None = None
        """Where the loss is computed, as in :func:`logitscope.nn.functional.linear_cross_entropy`."""

    def forward(
        self,
        input: Tensor,
        weight: Tensor,
        targets: Tensor,
        bias: Tensor | None = None,
        normalizer: Tensor | float | None = None,
    ) -> Tensor:
        """Loss of hidden rows (..., d), a weight (V, d), targets (...) and a bias (V,)."""
        return linear_cross_entropy(
            input,
            weight,
            targets,
            bias,
            class_weight=self.class_weight,
            normalizer=normalizer,
            **{"device": self.device, **self.options},
        )

    def extra_repr(self) -> str:
        """Show the options that are set."""
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items() if value)


LOSS: Mapping[str, Callable[[], nn.Module]] = {"cross_entropy": CrossEntropyLoss}
"""What this module offers under which name."""
