"""Statistics of plain torch attention, from its scores or from queries and keys, where no kernel hands them out.

torch is not imported: tensors bring their methods. The whole batch would cost as much as the attention itself, so
elements of the batch, and of long sequences rows, are picked at equal distances.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.record.layers import Layer
from logitscope.record.statistics import summarize_heads

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLED_SCORES = 1 << 20
"""Scores that are looked at in one layer, some."""
_MASKED = -1e30
"""Scores below are masks: ``-inf``, or the smallest number of a type, as transformers write it."""


def of_queries(
    query: Any, key: Any, mask: Any, *, is_causal: bool, scale: float | None, sample: int, bins: Any
) -> Layer | None:
    """Look at queries (B, H, L, D) and keys (B, Hk, S, D) as ``scaled_dot_product_attention`` takes them.

    Parameters
    ----------
    query, key
        torch tensors; leading axes but B and H are taken for batch.
    mask
        Boolean (True is seen) or added to the scores; broadcasts to (B, H, L, S). None for none.
    is_causal
        Whether a row sees only keys up to its own number.
    scale
        What the products are multiplied by; ``1 / sqrt(D)`` for None.
    sample
        Which element of the batch the map is of.
    bins
        Rows and columns of the map at most; None for no map.

    Returns
    -------
    Layer or None
        None when there are no rows.
    """
    if query.ndim < 3 or not query.numel() or not key.numel():
        return None
    batch = query.shape[:-3].numel()
    heads, length, size = query.shape[-3:]
    seen = key.shape[-2]
    chosen, rows = _picked(batch, heads, length, seen, sample)
    queries = query.detach().reshape(batch, heads, length, size)[chosen][:, :, rows].float()
    keys = key.detach().reshape(batch, key.shape[-3], seen, size)[chosen].float()
    if keys.shape[1] != heads:
        keys = keys.repeat_interleave(heads // keys.shape[1], 1)
    scores = queries @ keys.transpose(-1, -2) * (1 / math.sqrt(size) if scale is None else scale)
    if mask is not None:
        wide = (
            mask.detach()
            .expand(*query.shape[:-1], seen)
            .reshape(batch, heads, length, seen)[chosen][:, :, rows]
        )
        scores = scores.masked_fill(~wide, -math.inf) if "bool" in str(wide.dtype) else scores + wide.float()
    if is_causal:
        places = query.new_tensor(rows).reshape(-1, 1)
        scores = scores.masked_fill(query.new_tensor(range(seen)).reshape(1, -1) > places, -math.inf)
    return _look(scores, chosen.index(min(sample, batch - 1)), _fit(bins, length, seen))


def of_scores(scores: Any, *, sample: int, bins: Any) -> Layer | None:
    """Look at scores (B, H, L, S) on their way into a softmax, masks in them."""
    if not scores.numel():
        return None
    batch, heads, length, seen = scores.shape
    chosen, rows = _picked(batch, heads, length, seen, sample)
    part = scores.detach()[chosen][:, :, rows].float()
    return _look(part, chosen.index(min(sample, batch - 1)), _fit(bins, length, seen))


def _picked(batch: int, heads: int, length: int, seen: int, sample: int) -> tuple[list[int], list[int]]:
    """Elements of the batch and rows that are looked at."""
    count = min(batch, max(1, SAMPLED_SCORES // (heads * length * seen)))
    chosen = {min(sample, batch - 1), *np.linspace(0, batch - 1, count).astype(int).tolist()}
    kept = min(length, max(16, SAMPLED_SCORES // (heads * seen)))
    return sorted(chosen), np.linspace(0, length - 1, kept).astype(int).tolist()


def _fit(bins: Any, length: int, seen: int) -> tuple[int, int] | None:
    return None if bins is None else (min(bins[0], length), min(bins[1], seen))


def _look(scores: Any, place: int, bins: tuple[int, int] | None) -> Layer | None:
    masked = scores <= _MASKED
    scores = scores.masked_fill(masked, -math.inf)
    lse = scores.logsumexp(-1)
    below = (scores - lse.unsqueeze(-1)).masked_fill(masked, 0.0)
    weights = below.exp().masked_fill(masked, 0.0)
    shown = ~masked
    count = shown.sum((0, 2, 3)).clamp(min=1)
    kept = scores.masked_fill(masked, 0.0)
    mean = kept.sum((0, 2, 3)) / count
    square = ((kept - mean.reshape(1, -1, 1, 1)).masked_fill(masked, 0.0) ** 2).sum((0, 2, 3)) / count
    summary = summarize_heads(
        _numpy(scores.amax(-1)),
        _numpy(-(weights * below).sum(-1)),
        _numpy(lse),
        _numpy(shown.sum(-1)),
        _numpy(square.sqrt()).astype(np.float32),
    )
    if summary is None:
        return None
    return Layer(summary, None if bins is None else _binned(_numpy(weights[place]), bins))


def _binned(map_: NDArray[Any], bins: tuple[int, int]) -> NDArray[np.float32]:
    """Means of weights (H, L, S) over rows and columns that lie together."""
    for axis, parts in ((1, min(bins[0], map_.shape[1])), (2, min(bins[1], map_.shape[2]))):
        edges = np.linspace(0, map_.shape[axis], parts + 1).astype(int)
        sizes = np.diff(edges).reshape([-1 if place == axis else 1 for place in range(3)])
        map_ = np.add.reduceat(map_, edges[:-1], axis=axis, dtype=np.float64) / sizes
    return map_.astype(np.float32)


def _numpy(tensor: Any) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
