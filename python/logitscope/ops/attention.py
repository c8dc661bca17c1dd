"""Attention that never holds the score matrix, with the statistics of its rows."""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from logitscope import _native
from logitscope._arrays import is_gpu, like, needs_autograd
from logitscope._dtypes import narrow, wide
from logitscope.errors import ArgumentError
from logitscope.ops._attention_problem import (
    CausalAlign,
    Kind,
    Layout,
    Pooling,
    Problem,
    Window,
    check_options,
    check_pooling,
    checked_bins,
    heads_first,
    new_heads,
)
from logitscope.ops._decoding import Decoding
from logitscope.ops._path_notes import note_native
from logitscope.ops._row_figures import RowFigures
from logitscope.ops.attention_result import AttentionResult

if TYPE_CHECKING:
    from collections.abc import Collection


def attention(
    q: Any,
    k: Any,
    v: Any,
    *,
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
    value_gate: Any = None,
    stats: Collection[str] = (),
    map_bins: tuple[int, int] | None = None,
    map_pooling: Pooling = "mean",
    top_keys: int = 0,
    dropout_p: float = 0.0,
    seed: int | None = None,
    empty: Literal["zero", "nan"] = "zero",
    layout: Layout = "bhld",
) -> AttentionResult:
    """Attention with the statistics of its rows, exact, in memory linear in the lengths.

    Scores are ``scale * inv_temperature * (q . k)``, then bent by the softcap, then bias and distances are added; a
    row's output is the mean of the visible values weighted with the softmax of its scores, or their sum weighted with
    ``sigmoid(score + sigmoid_bias)``. ``lse``, ``max_logit`` and ``inv_sum`` come for free, statistics and map nearly
    so. A query sees the keys that all masks given (mask, causality, window, lengths) allow; tiles of keys that a tile
    of queries cannot see are not computed.

    Parameters
    ----------
    q
        Queries, (B, Hq, Lq, D), NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16. Any strides;
        no copy is made while the last axis is contiguous. 16-bit numbers are widened a tile at a time, computed with in
        float32, and ``out`` is rounded once.
    k
        Keys, (B, Hk, Lk, D), Hq a multiple of Hk: query head h reads key head h // (Hq / Hk).
    v
        Values, (B, Hk, Lk, Dv).
    scale
        Factor of the dot products; 1 / sqrt(D) by default.
    inv_temperature
        A further factor for each query, broadcastable to (B, Hq, Lq); a temperature t is given as 1 / t. It may
        be 0 or negative.
    mask
        Bool, True where a query may see a key; broadcastable to (B, Hq, Lq, Lk), any strides, never copied.
    is_causal
        Whether a query sees only the keys up to its own position.
    causal_align
        Where the positions of queries and keys meet when there are not as many of both: ``"bottom_right"`` puts the
        last query at the last key (decoding; the last ones within ``q_len`` and ``kv_len``), ``"top_left"`` the
        first query at the first key (as in torch).
    window
        (left, right): a query sees that many keys before and after its own position; -1 is all of them.
    q_len, kv_len
        How many queries and keys are real, one integer or one for each batch element: the queries beyond see
        nothing, the keys beyond are seen by none.
    sinks
        (Hq,): one more score for all rows of a head that has no value and takes its share of the weights. 0 adds 1
        to the sum of exponentials, -inf is no sink.
    softcap
        c > 0 bends scores to ``c * tanh(score / c)``; 0 leaves them straight.
    bias
        Added to the scores; broadcastable to (B, Hq, Lq, Lk), any strides, never copied. -inf hides a key from a query
        as a mask does.
    alibi_slopes
        (Hq,): the distance between the positions of query and key, times this, is subtracted from the score (ALiBi).
    kind
        ``"softmax"``, or ``"sigmoid"`` (each key weighted for itself; no sum, no sinks).
    sigmoid_bias
        Added to the scores before the sigmoid, a number or (Hq,); ``"auto"`` is -ln(Lk), ``"auto_row"`` -ln of the
        number of keys that the row sees. Trained models keep the number that they were trained with.
    value_gate
        What each value is multiplied by, broadcastable to (B, Hk, Lk), a tile at a time.
    stats
        Further statistics of each row: ``"entropy"`` of its weights; ``"logits"``, count, mean and ``logit_m2`` of its
        scores; ``"variance"`` of its scores under its weights. They cost a few operations a score.
    map_bins
        (R, C): also return the attention map in R bins of queries and C bins of keys (at most Lq and Lk).
        Bin i of n positions begins at position floor(i * n / bins).
    map_pooling
        What a bin shows: ``"mean"`` sums weights over keys and averages them over queries, ``"max"`` is the largest.
    top_keys
        k: also return the k keys with the largest scores of each row, and their weights.
    dropout_p, seed
        Share of the weights that is dropped, rounded to a multiple of 2^-16, the others counting 1 / (1 - dropout_p)
        times, and an integer that says which. Statistics, map and top keys are those of all weights. A weight's fate
        depends on the seed, batch element, query head, query and key alone (Philox4x32-10), so the gradients see the
        same with the same seed.
    empty
        What a row without visible keys gives: ``"zero"`` (its lse is -inf or the sink, its entropy 0) or ``"nan"``.
    layout
        Axes of ``q``, ``k``, ``v`` and the output: ``"bhld"`` as above, or ``"blhd"``, positions before heads, as a
        projection writes them. In memory the output lies in the order in which ``q`` lies, whatever its axes.

    Returns
    -------
    AttentionResult
        Arrays of the kind and dtype of ``q``; beside ``out`` float32 where that has 16 bits. Bias, temperatures and
        what belongs to heads may be of either dtype.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError
        Naming the argument, what came and what would work.

    Notes
    -----
    What a visible key or value holds reaches the rows that see it and no other: a NaN, or a score of inf, makes
    them NaN; a score of -inf is a weight of 0; an infinite value is infinite in its column. What every mask hides
    may hold anything. Method: Milakov and Gimelshein, arXiv 1805.02867; Dao et al., arXiv 2205.14135; sinks as in
    Xiao et al., arXiv 2309.17453, slopes as in Press et al., arXiv 2108.12409, sigmoid weighting as in Ramapuram et
    al., arXiv 2409.04431. Where a score leaves the range of float32 and the true result does not, the row is
    computed in float64.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = rng.standard_normal((3, 1, 2, 5, 8), dtype=np.float32)
    >>> result = logitscope.attention(q, k, v, is_causal=True, stats=("entropy",), map_bins=(5, 5))
    >>> result.out.shape, result.map.shape
    ((1, 2, 5, 8), (1, 2, 5, 5))
    >>> bool(np.allclose(result.map.sum(-1), 1)), float(result.entropy[0, 0, 0])
    (True, 0.0)

    A sliding window over the first four positions only:

    >>> result = logitscope.attention(q, k, v, is_causal=True, window=(2, 0), kv_len=4, q_len=4)
    >>> bool((result.out[:, :, 4] == 0).all())
    True
    """
    check_options("attention", stats, empty)
    check_pooling("attention", map_pooling)
    if is_gpu(q):
        from logitscope.gpu.attention import attention as on_gpu

        lengths = 1 if layout == "blhd" else 2
        bins = None if map_bins is None else checked_bins(map_bins, q.shape[lengths], k.shape[lengths])
        on_gpu_result: AttentionResult = on_gpu(
            q, k, v, scale=scale, inv_temperature=inv_temperature, mask=mask, is_causal=is_causal,
            causal_align=causal_align, window=window, q_len=q_len, kv_len=kv_len, sinks=sinks, softcap=softcap,
            bias=bias, alibi_slopes=alibi_slopes, kind=kind, sigmoid_bias=sigmoid_bias, layout=layout, stats=stats,
            map_bins=bins, map_pooling=map_pooling, empty=empty, dropout_p=dropout_p, seed=seed, value_gate=value_gate,
            top_keys=checked_top_keys(top_keys, k.shape[lengths]),
        )  # fmt: skip
        return replace(on_gpu_result, kind=kind, layout=layout)
    if needs_autograd(q, k, v, inv_temperature, sinks, bias, alibi_slopes, sigmoid_bias, value_gate):
        from logitscope.nn.functional import attention as differentiable

        differentiated: AttentionResult = differentiable(
            *(heads_first(tensor, layout) for tensor in (q, k, v)), scale=scale,
            inv_temperature=inv_temperature, mask=mask, is_causal=is_causal,
            causal_align=causal_align, window=window, q_len=q_len, kv_len=kv_len, sinks=sinks, softcap=softcap,
            bias=bias, alibi_slopes=alibi_slopes, kind=kind, sigmoid_bias=sigmoid_bias, stats=stats,
            map_bins=map_bins, map_pooling=map_pooling,
            top_keys=top_keys, dropout_p=dropout_p, seed=seed, value_gate=value_gate, empty=empty,
        )  # fmt: skip
        return replace(differentiated, out=heads_first(differentiated.out, layout), layout=layout)
    problem = Problem.of(
        "attention", q, k, v, scale=scale, inv_temperature=inv_temperature, mask=mask, is_causal=is_causal,
        causal_align=causal_align, window=window, q_len=q_len, kv_len=kv_len, sinks=sinks,
        softcap=softcap, bias=bias, alibi_slopes=alibi_slopes, kind=kind, sigmoid_bias=sigmoid_bias,
        layout=layout, dropout_p=dropout_p, seed=seed, value_gate=value_gate,
    )  # fmt: skip
    batch, heads, queries, _ = problem.q.shape
    rows = (batch, heads, queries)
    out = new_heads(problem.q, problem.v.shape[3])
    dtype = wide(out.dtype)
    figures = RowFigures.empty(rows, dtype, stats)
    map_ = None
    if map_bins is not None:
        map_ = np.empty((batch, heads, *checked_bins(map_bins, queries, problem.k.shape[2])), dtype)
    chosen = checked_top_keys(top_keys, problem.k.shape[2])
    top = None
    if chosen:
        top = np.empty((*rows, chosen), np.int64), np.empty((*rows, chosen), dtype)
    decoding = Decoding.of_single_query(problem) if map_ is None and top is None else None
    if decoding is None:
        _native.attention_forward(problem, out, figures, None if map_ is None else (map_, map_pooling), top)
    else:
        _native.attention_decode(decoding, out, figures)
    note_native("attention", problem, figures.inv_sum, is_decoded=decoding is not None)
    if empty == "nan":
        unseen = np.isneginf(figures.max_logit)
        out[unseen] = narrow(np.full((), np.nan, dtype), out.dtype)
        figures.spoil(unseen)
    return AttentionResult(
        out=like(q, heads_first(out, layout)),
        **figures.like(q),
        map=None if map_ is None else like(q, map_),
        top_keys=None if top is None else like(q, top[0]),
        top_weights=None if top is None else like(q, top[1]),
        kind=kind,
        layout=layout,
    )


def checked_top_keys(top_keys: int, keys: int) -> int:
    """How many top keys of each row are wanted, as an integer."""
    try:
        chosen = operator.index(top_keys)
    except TypeError:
        message = f"attention: top_keys is {top_keys!r}; use an integer, 0 for none"
        raise ArgumentError(message) from None
    if not 0 <= chosen <= max(keys, 1):
        message = f"attention: top_keys is {chosen}; use 0 for none, or up to the number of keys, {keys}"
        raise ArgumentError(message)
    return chosen
