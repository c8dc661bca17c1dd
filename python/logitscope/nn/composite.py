"""Attention in plain torch, with the semantics of the kernels.

The other path of ``logitscope.nn.functional``: double backward, forward-mode derivatives, ``torch.func`` and
devices other than the CPU come here. It stores the (T, S) scores, so it needs more memory than the kernels.
One thing differs: NaN in a *value* row leaks to queries that may not see it (0 times NaN), as in torch.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from logitscope.nn.composite_dropout import dropout_factors
from logitscope.nn.functional._path import wide

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inv_temperature: Tensor | None,
    sinks: Tensor | None,
    bias: Tensor | None,
    alibi_slopes: Tensor | None,
    sigmoid_bias: Tensor | None,
    value_gate: Tensor | None,
    mask: Tensor | None,
    q_len: Tensor | None,
    kv_len: Tensor | None,
    seed: Tensor | None,
    scale: float,
    window: Sequence[int],
    causal_align: str,
    softcap: float,
    is_sigmoid: bool,
    dropout_p: float,
    stats: str,
    map_bins: Sequence[int],
    map_pooling: str,
    top_keys: int,
) -> tuple[Tensor, ...]:
    """Attention and its statistics; takes and returns what the operator ``logitscope::attention`` does.

    Returns
    -------
    out, lse, max_logit, inv_sum, entropy, map, top_keys, top_weights, logit_count, logit_mean, logit_m2, variance
        (B, Hq, T, Dv), (B, Hq, T) each, (B, Hq, R, C), and twice (B, Hq, T, k); (0,) for what is not asked for.
    """
    if q.dtype != wide(q.dtype):
        given = (q, k, v, inv_temperature, sinks, bias, alibi_slopes, sigmoid_bias, value_gate)
        widened = (None if tensor is None else tensor.to(wide(q.dtype)) for tensor in given)
        options = (scale, window, causal_align, softcap, is_sigmoid, dropout_p)
        wanted = (stats, map_bins, map_pooling, top_keys)
        parts = attention(*widened, mask, q_len, kv_len, seed, *options, *wanted)  # type: ignore[arg-type, call-arg]
        return parts[0].to(q.dtype), *parts[1:]
    if value_gate is not None:
        v = _gated(v, value_gate, kv_len)
    group = q.shape[1] // k.shape[1] if k.shape[1] else 1
    k, v = (tensor.repeat_interleave(group, dim=1) if group > 1 else tensor for tensor in (k, v))
    scores = scale * (q @ k.transpose(-1, -2))
    if inv_temperature is not None:
        scores = inv_temperature[..., None] * scores
    if softcap:
        scores = softcap * (scores / softcap).tanh()
    distance = _distance(scores, q_len, kv_len, causal_align)
    visible = _visible(scores, mask, q_len, kv_len, window, distance)
    if bias is not None:
        open_ = bias != -torch.inf
        visible = open_ if visible is None else visible & open_
        scores = scores + bias
    if alibi_slopes is not None:
        scores = scores - alibi_slopes[:, None, None] * distance.abs().to(scores.dtype)
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    if scores.shape[-1] == 0:
        # Without any key all rows are empty, and so they are with a masked one.
        scores = nn.functional.pad(scores, (0, 1), value=-torch.inf)
        v = nn.functional.pad(v, (0, 0, 0, 1))
    if is_sigmoid:
        if sigmoid_bias is None:
            seen = (scores != -torch.inf).sum(-1, keepdim=True).clamp(min=1)
            logits = scores - seen.to(scores.dtype).log()
        else:
            logits = scores + sigmoid_bias[:, None, None]
        weights, *figures, variance = _sum(scores, logits, stats.split())
    else:
        weights, *figures, variance = _mix(scores, _sink(scores, sinks, q_len), stats.split())
    map_ = _map(weights, map_bins, map_pooling) if map_bins else scores.new_empty(0)
    top = _top(scores, weights, top_keys)
    moments = _moments(scores) if "logits" in stats.split() else [scores.new_empty(0)] * 3
    if seed is not None:
        weights = weights * dropout_factors(weights, dropout_p, seed)
    # lse, max_logit, inv_sum and entropy are the figures.
    return weights @ v, *figures, map_, *top, *moments, variance


def _gated(v: Tensor, gate: Tensor, kv_len: Tensor | None) -> Tensor:
    """Multiply each value by its gate; 0 beyond the lengths, so that nothing leaks from there into a gradient."""
    if kv_len is not None:
        beyond = _beyond(kv_len, v.shape[2])[:, None]
        v, gate = v.masked_fill(beyond[..., None], 0.0), gate.masked_fill(beyond, 0.0)
    return v * gate[..., None]


def _moments(scores: Tensor) -> list[Tensor]:
    """Count, mean and sum of squared deviations of the scores above -inf."""
    scores = scores.detach()
    count = (scores > -torch.inf).sum(-1).to(scores.dtype)
    hidden = scores == -torch.inf
    mean = scores.masked_fill(hidden, 0.0).sum(-1) / count.clamp(min=1)
    distance = (scores - mean[..., None]).masked_fill(hidden, 0.0)
    return [count, mean, distance.square().sum(-1)]


def _variance(scores: Tensor, shares: Tensor) -> Tensor:
    """Variance of scores under their shares."""
    scores, shares = scores.detach(), shares.detach()
    # Without a share a score may be infinite.
    scores = scores.masked_fill(shares == 0, 0.0)
    mean = (shares * scores).sum(-1, keepdim=True)
    return (shares * (scores - mean).square()).sum(-1)


def _sink(scores: Tensor, sinks: Tensor | None, q_len: Tensor | None) -> Tensor | None:
    """The sink of each row, -inf for queries that are not real."""
    if sinks is None:
        return None
    sink = sinks[:, None].expand(scores.shape[:-1])
    if q_len is not None:
        sink = sink.masked_fill(_beyond(q_len, scores.shape[-2])[:, None], -torch.inf)
    return sink


def _top(scores: Tensor, weights: Tensor, top_keys: int) -> tuple[Tensor, Tensor]:
    """The keys with the largest scores of each row, of equal ones the first, and their weights."""
    if not top_keys:
        return scores.new_empty(0, dtype=torch.int64), scores.new_empty(0)
    ordered = scores.detach().nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    ordered, order = ordered.sort(dim=-1, descending=True, stable=True)
    ordered, order = ordered[..., :top_keys], order[..., :top_keys]
    missing = ordered == -torch.inf
    chosen = weights.detach().gather(-1, order).masked_fill(missing, 0.0)
    return order.masked_fill(missing, -1), chosen


def _beyond(lengths: Tensor, positions: int) -> Tensor:
    """(B, positions): True at the positions that are not real."""
    return torch.arange(positions, device=lengths.device) >= lengths[:, None]


def _distance(scores: Tensor, q_len: Tensor | None, kv_len: Tensor | None, causal_align: str) -> Tensor:
    """How far keys are behind the positions of queries, in a shape that broadcasts to that of the scores."""
    queries, keys = scores.shape[-2:]
    position = torch.arange(queries, device=scores.device)[:, None]
    if causal_align == "bottom_right":
        ends = (keys if kv_len is None else kv_len) - (queries if q_len is None else q_len)
        position = position + (ends if isinstance(ends, int) else ends[:, None, None, None])
    return torch.arange(keys, device=scores.device) - position


def _visible(
    scores: Tensor,
    mask: Tensor | None,
    q_len: Tensor | None,
    kv_len: Tensor | None,
    window: Sequence[int],
    distance: Tensor,
) -> Tensor | None:
    """Which scores count, in a shape that broadcasts to theirs; None for all."""
    queries, keys = scores.shape[-2:]
    conditions = [] if mask is None else [mask]
    if q_len is not None:
        conditions.append(~_beyond(q_len, queries)[:, None, :, None])
    if kv_len is not None:
        conditions.append(~_beyond(kv_len, keys)[:, None, None])
    left, right = window
    conditions += [distance >= -left] if left >= 0 else []
    conditions += [distance <= right] if right >= 0 else []
    visible = None
    for condition in conditions:
        visible = condition if visible is None else visible & condition
    return visible


def _mix(
    scores: Tensor, sink: Tensor | None, stats: Collection[str]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Softmax: the weights of the keys, and lse, largest score, inv_sum, entropy and variance of each row."""
    largest = scores.detach().amax(dim=-1)
    if sink is not None:
        # One more key, whose value is 0.
        scores = torch.cat([scores, sink[..., None]], dim=-1)
    # A row without any score goes through as a row of zeros and is blanked afterwards: its gradients are
    # then 0, where those of its true values would be NaN.
    empty = (scores == -torch.inf).all(dim=-1)
    scores = scores.masked_fill(empty[..., None], 0.0)
    top = scores.detach().amax(dim=-1)
    shifted = scores - top[..., None]
    exponentials = shifted.exp()
    total = exponentials.sum(dim=-1)
    weights = (exponentials / total[..., None]).masked_fill(empty[..., None], 0.0)
    entropy = scores.new_empty(0)
    if "entropy" in stats:
        mean = (weights * shifted.masked_fill(shifted == -torch.inf, 0.0)).sum(dim=-1)
        entropy = (total.log() - mean).clamp(min=0.0).masked_fill(empty, 0.0)
    variance = _variance(shifted, weights) if "variance" in stats else scores.new_empty(0)
    if sink is not None:
        weights = weights[..., :-1]
    return (
        weights,
        (top + total.log()).masked_fill(empty, -torch.inf),
        largest,
        total.detach().reciprocal().masked_fill(empty, 0.0),
        entropy,
        variance,
    )


