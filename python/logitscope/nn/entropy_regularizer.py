"""A penalty on attention heads whose entropy is far from a level that each of them learns.

Jha and Reagen, "Entropy-Guided Attention for Private LLMs", arXiv 2501.03489.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from logitscope.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

EntropyMaximum = Literal["context", "row"]
EntropyReduction = Literal["head_mean", "token_sum"]


class EntropyPenalty(NamedTuple):
    """What :class:`EntropyRegularizer` found in its last call, without gradients."""

    entropy: Tensor
    """(L, H), mean entropy of each head: in nats ("context") or of each row's largest ("row")."""
    difference: Tensor
    """(L, H), how far it is above the level that the head has learned."""
    penalty: Tensor
    """(L, H), what the head adds before the mean over heads and layers."""


class EntropyRegularizer(nn.Module):
    """Penalises the squared distance of a head's entropy from a learned level, outside of a dead zone.

    Parameters
    ----------
    num_layers, num_heads
        L and H.
    lam
        Factor of the penalty, lambda.
    gamma
        Half the width of the dead zone as a share of the largest entropy, from 0 to below 1.
    theta_init
        The level at first, as a share of the largest entropy.
    emax
        What the largest entropy is: "context", ``log T`` for all rows as in the paper, which a causal head cannot reach
        (one that looks everywhere alike comes to about ``log T - 1``); or "row", the logarithm of the number of keys
        that a row sees.
    reduction
        "head_mean" penalises each head's mean entropy, as the paper writes; "token_sum" each row's entropy, summed over
        rows and batch, as its code does: its ``lam`` is then that of "head_mean" over the number of rows.
    smooth
        Measure from the edge of the dead zone: ``max(|d| - tolerance, 0)**2``. By default the penalty is ``d**2``
        and jumps at the edge, as in the paper.

    Raises
    ------
    ArgumentError
        Naming the argument, what came and what would work; in a call ``ShapeError``.

    Notes
    -----
    The levels, ``reg_threshold_weights``, follow the entropy: leave them out of weight decay. Each layer uses its own
    (the released code reads those of the first layer everywhere). Rows that see no key do not count, and in "row"
    neither do those that see one.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import EntropyRegularizer
    >>> penalty = EntropyRegularizer(1, 2, lam=1.0, emax="row")
    >>> counts = torch.arange(1, 5)
    >>> uniform = counts.float().log().expand(3, 2, 4)
    >>> penalty([uniform], counts).item(), penalty([uniform / 2], counts).item()
    (0.25, 0.0)
    """

    def __init__(
        self,
        num_layers: int,
        num_heads: int,
        *,
        lam: float = 1e-5,
        gamma: float = 0.2,
        theta_init: float = 0.5,
        emax: EntropyMaximum = "context",
        reduction: EntropyReduction = "head_mean",
        smooth: bool = False,
    ) -> None:
        super().__init__()
        for name, value, choices in (
            ("emax", emax, get_args(EntropyMaximum)),
            ("reduction", reduction, get_args(EntropyReduction)),
        ):
            if value not in choices:
                message = f"EntropyRegularizer: {name} is {value!r}; use {' or '.join(choices)}"
                raise ArgumentError(message)
        if not 0 <= gamma < 1:
            message = f"EntropyRegularizer: gamma is {gamma}; use 0 or more, below 1"
            raise ArgumentError(message)
        self.lam = lam
        self.gamma = gamma
        self.emax = emax
        self.reduction = reduction
        self.smooth = smooth
        self.reg_threshold_weights = nn.Parameter(torch.full((num_layers, num_heads), theta_init))
        self.last: EntropyPenalty | None = None

    def forward(self, entropies: Sequence[Tensor], visible_counts: Tensor) -> Tensor:
        """Penalty, times ``lam``, of each layer's row entropies.

        Parameters
        ----------
        entropies
            L tensors (B, H, T), in nats.
        visible_counts
            How many keys each row sees, broadcastable to (B, H, T); 1 to T for causal attention.
        """
        layers, heads = self.reg_threshold_weights.shape
        if len(entropies) != layers or any(e.dim() != 3 or e.shape[1] != heads for e in entropies):
            shapes = ", ".join(str(tuple(entropy.shape)) for entropy in entropies)
            wanted = f"{layers} of (B, {heads}, T)"
            message = f"EntropyRegularizer: entropies have shapes {shapes or 'of none'}; use {wanted}"
            raise ShapeError(message)
        found = [
            self._layer(entropy, visible_counts, level)
            for entropy, level in zip(entropies, self.reg_threshold_weights, strict=True)
        ]
        entropy, difference, penalty = (torch.stack(parts) for parts in zip(*found, strict=True))
        self.last = EntropyPenalty(entropy.detach(), difference.detach(), penalty.detach())
        return self.lam * penalty.mean()

    def _layer(self, entropy: Tensor, visible: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Entropy, difference and penalty of the heads of one layer, (H,) each."""
        level = level.to(entropy.dtype)
        visible = visible.to(entropy.device).expand(entropy.shape)
        if self.emax == "row":
            counts = visible > 1
            entropy = torch.where(counts, entropy / visible.clamp_min(2).to(entropy.dtype).log(), 0.0)
            largest = entropy.new_ones(())
        else:
            counts = visible > 0
            entropy = torch.where(counts, entropy, 0.0)
            largest = entropy.new_tensor(max(entropy.shape[2], 1)).log()
        rows = counts.sum((0, 2)).clamp_min(1)
        mean = entropy.sum((0, 2)) / rows
        if self.reduction == "token_sum":
            differences = entropy - level[:, None] * largest
            penalty = torch.where(counts, self._penalty(differences, largest), 0.0).sum((0, 2))
            return mean, torch.where(counts, differences, 0.0).sum((0, 2)) / rows, penalty
        difference = torch.where(counts.any(2).any(0), mean - level * largest, 0.0)
        return mean, difference, self._penalty(difference, largest)

    def _penalty(self, difference: Tensor, largest: Tensor) -> Tensor:
        excess = difference.abs() - self.gamma * largest
        if self.smooth:
            return excess.clamp_min(0).square()
        return torch.where(excess > 0, difference.square(), 0.0)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"lam={self.lam}, gamma={self.gamma}, emax={self.emax!r}, reduction={self.reduction!r}"
