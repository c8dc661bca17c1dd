"""Attention over all keys from attention over parts of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope._arrays import as_floats, like, same_dtype
from logitscope._dtypes import narrow, widen
from logitscope.errors import ArgumentError, ShapeError
from logitscope.ops._attention_problem import as_computed, check_kind
from logitscope.ops.attention_result import AttentionResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_OPERATION = "merge_states"


def merge_states(states: Sequence[AttentionResult], *, sinks: Any = None) -> AttentionResult:
    """Attention over the union of disjoint sets of keys, from the results for each of them.

    With ``m`` the largest score and ``l`` the sum of e^(s - m) of a part: ``u = max m``, ``a = l e^(m - u)``, and the
    output is the mean of the parts' outputs weighted with ``a``. So keys may be spread over calls, caches or machines.
    With sigmoid weighting outputs are added.

    Parameters
    ----------
    states
        Results of :func:`logitscope.attention`, :func:`attention_decode` or :func:`attention_varlen` without sinks for
        the same queries, one for each set of keys, added up in this order. The sigmoid bias has to be a number of the
        whole: ``"auto"`` is another one for each part.
    sinks
        (Hq,): the sinks of the whole.

    Returns
    -------
    AttentionResult
        Without map, top keys and variance; with the entropy, and with the moments of the scores, if all states have
        them. A row that a part computed in float64, its scores beyond the dtype, is NaN.

    Raises
    ------
    ArgumentError, ShapeError, DTypeError
        For no states, and for states that do not fit together.

    Notes
    -----
    Gradients come part by part, too: :func:`attention_backward` of a part's keys and values, with the merged result,
    gives their gradients, and a share of those of the queries, of which the whole is the sum; that of the sinks is the
    same from each part. No gradient of torch's passes through merging itself.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 1, 2, 10, 8))
    >>> parts = [logitscope.attention(q, k[:, :, part], v[:, :, part]) for part in (slice(0, 4), slice(4, 10))]
    >>> bool(np.allclose(logitscope.merge_states(parts).out, logitscope.attention(q, k, v).out))
    True
    """
    states = list(states)
    if not states:
        message = f"{_OPERATION}: no states; use one or more results of attention"
        raise ArgumentError(message)
    kind, layout = (_common(states, name) for name in ("kind", "layout"))
    check_kind(_OPERATION, kind, "auto", sinks)
    stored = as_floats(_OPERATION, "states[0].out", states[0].out).dtype
    outs = _stacked(states, "out", tuple(np.shape(states[0].out)))
    # The axes of the figures first.
    outs = outs.swapaxes(-2, -3) if layout == "blhd" else outs
    rows = outs.shape[1:-1]
    maxima, inv_sums = (_stacked(states, name, rows) for name in ("max_logit", "inv_sum"))
    top = maxima.max(axis=0)
    sink: NDArray[Any] = np.full(rows, -np.inf, outs.dtype)
    if sinks is not None:
        given = as_computed(_OPERATION, "sinks", sinks, stored)
        if given.shape != rows[-2:-1]:
            message = (
                f"{_OPERATION}: sinks has shape {given.shape}; use ({rows[-2]},), one number for each head"
            )
            raise ShapeError(message)
        sink = np.broadcast_to(given[:, None], rows)
    highest = np.maximum(top, sink)
    reference = np.where(np.isneginf(highest), 0, highest).astype(outs.dtype)
    seen = inv_sums > 0
    if kind == "sigmoid":
        # Its sums are of the weights themselves.
        reference = np.zeros_like(reference)
        raised = np.ones_like(maxima)
    else:
        raised = np.exp(maxima - reference)
    parts = raised / np.where(seen, inv_sums, 1)
    # NaN stays: a part that is not finite spoils the whole.
    parts = np.where(inv_sums == 0, 0, np.where(seen, parts, np.nan)).astype(outs.dtype)
    sink_part = np.exp(sink - reference)
    total = parts.sum(axis=0) + sink_part
    divisor = np.where(total == 0, 1, total)
    shares = parts / divisor
    entropy = None
    if all(state.entropy is not None for state in states):
        entropies = _stacked(states, "entropy", rows)
        terms = shares * (entropies - _log(shares))
        sink_share = sink_part / divisor
        entropy = np.maximum(terms.sum(axis=0) - sink_share * _log(sink_share), 0)
    with np.errstate(divide="ignore"):
        lse = reference + np.log(total)
    out = (outs if kind == "sigmoid" else shares[..., None] * outs).sum(axis=0)
    q = states[0].out
    return AttentionResult(
        out=like(q, narrow(out.swapaxes(-2, -3) if layout == "blhd" else out, stored)),
        lse=like(q, lse),
        max_logit=like(q, top),
        inv_sum=like(q, np.where(total == 0, 0, 1 / divisor).astype(outs.dtype)),
        entropy=None if entropy is None else like(q, entropy),
        **{name: like(q, x) for name, x in _moments(states, rows).items()},
        kind=kind,
        layout=layout,
    )


def _common(states: Sequence[AttentionResult], name: str) -> Any:
    """What all states have as an attribute."""
    first = getattr(states[0], name)
    for index, state in enumerate(states):
        if getattr(state, name) != first:
            message = (
                f"{_OPERATION}: states[{index}].{name} is {getattr(state, name)!r}, states[0] has {first!r}; "
                f"use the same"
            )
            raise ArgumentError(message)
    return first


def _moments(states: Sequence[AttentionResult], rows: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """Count, mean and sum of squared deviations of the scores of all parts (Chan's rule); none if one lacks them."""
    if any(state.logit_count is None for state in states):
        return {}
    counts, means, squares = (_stacked(states, f"logit_{name}", rows) for name in ("count", "mean", "m2"))
    count, mean, m2 = counts[0], means[0], squares[0]
    for more, other, square in zip(counts[1:], means[1:], squares[1:], strict=True):
        together = count + more
        share = more / np.where(together == 0, 1, together)
        distance = other - mean
        m2 = m2 + square + distance**2 * count * share
        mean, count = mean + distance * share, together
    return {"logit_count": count, "logit_mean": mean, "logit_m2": m2}


def _log(shares: NDArray[Any]) -> NDArray[Any]:
    """The logarithm, 0 where there is no share."""
    logs: NDArray[Any] = np.log(shares, where=shares > 0, out=np.zeros_like(shares))
    return logs


def _stacked(states: Sequence[AttentionResult], name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    arrays = [
        (
            f"states[{index}].{name}",
            as_floats(_OPERATION, f"states[{index}].{name}", getattr(state, name)),
        )
        for index, state in enumerate(states)
    ]
    same_dtype(_OPERATION, arrays)
    for label, array in arrays:
        if array.shape != shape:
            message = (
                f"{_OPERATION}: {label} has shape {array.shape}, states[0] has {shape}; use the same queries"
            )
            raise ShapeError(message)
    return np.stack([widen(array) for _, array in arrays])
