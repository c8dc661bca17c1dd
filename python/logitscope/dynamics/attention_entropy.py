"""How spread out attention heads look, and what that says of them.

Jha and Reagen, "Entropy-Guided Attention for Private LLMs", arXiv 2501.03489.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope._arrays import as_wide_floats
from logitscope.dynamics.attention_probe import AttentionProbe
from logitscope.errors import ArgumentError
from logitscope.record.statistics import summarize_heads

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from logitscope.record.watch import AttentionObservation


@dataclass(frozen=True, slots=True, eq=False)
class EntropyReport:
    """Heads by the quarter of the largest entropy that theirs lies in; what is NaN is left out."""

    bins: NDArray[np.float64]
    """(4,), shares of the heads: prone to collapse, low, healthy, overloaded."""
    overloaded: float
    """Share of the heads with three quarters of the largest entropy or more: they look everywhere alike."""
    collapsed: float
    """Share of the heads with less than one quarter."""
    by_layer: NDArray[np.float64]
    """(L,), mean of the layer's heads, as a share of the largest entropy."""


class AttentionEntropyProbe(AttentionProbe):
    """Measures the entropy of each head of a model, in every forward pass until it is closed.

    Parameters
    ----------
    model
        A module with attention of ``logitscope.nn`` in it; a watch of the recorder may be there, too.

    Examples
    --------
    >>> import torch
    >>> from logitscope.dynamics import AttentionEntropyProbe
    >>> from logitscope.nn import CausalSelfAttention
    >>> model = CausalSelfAttention(8, 2)
    >>> with AttentionEntropyProbe(model) as probe:
    ...     out = model(torch.zeros(1, 4, 8))
    >>> probe.entropy.round(3)
    array([[1., 1.]], dtype=float32)
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        heads = max(module.num_heads for _, module in self.modules)
        self.entropy: NDArray[np.float32] = np.full((len(self.modules), heads), np.nan, np.float32)
        """(L, H), of the last forward pass: mean over the rows of the entropy over that of a uniform row."""

    def take(self, layer: int, observation: AttentionObservation) -> None:
        """Reduce a layer's rows to its heads."""
        rows = (observation.max_logit, observation.entropy, observation.lse, observation.visible)
        summary = summarize_heads(*rows)
        if summary is not None:
            self.entropy[layer, : len(summary.entropy)] = summary.entropy


def entropy_report(entropy: Any, emax: float = 1.0) -> EntropyReport:
    """Sort heads into quarters of the largest entropy.

    Parameters
    ----------
    entropy
        (L, H), float32 or float64, such as :attr:`AttentionEntropyProbe.entropy`.
    emax
        The largest entropy: 1 for entropies that are shares of it, ``log T`` for nats.

    Returns
    -------
    EntropyReport
        Shares are NaN if there are no heads.

    Raises
    ------
    ArgumentError, DTypeError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.dynamics import entropy_report
    >>> report = entropy_report(np.array([[0.95, 0.6], [0.6, 0.1]]))
    >>> report.bins, report.by_layer
    (array([0.25, 0.  , 0.5 , 0.25]), array([0.775, 0.35 ]))
    """
    heads = as_wide_floats("entropy_report", "entropy", entropy)
    if heads.ndim != 2:
        message = f"entropy_report: entropy has shape {heads.shape}; use (L, H)"
        raise ArgumentError(message)
    if not emax > 0:
        message = f"entropy_report: emax is {emax}; use a positive number"
        raise ArgumentError(message)
    shares = heads / emax
    known = shares[~np.isnan(shares)]
    counts = np.bincount(np.clip((4 * known).astype(int), 0, 3), minlength=4)
    bins = counts / len(known) if len(known) else np.full(4, np.nan)
    by_layer = np.array([row[~np.isnan(row)].mean() if (~np.isnan(row)).any() else np.nan for row in shares])
    return EntropyReport(bins, float(bins[3]), float(bins[0]), by_layer.astype(np.float64))
