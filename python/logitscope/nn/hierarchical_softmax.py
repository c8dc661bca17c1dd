"""Softmax in two levels: the usual way to many classes at a cost of their square root."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from logitscope.errors import ArgumentError, DTypeError, ShapeError, TargetError


class HierarchicalSoftmax(nn.Module):
    """Two-level softmax over contiguous groups: ``log p(k) = log p(group of k) + log p(k in its group)``.

    With groups of about ``sqrt(num_classes)`` the loss of an example costs O(sqrt(D) d). Classes that are sorted by
    frequency make groups of classes that are about as frequent.

    Parameters
    ----------
    in_features
        d.
    num_classes
        D.
    group_size
        Classes in a group; the last may be smaller. None for about the square root of D.
    sparse
        Whether gradients of the second level are sparse: then a step touches the groups of the targets alone, and the
        optimizer must be one for sparse gradients, such as ``torch.optim.SGD``.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import HierarchicalSoftmax
    >>> layer = HierarchicalSoftmax(8, 1000)
    >>> layer(torch.randn(4, 8), torch.tensor([3, 1, 4, 999])).shape
    torch.Size([])
    >>> log_p = layer.log_prob(torch.randn(4, 8))
    >>> torch.allclose(log_p.exp().sum(dim=-1), torch.ones(4))
    True
    """

    def __init__(
        self, in_features: int, num_classes: int, group_size: int | None = None, *, sparse: bool = False
    ) -> None:
        super().__init__()
        for name, value in (
            ("in_features", in_features),
            ("num_classes", num_classes),
            ("group_size", group_size),
        ):
            if value is not None and value < 1:
                message = f"HierarchicalSoftmax: {name} is {value}; use an integer, at least 1"
                raise ArgumentError(message)
        groups = math.isqrt(num_classes - 1) + 1
        self.in_features, self.num_classes, self.sparse = in_features, num_classes, sparse
        self.group_size = group_size or -(-num_classes // groups)
        self.num_groups = -(-num_classes // self.group_size)
        bound = in_features**-0.5
        self.group = nn.Linear(in_features, self.num_groups)
        self.weight = nn.Parameter(
            torch.empty(self.num_groups, self.group_size * in_features).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.zeros(self.num_groups, self.group_size))

    def forward(self, h: Tensor, targets: Tensor) -> Tensor:
        """Mean negative log-likelihood of targets (...) for hidden rows (..., d)."""
        self._check(h, targets)
        rows, flat = h.reshape(-1, self.in_features), targets.reshape(-1).long()
        group, slot = flat // self.group_size, flat % self.group_size
        weight = nn.functional.embedding(group, self.weight, sparse=self.sparse)
        offsets = nn.functional.embedding(group, self.bias, sparse=self.sparse)
        scores = torch.baddbmm(
            offsets[..., None], weight.view(len(rows), self.group_size, -1), rows[..., None]
        )
        members = self._masked(scores.squeeze(-1), group)
        of_group = nn.functional.cross_entropy(self.group(rows), group, reduction="sum")
        of_member = nn.functional.cross_entropy(members, slot, reduction="sum")
        loss: Tensor = (of_group + of_member) / len(flat)
        return loss

    def log_prob(self, h: Tensor) -> Tensor:
        """Logarithms of the probabilities of all classes, (..., D): as dear as a dense layer."""
        weight = self.weight.view(self.num_groups, self.group_size, self.in_features)
        scores = torch.einsum("...d,gsd->...gs", h, weight) + self.bias
        members = self._masked(scores, torch.arange(self.num_groups)).log_softmax(dim=-1)
        together: Tensor = self.group(h).log_softmax(dim=-1)[..., None] + members
        return together.flatten(start_dim=-2)[..., : self.num_classes]

    def _masked(self, scores: Tensor, group: Tensor) -> Tensor:
        """Blank the slots that the last group has too many."""
        classes = group[..., None] * self.group_size + torch.arange(self.group_size)
        return scores.masked_fill(classes >= self.num_classes, -torch.inf)

    def _check(self, h: Tensor, targets: Tensor) -> None:
        if h.dim() == 0 or h.shape[-1] != self.in_features:
            message = f"HierarchicalSoftmax: h has shape {tuple(h.shape)}; use (..., {self.in_features})"
            raise ShapeError(message)
        if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
            message = (
                f"HierarchicalSoftmax: targets are {targets.dtype}; use an integer type, such as torch.int64"
            )
            raise DTypeError(message)
        if targets.shape != h.shape[:-1]:
            message = (
                f"HierarchicalSoftmax: targets has shape {tuple(targets.shape)}; use {tuple(h.shape[:-1])}"
            )
            raise ShapeError(message)
        wrong = ((targets < 0) | (targets >= self.num_classes)).flatten()
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            value = int(targets.flatten()[row])
            message = (
                f"HierarchicalSoftmax: target {value} in row {row} is no class; use 0..{self.num_classes - 1}"
            )
            raise TargetError(message)
