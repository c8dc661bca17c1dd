"""The gate of a sparse mixture of experts, over the top-k softmax."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from logitscope.errors import ArgumentError
from logitscope.nn import functional


class GateOutput(NamedTuple):
    """What a gate decides for each token."""

    weights: Tensor
    """(..., k), of the selected experts; they sum to 1."""
    indices: Tensor
    """(..., k) int64, which experts these are."""
    logits: Tensor
    """(..., E), noise included."""
    aux_loss: Tensor
    """A number to add to the loss of the training."""


class TopKSoftmaxGate(nn.Module):
    """Selects ``k`` experts for each token and weighs them by a softmax over their scores alone.

    The gate of Nguyen et al., arXiv 2309.13850, with the auxiliary losses of practice.

    Parameters
    ----------
    d_model
        Length of a token's vector.
    num_experts
        How many experts there are, E.
    k
        How many are selected, 1 to E.
    noisy
        Add normal noise of a learned deviation to the logits while training.
    select_with_bias
        Select by score and bias, as usual; ``False`` selects by the score alone, and weighs by both.
    balance_coef
        Factor of :func:`load_balance_loss` in ``aux_loss``.
    z_coef
        Factor of the mean squared logsumexp of the logits in ``aux_loss``.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import TopKSoftmaxGate
    >>> gate = TopKSoftmaxGate(16, num_experts=8, k=2)
    >>> output = gate(torch.randn(3, 5, 16))
    >>> output.weights.shape, output.indices.shape, output.logits.shape
    (torch.Size([3, 5, 2]), torch.Size([3, 5, 2]), torch.Size([3, 5, 8]))
    """

    def __init__(
        self,
        d_model: int,
        num_experts: int,
        k: int = 2,
        *,
        noisy: bool = False,
        select_with_bias: bool = True,
        balance_coef: float = 0.01,
        z_coef: float = 0.0,
    ) -> None:
        super().__init__()
        if not 1 <= k <= num_experts:
            message = f"TopKSoftmaxGate: k is {k}; use 1..{num_experts}"
            raise ArgumentError(message)
        self.k = k
        self.select_with_bias = select_with_bias
        self.balance_coef = balance_coef
        self.z_coef = z_coef
        self.score = nn.Linear(d_model, num_experts, bias=False)
        self.bias = nn.Parameter(torch.zeros(num_experts))
        self.noise = nn.Linear(d_model, num_experts, bias=False) if noisy else None

    def forward(self, x: Tensor) -> GateOutput:
        """Gate the tokens x (..., d_model)."""
        scores = self.score(x)
        if self.noise is not None and self.training:
            scores = scores + torch.randn_like(scores) * nn.functional.softplus(self.noise(x))
        logits = scores + self.bias
        selecting = logits if self.select_with_bias else scores
        indices, weights = functional.topk_softmax(selecting, self.k, return_indices=True)
        if not self.select_with_bias:
            weights = functional.softmax(logits.gather(-1, indices))
        aux_loss = logits.new_zeros(())
        if self.balance_coef:
            aux_loss = aux_loss + self.balance_coef * load_balance_loss(logits, indices)
        if self.z_coef:
            aux_loss = aux_loss + self.z_coef * functional.logsumexp(logits).square().mean()
        return GateOutput(weights, indices, logits, aux_loss)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"k={self.k}, select_with_bias={self.select_with_bias}"


def load_balance_loss(logits: Tensor, indices: Tensor) -> Tensor:
    """Load-balance loss ``E * sum(f * P)`` of the experts' shares of the routed slots and their mean probabilities.

    It is 1 where all experts are alike and E where one has all; the shares have no gradient.

    Parameters
    ----------
    logits
        (..., E).
    indices
        (..., k), the experts selected.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import load_balance_loss
    >>> load_balance_loss(torch.zeros(4, 4), torch.arange(4)[:, None])
    tensor(1.)
    """
    experts = logits.shape[-1]
    counts = torch.zeros(experts, dtype=logits.dtype, device=logits.device)
    counts = counts.scatter_add(0, indices.flatten(), torch.ones_like(indices.flatten(), dtype=logits.dtype))
    mean = functional.softmax(logits).reshape(-1, experts).mean(0)
    return experts * (counts / max(indices.numel(), 1) * mean).sum()
