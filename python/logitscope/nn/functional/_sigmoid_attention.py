"""Attention that weighs each key for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from logitscope.nn.functional._attention import attention

if TYPE_CHECKING:
    from torch import Tensor

    from logitscope.ops.attention_result import AttentionResult


def sigmoid_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: float | Tensor,
    scale: float | None = None,
    is_causal: bool = False,
    **options: Any,
) -> AttentionResult:
    """Attention with the weights ``sigmoid(scale q.k + bias)``, which need not sum to 1.

    Parameters
    ----------
    q, k, v
        (B, Hq, T, D), (B, Hk, S, D) and (B, Hk, S, Dv), float32 or float64.
    bias
        A number, or (Hq,) with a gradient. ``-log(n)`` for sequences of n tokens makes the sums of the weights
        about 1 in a new model.
    scale, is_causal, options
        As in :func:`attention`, ``device`` included; no sinks.

    Returns
    -------
    AttentionResult
        ``lse`` is the logarithm of a row's sum of weights, ``entropy`` that of the weights over their sum.

    Notes
    -----
    Ramapuram et al., "Theory, Analysis, and Best Practices for Sigmoid Self-Attention", arXiv 2409.04431.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn.functional import sigmoid_attention
    >>> q = k = torch.zeros(1, 1, 4, 8)
    >>> sigmoid_attention(q, k, torch.ones(1, 1, 4, 1), bias=-torch.tensor(4.0).log(), is_causal=True).out.flatten()
    tensor([0.2000, 0.4000, 0.6000, 0.8000])
    """
    return attention(
        q, k, v, scale=scale, is_causal=is_causal, kind="sigmoid", sigmoid_bias=_as_option(bias, q), **options
    )


def _as_option(bias: float | Tensor, q: Tensor) -> float | Tensor:
    """A tensor without dimensions is one number for all heads, with its gradient."""
    return bias if isinstance(bias, int | float) or bias.dim() else bias.to(q.dtype).expand(q.shape[1])
