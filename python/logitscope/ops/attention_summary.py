"""Figures of the heads of attention, from those of their rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope._arrays import as_floats
from logitscope.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitscope.ops.attention_result import AttentionResult

_OPERATION = "attention_summary"
_DIFFUSE = 0.75


@dataclass(frozen=True, slots=True, eq=False)
class AttentionSummary:
    """Figures of the heads, (Hq,) float64 each, over all rows that see a key; NaN where none does."""

    entropy_mean: NDArray[np.float64]
    """Mean entropy of the keys' weights in nats."""
    entropy_min: NDArray[np.float64]
    """The least of them."""
    entropy_max: NDArray[np.float64]
    """The largest."""
    normalised_entropy: NDArray[np.float64]
    """Mean entropy over the logarithm of the number of keys seen, of rows that see two or more."""
    diffuse: NDArray[np.float64]
    """Share of those rows whose entropy is above three quarters of that logarithm."""
    max_logit: NDArray[np.float64]
    """The largest score."""
    logit_mean: NDArray[np.float64]
    """Mean of all scores."""
    logit_std: NDArray[np.float64]
    """Standard deviation of all scores."""
    sink_weight: NDArray[np.float64] | None
    """Mean weight of the sink; None without one."""


def attention_summary(result: AttentionResult, *, sinks: Any = None) -> AttentionSummary:
    """Summarise the rows of each head, in memory linear in their number.

    Parameters
    ----------
    result
        Of :func:`logitscope.attention` or :func:`attention_varlen` with ``stats=("entropy", "logits")``.
    sinks
        The sinks that attention was given, (Hq,): entropies are then those of the keys alone, whose weights are divided
        by what the sink leaves; where that is next to nothing, rounding is all that is left of the entropy.

    Returns
    -------
    AttentionSummary
        NumPy arrays.

    Raises
    ------
    ArgumentError, ShapeError
        For a result without these statistics, and for sinks of other heads.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> q = k = v = np.zeros((1, 2, 8, 4), np.float32)
    >>> result = logitscope.attention(q, k, v, stats=("entropy", "logits"))
    >>> logitscope.attention_summary(result).normalised_entropy.round(4)
    array([1., 1.])
    """
    if result.entropy is None or result.logit_count is None:
        message = f"{_OPERATION}: result holds no entropy or no logits; call attention with stats=('entropy', 'logits')"
        raise ArgumentError(message)

    def rows(name: str) -> NDArray[np.float64]:
        array = as_floats(_OPERATION, f"result.{name}", getattr(result, name)).astype(np.float64)
        # (Hq, rows), from (B, Hq, Lq) or from packed sequences.
        return (
            array
            if array.ndim == 2
            else array.swapaxes(0, 1).reshape(array.shape[1], array.shape[0] * array.shape[2])
        )

    entropy, count, max_logit = rows("entropy"), rows("logit_count"), rows("max_logit")
    heads, seen = entropy.shape[0], count > 0
    sink_weight = None
    if sinks is not None:
        sink = as_floats(_OPERATION, "sinks", sinks).astype(np.float64)
        if sink.shape != (heads,):
            message = f"{_OPERATION}: sinks has shape {sink.shape}; use ({heads},), one number for each head"
            raise ShapeError(message)
        share = np.exp(sink[:, None] - np.where(seen, rows("lse"), np.inf))
        entropy = _without(entropy, share)
        sink_weight = _mean(share, seen)
    several = count > 1
    most = np.log(np.where(several, count, 2))
    normalised = entropy / most
    mean, m2 = rows("logit_mean"), rows("logit_m2")
    total = count.sum(1)
    logit_mean = _divided((count * mean).sum(1), total)
    squares = np.where(seen, m2 + count * (mean - logit_mean[:, None]) ** 2, 0).sum(1)
    none = ~seen.any(1)
    return AttentionSummary(
        entropy_mean=_mean(entropy, seen),
        entropy_min=np.where(none, np.nan, np.where(seen, entropy, np.inf).min(1, initial=np.inf)),
        entropy_max=np.where(none, np.nan, np.where(seen, entropy, -np.inf).max(1, initial=-np.inf)),
        normalised_entropy=_mean(normalised, several),
        diffuse=_mean((normalised > _DIFFUSE).astype(np.float64), several),
        max_logit=np.where(none, np.nan, np.where(seen, max_logit, -np.inf).max(1, initial=-np.inf)),
        logit_mean=logit_mean,
        logit_std=np.sqrt(_divided(squares, total)),
        sink_weight=sink_weight,
    )


def _without(entropy: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy of the keys alone, from the one of keys and sink."""
    rest = 1 - share
    logs = np.log(share, where=share > 0, out=np.zeros_like(share))
    # Where the sink has all the weight, the keys have none to share.
    left = np.where(rest > 0, rest, 1)
    alone: NDArray[np.float64] = np.where(
        rest > 0, np.maximum((entropy + share * logs) / left + np.log(left), 0), 0
    )
    return alone


def _mean(values: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over the chosen rows of each head."""
    return _divided(np.where(chosen, values, 0).sum(1), chosen.sum(1))


def _divided(sums: NDArray[np.float64], counts: NDArray[Any]) -> NDArray[np.float64]:
    """``sums / counts``, NaN where nothing was counted."""
    means: NDArray[np.float64] = np.divide(sums, counts, where=counts > 0, out=np.full(sums.shape, np.nan))
    return means
