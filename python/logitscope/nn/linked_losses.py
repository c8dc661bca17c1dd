"""Losses of the target's probability alone as modules: cross entropy with another link."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logitscope.nn.loss import CrossEntropyLoss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn


class CompSumLoss(CrossEntropyLoss):
    """Comp-sum loss: ``tau`` 0 is the sum of exponentials, 1 cross entropy, 2 the mean absolute error.

    Mao, Mohri and Zhong, arXiv 2304.07288.

    Parameters
    ----------
    tau
        At least 0, as in :func:`logitscope.loss.comp_sum_loss`.
    weight, ignore_index, reduction, label_smoothing, empty
        As in :class:`CrossEntropyLoss`.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import CompSumLoss
    >>> CompSumLoss(tau=2.0)(torch.zeros(2, 4), torch.tensor([0, 3]))  # 1 - p
    tensor(0.7500)
    """

    def __init__(
        self,
        tau: float = 1.0,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        empty: str = "nan",
    ) -> None:
        super().__init__(
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            empty=empty,
            link="comp_sum",
            link_params={"tau": tau},
        )


class GeneralizedCrossEntropy(CrossEntropyLoss):
    """Generalized cross entropy ``(1 - p**q) / q``, which forgives wrong labels (Zhang and Sabuncu, arXiv 1805.07836).

    Parameters
    ----------
    q, k
        As in :func:`logitscope.loss.generalized_cross_entropy`; with ``k`` the truncated form.
    weight, ignore_index, reduction, empty
        As in :class:`CrossEntropyLoss`.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import GeneralizedCrossEntropy
    >>> GeneralizedCrossEntropy(q=0.5)(torch.zeros(2, 4), torch.tensor([0, 3]))
    tensor(1.)
    """

    def __init__(
        self,
        q: float = 0.7,
        weight: Tensor | None = None,
        *,
        k: float | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        empty: str = "nan",
    ) -> None:
        super().__init__(
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            empty=empty,
            link="gce" if k is None else "truncated_gce",
            link_params={"q": q} if k is None else {"q": q, "k": k},
        )


class FocalLoss(CrossEntropyLoss):
    """Focal loss ``-(1 - p)**gamma * log p``: easy rows count less (Lin et al., arXiv 1708.02002).

    Parameters
    ----------
    gamma
        At least 0, which is cross entropy.
    weight
        (V,) factors of the classes; they take the part of the paper's alpha.
    ignore_index, reduction, empty
        As in :class:`CrossEntropyLoss`.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import FocalLoss
    >>> FocalLoss()(torch.zeros(2, 2), torch.tensor([0, 1]))  # log(2) / 4
    tensor(0.1733)
    """

    def __init__(
        self,
        gamma: float = 2.0,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        empty: str = "nan",
    ) -> None:
        super().__init__(
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            empty=empty,
            link="focal",
            link_params={"gamma": gamma},
        )


class PolyLoss(CrossEntropyLoss):
    """Poly-1 loss ``-log p + epsilon * (1 - p)`` (Leng et al., arXiv 2204.12511).

    Parameters
    ----------
    epsilon
        Added to the coefficient of the first term of the loss's series in 1 - p.
    weight, ignore_index, reduction, empty
        As in :class:`CrossEntropyLoss`.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import PolyLoss
    >>> PolyLoss(epsilon=2.0)(torch.zeros(2, 2), torch.tensor([0, 1]))  # log(2) + 1
    tensor(1.6931)
    """

    def __init__(
        self,
        epsilon: float = 1.0,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        empty: str = "nan",
    ) -> None:
        super().__init__(
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            empty=empty,
            link="poly",
            link_params={"epsilon": epsilon},
        )


class SymmetricCrossEntropy(CrossEntropyLoss):
    """Symmetric cross entropy ``-a * log p - b * log_zero * (1 - p)`` (Wang et al., arXiv 1908.06112).

    Parameters
    ----------
    a, b
        Weights of the two terms, at least 0.
    log_zero
        A negative number; the paper's A.
    weight, ignore_index, reduction, empty
        As in :class:`CrossEntropyLoss`.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import SymmetricCrossEntropy
    >>> SymmetricCrossEntropy(a=0.0)(torch.zeros(2, 2), torch.tensor([0, 1]))
    tensor(2.)
    """

    def __init__(
        self,
        a: float = 0.1,
        b: float = 1.0,
        log_zero: float = -4.0,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        empty: str = "nan",
    ) -> None:
        super().__init__(
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            empty=empty,
            link="symmetric",
            link_params={"a": a, "b": b, "log_zero": log_zero},
        )


LOSS: Mapping[str, Callable[[], nn.Module]] = {
    "comp_sum": CompSumLoss,
    "focal": FocalLoss,
    "generalized_cross_entropy": GeneralizedCrossEntropy,
    "poly": PolyLoss,
    "symmetric_cross_entropy": SymmetricCrossEntropy,
}
"""What this module offers under which name."""
