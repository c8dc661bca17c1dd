"""What selective attention can do with small weights, as numbers (Zhang et al., arXiv 2411.12892)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from logitscope.errors import ArgumentError, ShapeError


def specificity(w: Tensor, q: Tensor) -> Tensor:
    """How far a query can tell keys apart: ``|W^T q|``.

    Parameters
    ----------
    w
        (d, d), product of the projections to queries and keys.
    q
        (..., d), tokens.

    Notes
    -----
    Lemma 1: for tokens of length 1, ``|W| >= (specificity(a) - specificity(b)) / |a - b|``, so a model that needs
    both a sharp and a broad token needs large weights; with temperatures weights of norm 1 do.

    Examples
    --------
    >>> import torch
    >>> from logitscope.theory import specificity
    >>> specificity(2 * torch.eye(2), torch.tensor([[3.0, 4.0]]))
    tensor([10.])
    """
    norms: Tensor = (q @ w).norm(dim=-1)
    return norms


def ssa_norm_lower_bound(p: Tensor, e: Tensor, eps: float) -> tuple[float, float]:
    """Norms of weights that reproduce ``P = [[1 - g, g], [0, 1]]`` from two tokens (Proposition 1).

    Parameters
    ----------
    p
        (2, 2), the attention map that is wanted.
    e
        (2, d), the two tokens, of length 1.
    eps
        The largest error of a weight, above 0 and at most ``min(g, 1 - g) / 2``.

    Returns
    -------
    plain, selective
        No W of a smaller norm than ``plain`` does it without temperatures; with them one of effective norm
        ``selective`` does.

    Raises
    ------
    ShapeError, ArgumentError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import torch
    >>> from logitscope.theory import ssa_norm_lower_bound
    >>> plain, selective = ssa_norm_lower_bound(torch.tensor([[0.6, 0.4], [0.0, 1.0]]), torch.eye(2), eps=1e-4)
    >>> round(plain, 3), round(selective, 3)
    (3.709, 6.513)
    """
    if tuple(p.shape) != (2, 2) or e.dim() != 2 or len(e) != 2:
        message = (
            f"ssa_norm_lower_bound: p, e have shapes {tuple(p.shape)}, {tuple(e.shape)}; use (2, 2), (2, d)"
        )
        raise ShapeError(message)
    share = float(p[0, 1])
    if not 0 < share < 1 or float(p[1, 0]) != 0:
        message = f"ssa_norm_lower_bound: p is {p.tolist()}; use [[1 - g, g], [0, 1]] with g between 0 and 1"
        raise ArgumentError(message)
    largest = min(share, 1 - share) / 2
    if not 0 < eps <= largest:
        message = f"ssa_norm_lower_bound: eps is {eps}; use above 0 and at most {largest:g}"
        raise ArgumentError(message)
    first, second = e.detach().double()
    overlap, distance = float(first @ second), float((first - second).norm())
    tilt = abs(math.log((1 - share) / share))
    plain = (math.log(1 / (4 * eps)) - tilt) / (distance * math.sqrt(2 - 2 * overlap**2))
    selective = max(math.log(1 / eps), tilt / math.sqrt(1 - overlap**2)) / distance
    return plain, selective


def optimal_position_temperature(kappa: Tensor, alpha: float = 0.5) -> Tensor:
    """Inverse temperature that keeps a share of attention on a token as others crowd it out (Proposition 2).

    Parameters
    ----------
    kappa
        (...), how many other tokens there are for each one of the kind that is wanted.
    alpha
        The share it shall have, between 0 and 1.

    Returns
    -------
    Tensor
        ``log kappa + log(alpha / (1 - alpha))``, for scores that are 1 on the token wanted and 0 on the others. Where
        kappa grows as a power of n it is linear in ``log n``: that is the rule of the position's term.

    Raises
    ------
    ArgumentError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import torch
    >>> from logitscope.theory import optimal_position_temperature
    >>> kappa = torch.tensor([1.0, 9.0])
    >>> tau = optimal_position_temperature(kappa, alpha=0.5)
    >>> tau.exp() / (tau.exp() + kappa)
    tensor([0.5000, 0.5000])
    """
    if not 0 < alpha < 1:
        message = f"optimal_position_temperature: alpha is {alpha}; use a number between 0 and 1"
        raise ArgumentError(message)
    return kappa.log() + math.log(alpha / (1 - alpha))


def spikiness(p: Tensor) -> Tensor:
    """How many keys share a row's attention, as a part of all: ``|p|_1^2 / (|p|_2^2 n)``, smaller where it is sharper.

    Parameters
    ----------
    p
        (..., n), weights.

    Examples
    --------
    >>> import torch
    >>> from logitscope.theory import spikiness
    >>> spikiness(torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]]))
    tensor([1.0000, 0.2500])
    """
    shares: Tensor = torch.square(p.abs().sum(-1)) / (p.square().sum(-1) * p.shape[-1])
    return shares
