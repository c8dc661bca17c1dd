"""The regularity theorem of sigmoid attention (Ramapuram et al., arXiv 2409.04431)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from logitscope.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor


def sigmoid_attention_lipschitz(x: Tensor, wq: Tensor, wk: Tensor, wv: Tensor, b: float) -> float:
    """Bound on the spectral norm of the Jacobian of one head of sigmoid attention at ``x``.

    Parameters
    ----------
    x
        The tokens, (n, d).
    wq, wk
        Projections to queries and keys as ``torch.nn.Linear`` has them, (d_qk, d).
    wv
        Projection to values, (d_v, d).
    b
        The bias before the sigmoid.

    Returns
    -------
    float
        ``|Wv| (n s + 2 s' |A| sum |x_i|^2)`` with ``A = Wq^T Wk / sqrt(d_qk)`` and the largest weight ``s`` and largest
        derivative ``s'`` of all pairs. With ``b = -log(n)`` it does not grow with n.

    Examples
    --------
    >>> import torch
    >>> from logitscope.theory import sigmoid_attention_lipschitz
    >>> w = torch.eye(2)
    >>> round(sigmoid_attention_lipschitz(torch.zeros(3, 2), w, w, w, b=0.0), 4)
    1.5
    """
    if x.dim() != 2 or any(w.dim() != 2 or w.shape[1] != x.shape[1] for w in (wq, wk, wv)):
        shapes = ", ".join(str(tuple(part.shape)) for part in (x, wq, wk, wv))
        message = f"sigmoid_attention_lipschitz: x, wq, wk, wv have shapes {shapes}; use (n, d) and (.., d)"
        raise ShapeError(message)
    x, wq, wk, wv = (part.detach().double() for part in (x, wq, wk, wv))
    mixed = wq.T @ wk / math.sqrt(len(wq))
    weights = torch.sigmoid(x @ mixed @ x.T + b)
    largest, steepest = weights.max(), (weights * (1 - weights)).max()
    spread = 2 * steepest * torch.linalg.matrix_norm(mixed, 2) * x.square().sum()
    return float(torch.linalg.matrix_norm(wv, 2) * (len(x) * largest + spread))