def _sum(
    scores: Tensor, logits: Tensor, stats: Collection[str]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Weight each key for itself; gives what ``_mix`` does."""
    hidden = logits == -torch.inf
    logits = logits.masked_fill(hidden, 0.0)
    weights = logits.sigmoid().masked_fill(hidden, 0.0)
    total = weights.sum(dim=-1)
    empty = total == 0
    total = total.masked_fill(empty, 1.0)
    lse = total.log()
    entropy = scores.new_empty(0)
    if "entropy" in stats:
        mean = (weights * nn.functional.logsigmoid(logits)).sum(dim=-1) / total
        entropy = (lse - mean).clamp(min=0.0).masked_fill(empty, 0.0)
    variance = scores.new_empty(0)
    if "variance" in stats:
        variance = _variance(scores, weights / total[..., None])
    return (
        weights,
        lse.masked_fill(empty, -torch.inf),
        scores.detach().amax(dim=-1),
        total.detach().reciprocal().masked_fill(empty, 0.0),
        entropy,
        variance,
    )


def _map(weights: Tensor, map_bins: Sequence[int], map_pooling: str) -> Tensor:
    """Average the weights over bins of queries and sum them over bins of keys, or give the largest of each bin."""
    if map_pooling == "max":
        weights = weights.detach()
        for dim, bins in zip((-2, -1), map_bins, strict=True):
            n = weights.shape[dim]
            edges = [index * n // bins for index in range(bins + 1)]
            parts = (weights.narrow(dim, a, b - a).amax(dim, keepdim=True) for a, b in pairwise(edges))
            weights = torch.cat(list(parts), dim)
        return weights
    rows, columns = (_bin_matrix(*sizes, weights) for sizes in zip(weights.shape[-2:], map_bins, strict=True))
    return (rows / rows.sum(dim=1, keepdim=True)) @ weights.detach() @ columns.T


def _bin_matrix(positions: int, bins: int, like: Tensor) -> Tensor:
    """(bins, positions): 1 where a position is in a bin; bin i begins at position floor(i * positions / bins)."""
    starts = torch.arange(bins + 1, device=like.device) * positions // bins
    position = torch.arange(positions, device=like.device)
    inside = (position >= starts[:-1, None]) & (position < starts[1:, None])
    return inside.to(like.dtype)
