"""What attention and its gradient give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope._arrays import as_numpy, is_gpu
from logitscope._dtypes import widen
from logitscope.ops.logsumexp import logsumexp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitscope.ops._attention_problem import Kind, Layout


@dataclass(frozen=True, slots=True, eq=False)
class AttentionResult:
    """What attention gives; arrays are of the kind that came in, figures of 16-bit inputs in float32."""

    out: Any
    """(B, Hq, Lq, Dv), or (B, Lq, Hq, Dv) with ``layout="blhd"``; (positions, Hq, Dv) of packed sequences, whose
    figures are (Hq, positions)."""
    lse: Any
    """Logarithm of the sum of the exponentials of a row's scores, (B, Hq, Lq), a sink's included; where no key is
    visible the sink, or -inf without one. With sigmoid weighting the logarithm of the sum of the weights."""
    max_logit: Any
    """The largest score of a row's keys, (B, Hq, Lq); -inf where no key is visible."""
    inv_sum: Any
    """1 over the sum of e^(score - m), (B, Hq, Lq), m the larger of ``max_logit`` and the sink: with ``max_logit``
    the exact state for gradients. 0 in a row without any score; with sigmoid weighting 1 over the sum of the weights.
    Negative marks a row whose scores leave the range of the dtype: it was computed in float64."""
    entropy: Any = None
    """Entropy of a row's weights (over their sum) in nats, (B, Hq, Lq), when asked for."""
    map: Any = None
    """Binned attention map, (B, Hq, R, C), when asked for."""
    top_keys: Any = None
    """The keys with the largest scores of a row, (B, Hq, Lq, k) int64, when asked for: the largest first, of equal ones
    the first key, -1 where a row has fewer. A NaN or -inf is no score."""
    top_weights: Any = None
    """Their weights, (B, Hq, Lq, k); 0 where there is no key."""
    logit_count: Any = None
    """How many scores above -inf a row has, (B, Hq, Lq), when asked for: the keys that it sees."""
    logit_mean: Any = None
    """Their mean, each key counting once, (B, Hq, Lq); 0 where there are none."""
    logit_m2: Any = None
    """The sum of the squares of their distances from the mean, (B, Hq, Lq): rows can be merged exactly."""
    variance: Any = None
    """Variance of a row's scores under its weights (over their sum), (B, Hq, Lq), when asked for; a sink is one of the
    scores. Without softcap and bias, minus this over the inverse temperature is the derivative of the entropy by it."""
    kind: Kind = "softmax"
    """How it was weighted."""
    layout: Layout = "bhld"
    """Where the heads are among the axes of ``out``: ``"blhd"``, after the positions, of packed sequences, too."""

    @property
    def logit_std(self) -> Any:
        """Standard deviation of a row's scores, (B, Hq, Lq), on the CPU; None where they were not asked for."""
        if self.logit_count is None:
            return None
        count, m2 = (x.numpy() if is_gpu(x) else x for x in (self.logit_count, self.logit_m2))
        return (m2 / count.clip(1)) ** 0.5

    @property
    def first_nan(self) -> tuple[int, int, int] | None:
        """Batch element, head and query of the first row whose scores or output hold a NaN; None without one.

        Packed sequences are one batch element, 0.
        """
        tops = self.max_logit.numpy() if is_gpu(self.max_logit) else self.max_logit
        spoilt = np.isnan(as_numpy("attention", "max_logit", tops))
        rows = _with_nan(self.out)
        spoilt |= rows.swapaxes(-1, -2) if self.layout == "blhd" else rows
        if not spoilt.any():
            return None
        batch, head, query = np.argwhere(spoilt[None] if spoilt.ndim == 2 else spoilt)[0].tolist()
        return batch, head, query


def _with_nan(rows: Any) -> NDArray[np.bool_]:
    """Which rows hold a NaN; of rows on a GPU one number each comes back."""
    spoilt: NDArray[np.bool_]
    if is_gpu(rows):
        # Infinities of both signs are no NaN to it, either.
        spoilt = np.isnan(logsumexp(rows).numpy())
    else:
        spoilt = np.isnan(widen(as_numpy("attention", "out", rows))).any(-1)
    return spoilt


@dataclass(frozen=True, slots=True, eq=False)
class AttentionGradients:
    """Gradients of attention, of the shapes of what they belong to.

    That of ``scale`` is the sum of ``q * dq``, divided by ``scale``.
    """

    dq: Any
    dk: Any
    dv: Any
    dinv_temperature: Any = None
    """(B, Hq, Lq), before any sum over the axes along which ``inv_temperature`` was broadcast; None without one."""
    dsinks: Any = None
    """(Hq,); None without sinks."""
    dbias: Any = None
    """Of the shape of ``bias``: summed where it was broadcast. None without one."""
    dalibi_slopes: Any = None
    """(Hq,); None without slopes."""
    dsigmoid_bias: Any = None
    """(Hq,); None without sigmoid weighting, or with ``"auto_row"``."""
    dvalue_gate: Any = None
    """(B, Hk, Lk), before any sum over the axes along which ``value_gate`` was broadcast; None without one."""
