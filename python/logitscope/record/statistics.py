"""Figures that tell the health of a softmax's input; NaN in gives NaN out, never a figure that hides it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.record.arguments import to_numpy

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

LOG_SMALLEST = {"": -103.97, "/float16": -17.33, "/bfloat16": -92.88}
"""Below this a probability rounds to 0: ln of half the smallest subnormal number, of float32 first."""
SATURATED = 0.99
SAMPLED_ENTRIES = 1 << 13
SAMPLED_ROWS = 16


@dataclass(frozen=True, slots=True, eq=False)
class HeadSummary:
    """One layer's attention in a few figures."""

    max_logit: NDArray[np.float32]  # (H,)
    entropy: NDArray[np.float32]  # (H,), of the maximum
    lse_mean: float
    lse: NDArray[np.float32] | None = None  # (H,), mean over rows
    logit_std: NDArray[np.float32] | None = None  # (H,), of the scores of visible keys


def summarize_heads(
    max_logit: ArrayLike,
    entropy: ArrayLike,
    lse: ArrayLike,
    visible: ArrayLike | None = None,
    logit_std: NDArray[np.float32] | None = None,
) -> HeadSummary | None:
    """Reduce statistics of attention rows to figures of heads; None when there are no rows.

    Parameters
    ----------
    max_logit, entropy, lse
        Shape (B, H, L); entropy in nats.
    visible
        Keys that each row sees, shape (L,) or (B, H, L); ``L`` for all rows when not given.
    logit_std
        Spread of each head's scores, shape (H,), where it is known.

    Returns
    -------
    HeadSummary or None
        Largest logit; mean over rows of entropy / ln(visible keys), rows with less than two keys left out;
        mean log-sum-exp of the rows that see a key.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.zeros((1, 2, 4), np.float32)
    >>> summary = summarize_heads(rows + 3, rows + np.log([1, 2, 3, 4]), rows, visible=[1, 2, 3, 4])
    >>> summary.max_logit.tolist(), summary.entropy.tolist()
    ([3.0, 3.0], [1.0, 1.0])
    """
    largest, nats, log_sums = np.asarray(max_logit), np.asarray(entropy), np.asarray(lse)
    if not nats.size:
        return None
    keys = np.full(nats.shape[-1], nats.shape[-1]) if visible is None else np.asarray(visible)
    with np.errstate(invalid="ignore", divide="ignore"):
        lse_mean, lse_heads = _mean_lse(log_sums)
        return HeadSummary(
            np.asarray(largest.max(axis=(0, 2)), np.float32),
            _mean_entropy(nats, keys).astype(np.float32),
            lse_mean,
            lse_heads,
            logit_std,
        )


def _mean_entropy(nats: NDArray[Any], keys: NDArray[Any]) -> NDArray[np.float64]:
    """Means over the rows with a choice of the entropy as a share of what it could be, shape (H,)."""
    if keys.ndim > 1:
        counted = np.broadcast_to(keys > 1, nats.shape)
        shares = np.where(counted, nats / np.log(np.maximum(keys, 2)), 0.0)
        total, number = shares.sum(axis=(0, 2), dtype=np.float64), counted.sum(axis=(0, 2))
    else:
        chosen = np.flatnonzero(keys > 1)  # the same rows of all: summed over the batch first
        rows = nats.sum(axis=0, dtype=np.float64)[:, chosen] / np.log(keys[chosen])
        total, number = rows.sum(axis=1), len(chosen) * len(nats)
    mean: NDArray[np.float64] = total / number
    return mean


def _mean_lse(log_sums: NDArray[Any]) -> tuple[float, NDArray[np.float32]]:
    """Means over the rows that see a key, of all heads and of each."""
    sees = log_sums != -np.inf
    sums = np.where(sees, log_sums, 0.0).sum(axis=2, dtype=np.float64).sum(axis=0)
    counts = sees.sum(axis=(0, 2))
    return float(sums.sum() / counts.sum()), (sums / counts).astype(np.float32)


