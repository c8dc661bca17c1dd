"""A drop-in for torch's ``scaled_dot_product_attention``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from logitscope.errors import ArgumentError, ShapeError
from logitscope.nn.functional._attention import attention

if TYPE_CHECKING:
    from torch import Tensor

    from logitscope.nn.functional._on_gpu import DeviceName


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    device: DeviceName | None = None,
) -> Tensor:
    """Attend with the names and the meaning of torch's function: causal counts from the first query and key.

    Parameters
    ----------
    query
        (..., Hq, T, D), or (N, T, D) without heads.
    key
        (..., Hk, S, D).
    value
        (..., Hk, S, Dv).
    attn_mask
        Bool, True where a query may attend, or numbers that are added to the scores, with a gradient and -inf where
        it may not; broadcasts to (..., Hq, T, S).
    dropout_p
        Share of the weights that is dropped; which ones torch's generator decides, by one draw a call.
    is_causal
        Whether query i sees only the keys 0..i.
    scale
        1 / sqrt(D) by default.
    enable_gqa
        Whether Hq may be a multiple of Hk.
    device
        ``"cpu"`` or ``"gpu"``, as in :func:`attention`.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn.functional import scaled_dot_product_attention
    >>> q, k, v = torch.randn(3, 1, 2, 8, 16)
    >>> ours = scaled_dot_product_attention(q, k, v, is_causal=True)
    >>> theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    >>> torch.allclose(ours, theirs, atol=1e-5)
    True
    """
    if not 0 <= dropout_p < 1:
        message = f"scaled_dot_product_attention: dropout_p is {dropout_p}; use 0 or more, below 1"
        raise ArgumentError(message)
    tensors = (query, key, value)
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if min(len(shape) for shape in shapes) < 3 or len({(len(shape), shape[:-3]) for shape in shapes}) > 1:
        message = (
            f"scaled_dot_product_attention: query {shapes[0]}, key {shapes[1]}, value {shapes[2]}; "
            f"use (N, T, D) or (..., H, T, D) with the same leading dimensions"
        )
        raise ShapeError(message)
    if query.shape[-3] != key.shape[-3] and not (enable_gqa and query.dim() > 3):
        message = (
            f"scaled_dot_product_attention: query has {query.shape[-3]} heads, key {key.shape[-3]}; "
            f"use the same number, or enable_gqa=True"
        )
        raise ShapeError(message)
    q, k, v = (tensor if tensor.dim() == 4 else tensor.reshape(-1, *tensor.shape[-3:]) for tensor in tensors)
    if attn_mask is not None and max(attn_mask.dim(), query.dim()) > 4:
        attn_mask = _flat_mask(attn_mask, (*query.shape[:-1], key.shape[-2]))
    is_bool = attn_mask is not None and attn_mask.dtype == torch.bool
    out: Tensor = attention(
        q,
        k,
        v,
        scale=scale,
        mask=attn_mask if is_bool else None,
        bias=None if is_bool else attn_mask,
        is_causal=is_causal,
        causal_align="top_left",
        dropout_p=dropout_p,
        device=device,
    ).out
    return out if query.dim() == 4 else out.reshape(*query.shape[:-1], value.shape[-1])


def _flat_mask(mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Make one batch dimension of all leading ones; a mask that has none of them stays as it is."""
    if mask.dim() < 4:
        return mask
    try:
        return mask.expand(shape).reshape(-1, *shape[-3:])
    except RuntimeError:
        message = (
            f"scaled_dot_product_attention: attn_mask of shape {tuple(mask.shape)} does not broadcast to "
            f"{shape}; use a shape that does"
        )
        raise ShapeError(message) from None
