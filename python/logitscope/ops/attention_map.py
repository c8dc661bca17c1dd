"""The weights of attention themselves, for a window of rows and columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope._arrays import like
from logitscope._dtypes import wide, widen
from logitscope.errors import ArgumentError
from logitscope.ops._attention_problem import Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitscope.ops._attention_problem import CausalAlign, Kind, Layout, Window

_OPERATION = "attention_map"


def attention_map(
    q: Any,
    k: Any,
    *,
    rows: slice | None = None,
    cols: slice | None = None,
    scale: float | None = None,
    inv_temperature: Any = None,
    mask: Any = None,
    is_causal: bool = False,
    causal_align: CausalAlign = "bottom_right",
    window: Window = (-1, -1),
    q_len: Any = None,
    kv_len: Any = None,
    sinks: Any = None,
    softcap: float = 0.0,
    bias: Any = None,
    alibi_slopes: Any = None,
    kind: Kind = "softmax",
    sigmoid_bias: Any = "auto",
    layout: Layout = "bhld",
) -> Any:
    """Weights of some queries on some keys, exact; the part of the map that one wants to see at full size.

    The scores of the rows asked for are computed in float64, a head at a time, so the memory is that of the rows of one
    head beside the result. For the whole map of a long sequence use ``map_bins`` of :func:`logitscope.attention`.

    Parameters
    ----------
    q, k
        As in :func:`logitscope.attention`.
    rows, cols
        Which queries and which keys, all by default; the weights are those among all keys.
    scale, inv_temperature, mask, is_causal, causal_align, window, q_len, kv_len, sinks, softcap, bias
        As in :func:`logitscope.attention`.
    alibi_slopes, kind, sigmoid_bias, layout
        As in :func:`logitscope.attention`.

    Returns
    -------
    array
        (B, Hq, rows, cols), of the kind and dtype of ``q``; float32 where that has 16 bits. A tensor has no gradient.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> q, k = np.random.default_rng(0).standard_normal((2, 1, 2, 100, 8), dtype=np.float32)
    >>> part = logitscope.attention_map(q, k, rows=slice(90, 100), cols=slice(0, 50), is_causal=True)
    >>> part.shape
    (1, 2, 10, 50)
    """
    problem = Problem.of(
        _OPERATION, q, k, k, scale=scale, inv_temperature=inv_temperature, mask=mask, is_causal=is_causal,
        causal_align=causal_align, window=window, q_len=q_len, kv_len=kv_len, sinks=sinks,
        softcap=softcap, bias=bias, alibi_slopes=alibi_slopes, kind=kind, sigmoid_bias=sigmoid_bias,
        layout=layout,
    )  # fmt: skip
    problem.check_heads(_OPERATION)
    batch, heads, queries, _ = problem.q.shape
    rows, cols = _slice("rows", rows), _slice("cols", cols)
    chosen = np.arange(queries)[rows]
    weights = np.stack(
        [
            _weights(problem, sequence, head, chosen)[:, cols]
            for sequence in range(batch)
            for head in range(heads)
        ]
        or [np.zeros((0, 0))]
    )
    keys = len(range(problem.k.shape[2])[cols])
    shaped = weights.reshape(batch, heads, len(chosen), keys).astype(wide(problem.q.dtype))
    return like(q, shaped)


def _slice(name: str, part: Any) -> slice:
    if part is None:
        return slice(None)
    if not isinstance(part, slice):
        message = f"{_OPERATION}: {name} is {part!r}; use a slice"
        raise ArgumentError(message)
    return part


def _weights(problem: Problem, sequence: int, head: int, rows: NDArray[np.intp]) -> NDArray[Any]:
    """All weights of some rows of one head, in float64."""
    keys = widen(problem.k[sequence, head // (problem.q.shape[1] // problem.k.shape[1])]).astype(np.float64)
    scores = problem.scale * (widen(problem.q[sequence, head, rows]).astype(np.float64) @ keys.T)
    if problem.inv_temperature is not None:
        scores = problem.inv_temperature[sequence, head, rows].astype(np.float64)[:, None] * scores
    if problem.softcap:
        scores = problem.softcap * np.tanh(scores / problem.softcap)
    real_queries = problem.q.shape[2] if problem.q_len is None else problem.q_len[sequence]
    real_keys = len(keys) if problem.kv_len is None else problem.kv_len[sequence]
    shift = real_keys - real_queries if problem.align == "bottom_right" else 0
    distance = np.arange(len(keys)) - (rows[:, None] + shift)
    if problem.bias is not None:
        scores = scores + widen(problem.bias[sequence, head, rows])
    if problem.alibi_slopes is not None:
        scores = scores - float(problem.alibi_slopes[head]) * abs(distance)
    left, right = problem.window
    real = (rows < real_queries)[:, None]
    visible = real & (np.arange(len(keys)) < real_keys)
    visible = visible if left is None else visible & (distance >= -left)
    visible = visible if right is None else visible & (distance <= right)
    if problem.mask is not None:
        visible = visible & (problem.mask[sequence, head, rows] != 0)
    if problem.bias is not None:
        visible = visible & (widen(problem.bias[sequence, head, rows]) != -np.inf)
    scores = np.where(visible, scores, -np.inf)
    if problem.is_sigmoid:
        if problem.sigmoid_bias is None:
            bias = -np.log(np.maximum(visible.sum(-1, keepdims=True), 1))
        else:
            bias = float(problem.sigmoid_bias[head])
        small = np.exp(-abs(scores + bias))
        weights: NDArray[Any] = np.where(scores + bias < 0, small, 1.0) / (1.0 + small)
        return weights
    sink = -np.inf if problem.sinks is None else float(problem.sinks[head])
    sinks = np.where(real, sink, -np.inf)
    top = np.maximum(scores.max(-1, keepdims=True, initial=-np.inf), sinks)
    top = np.where(np.isneginf(top), 0.0, top)
    raised = np.exp(scores - top)
    total = raised.sum(-1, keepdims=True) + np.exp(sinks - top)
    shares: NDArray[Any] = raised / np.where(total == 0, 1.0, total)
    return shares