def spread(count: NDArray[Any], mean: NDArray[Any], squares: NDArray[Any]) -> NDArray[np.float32]:
    """Standard deviation of the scores of each head, (H,), from the moments of its rows (B, H, L).

    Parameters
    ----------
    count, mean, squares
        Of the scores that a row sees: their number, their mean and the sum of their squared distances from it.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.ones((1, 1, 2))  # two rows of the scores 0, 2 and 2, 4
    >>> spread(2 * rows, np.array([[[1.0, 3.0]]]), 2 * rows).tolist()
    [1.4142135381698608]
    """
    counts, means = np.asarray(count, np.float64), np.asarray(mean, np.float64)
    total = np.maximum(counts.sum(axis=(0, 2)), 1)
    distances = means - ((counts * means).sum(axis=(0, 2)) / total)[:, None]
    distances *= distances
    distances *= counts
    found = (distances.sum(axis=(0, 2)) + np.sum(squares, axis=(0, 2), dtype=np.float64)) / total
    deviations: NDArray[np.float32] = np.sqrt(found).astype(np.float32)
    return deviations


def sink_mass(map_: NDArray[np.float32]) -> NDArray[np.float32]:
    """Share of each head's weight that goes to the first key (or first bin of keys), shape (H,).

    The first quarter of the rows is left out: in a causal map they see little else.

    Examples
    --------
    >>> import numpy as np
    >>> sink_mass(np.full((1, 4, 4), 0.25, np.float32)).tolist()
    [0.25]
    """
    mass: NDArray[np.float32] = map_[:, map_.shape[1] // 4 :, 0].mean(axis=1, dtype=np.float32)
    return mass


def summarize_logits(logits: Any) -> dict[str, float]:
    """Figures of class logits (..., V), NumPy or torch, by their tags ``logits/*``; empty for no rows.

    The largest logit is that of all rows; the other figures are those of rows picked at equal distances, some
    8,000 entries in all. Entries of -inf are taken for masked classes and left out.

    Examples
    --------
    >>> import numpy as np
    >>> round(summarize_logits(np.zeros((3, 5)))["logits/entropy"], 3)
    1.609
    """
    flat = logits.reshape(-1, logits.shape[-1])
    count, classes = flat.shape
    if not count or not classes:
        return {}
    kept = max(SAMPLED_ENTRIES // classes, SAMPLED_ROWS)
    rows = to_numpy("watch", "logits", flat[:: -(-count // kept)])
    rows = rows if rows.dtype == np.float64 else rows.astype(np.float32)
    with np.errstate(all="ignore"):
        largest = rows.max(axis=1, keepdims=True)
        below = rows - largest
        weights = np.exp(below)
        total = weights.sum(axis=1, dtype=np.float64)
        log_total = np.log(total)
        scores, logs = rows.reshape(-1), (below - log_total.astype(rows.dtype)[:, None]).reshape(-1)
        if rows.min() == -np.inf:
            shown = scores != -np.inf
            scores, logs = scores[shown], logs[shown]
            below[rows == -np.inf] = 0
        weighted = np.einsum("ij,ij->i", weights, below)
        distances = scores - scores.mean(dtype=np.float64).astype(rows.dtype)
        top = 1 / total
        return {
            "logits/max": float(flat.max()),
            "logits/std": math.sqrt(np.dot(distances, distances) / len(distances)),
            "logits/lse_mean": float((largest[:, 0] + log_total).mean()),
            "logits/entropy": float((log_total - weighted / total).mean()),
            "logits/saturation": _share(top, top > SATURATED),
            **{f"logits/lost_mass{kind}": _share(logs, logs < least) for kind, least in LOG_SMALLEST.items()},
        }


def _share(values: NDArray[np.float64], hits: NDArray[np.bool_]) -> float:
    """How large a part of the values are hits; NaN when one of them is NaN."""
    return float("nan") if not values.size or np.isnan(values.min()) else np.count_nonzero(hits) / hits.size
