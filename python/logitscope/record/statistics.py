"""Figures that tell the health of a softmax's input; NaN in gives NaN out, never a figure that hides it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.record.arguments import to_numpy

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

LOG_SMALLEST = -103.97
"""Below this a probability rounds to 0 in float32: ln of half the smallest subnormal number."""
SATURATED = 0.99
SAMPLED_ENTRIES = 1 << 14
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
    counted = np.broadcast_to(keys > 1, nats.shape)
    relative = _sums(nats / np.log(np.maximum(keys, 2)), counted)
    sees = log_sums != -np.inf
    sums, counts = _sums(log_sums, sees), sees.sum(axis=(0, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return HeadSummary(
            np.asarray(largest.max(axis=(0, 2)), np.float32),
            (relative / counted.sum(axis=(0, 2))).astype(np.float32),
            float(sums.sum() / counts.sum()),
            (sums / counts).astype(np.float32),
            logit_std,
        )


def _sums(figures: NDArray[Any], rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Sums over the rows that count, shape (H,)."""
    shown = figures if rows.all() else np.where(rows, figures, 0.0)
    total: NDArray[np.float64] = shown.sum(axis=-1, dtype=np.float64).sum(axis=0)
    return total


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
    16,000 entries in all. Entries of -inf are taken for masked classes and left out.

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
    rows = to_numpy("watch", "logits", flat[:: -(-count // kept)]).astype(np.float64)
    with np.errstate(all="ignore"):
        below = rows - rows.max(axis=1, keepdims=True)
        weights = np.exp(below)
        total = weights.sum(axis=1)
        log_total = np.log(total)
        shown = rows != -np.inf
        entropy = log_total - (weights * np.where(shown, below, 0)).sum(axis=1) / total
        top = 1 / total
        logs = (below - log_total[:, None])[shown]
        return {
            "logits/max": float(flat.max()),
            "logits/std": float(rows[shown].std()),
            "logits/lse_mean": float((rows.max(axis=1) + log_total).mean()),
            "logits/entropy": float(entropy.mean()),
            "logits/saturation": _share(top, top > SATURATED),
            "logits/lost_mass": _share(logs, logs < LOG_SMALLEST),
        }


def _share(values: NDArray[np.float64], hits: NDArray[np.bool_]) -> float:
    """How large a part of the values are hits; NaN when one of them is NaN."""
    return float("nan") if np.isnan(values).any() or not values.size else float(hits.mean())
