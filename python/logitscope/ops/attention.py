"""Attention that never holds the score matrix, with the statistics of its rows, and its gradients."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from logitscope import _native
from logitscope._arrays import as_floats, as_numpy, is_gpu, like, needs_autograd
from logitscope._dtypes import name_of, narrow, wide, widen
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.ops._attention_problem import (
    CausalAlign,
    Kind,
    Layout,
    Problem,
    Window,
    as_computed,
    heads_first,
    new_heads,
    row_contiguous,
)
from logitscope.ops._path_notes import note_native
from logitscope.ops._value_gate import gate_gradients

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class AttentionResult:
    """What attention gives; arrays are of the kind that came in, figures of 16-bit inputs in float32."""

    out: Any
    """(B, Hq, Lq, Dv), or (B, Lq, Hq, Dv) with ``layout="blhd"``."""
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

    @property
    def first_nan(self) -> tuple[int, int, int] | None:
        """Batch element, head and query of the first row whose scores or output hold a NaN; None without one."""
        spoilt = np.isnan(as_numpy("attention", "max_logit", self.max_logit))
        rows = np.isnan(widen(as_numpy("attention", "out", self.out))).any(-1)
        spoilt |= rows if rows.shape == spoilt.shape else rows.swapaxes(1, 2)
        if not spoilt.any():
            return None
        batch, head, query = np.argwhere(spoilt)[0].tolist()
        return batch, head, query


@dataclass(frozen=True, slots=True, eq=False)
class AttentionGradients:
    """Gradients of attention, of the shapes of what they belong to."""

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


class _Upstream(NamedTuple):
    """What the compiled module reads of a forward pass and of the gradients of its results."""

    out: NDArray[Any]
    max_logit: NDArray[Any]
    inv_sum: NDArray[Any]
    dout: NDArray[Any]
    dlse: NDArray[Any] | None
    entropy: NDArray[Any] | None
    dentropy: NDArray[Any] | None


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
    top_keys: int = 0,
    dropout_p: float = 0.0,
    seed: int | None = None,
    empty: Literal["zero", "nan"] = "zero",
    layout: Layout = "bhld",
) -> AttentionResult:
    """Attention with the statistics of its rows, exact, in memory linear in the lengths.

    Scores are ``scale * inv_temperature * (q . k)``, then bent by the softcap, then bias and distances are added; a
    row's output is the mean of the visible values weighted with the softmax of its scores, or their sum weighted with
    ``sigmoid(score + sigmoid_bias)``. ``lse``, ``max_logit`` and ``inv_sum`` come for free, entropy and map nearly so.
    A query sees the keys that all masks given (mask, causality, window, lengths) allow; tiles of keys that a tile of
    queries cannot see are not computed.

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
        What each value is multiplied by, broadcastable to (B, Hk, Lk); makes a copy of ``v``.
    stats
        Further statistics; ``"entropy"`` is the one there is.
    map_bins
        (R, C): also return the attention map averaged over R bins of queries and summed over C bins of keys
        (at most Lq and Lk). Bin i of n positions begins at position floor(i * n / bins).
    top_keys
        k: also return the k keys with the largest scores of each row, and their weights.
    dropout_p, seed
        Share of the weights that is dropped, the others counting 1 / (1 - dropout_p) times, and an integer that says
        which. Statistics, map and top keys are those of all weights. A weight's fate depends on the seed, batch
        element, query head, query and key alone (Philox4x32-10), so the gradients see the same with the same seed.
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
    _check_options(stats, empty)
    if is_gpu(q):
        _refuse_on_gpu(
            "attention", value_gate=value_gate, top_keys=top_keys or None, dropout_p=dropout_p or None
        )
        from logitscope.gpu.attention import attention as on_gpu

        lengths = 1 if layout == "blhd" else 2
        bins = None if map_bins is None else _bins(map_bins, q.shape[lengths], k.shape[lengths])
        on_gpu_result: AttentionResult = on_gpu(
            q, k, v, scale=scale, inv_temperature=inv_temperature, mask=mask, is_causal=is_causal,
            causal_align=causal_align, window=window, q_len=q_len, kv_len=kv_len, sinks=sinks, softcap=softcap,
            bias=bias, alibi_slopes=alibi_slopes, kind=kind, sigmoid_bias=sigmoid_bias, layout=layout, stats=stats,
            map_bins=bins, empty=empty,
        )  # fmt: skip
        return on_gpu_result
    if needs_autograd(q, k, v, inv_temperature, sinks, bias, alibi_slopes, sigmoid_bias, value_gate):
        from logitscope.nn.functional import attention as differentiable

        differentiated: AttentionResult = differentiable(
            *(heads_first(tensor, layout) for tensor in (q, k, v)), scale=scale,
            inv_temperature=inv_temperature, mask=mask, is_causal=is_causal,
            causal_align=causal_align, window=window, q_len=q_len, kv_len=kv_len, sinks=sinks, softcap=softcap,
            bias=bias, alibi_slopes=alibi_slopes, kind=kind, sigmoid_bias=sigmoid_bias, stats=stats,
            map_bins=map_bins,
            top_keys=top_keys, dropout_p=dropout_p, seed=seed, value_gate=value_gate, empty=empty,
        )  # fmt: skip
        return replace(differentiated, out=heads_first(differentiated.out, layout))
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
    max_logit, inv_sum, lse = (np.empty(rows, dtype) for _ in range(3))
    entropy = np.empty(rows, dtype) if "entropy" in stats else None
    map_ = None
    if map_bins is not None:
        map_ = np.empty((batch, heads, *_bins(map_bins, queries, problem.k.shape[2])), dtype)
    chosen = checked_top_keys(top_keys, problem.k.shape[2])
    top = None
    if chosen:
        top = np.empty((*rows, chosen), np.int64), np.empty((*rows, chosen), dtype)
    _native.attention_forward(problem, out, max_logit, inv_sum, lse, entropy, map_, top)
    note_native("attention", problem, inv_sum)
    if empty == "nan":
        unseen = np.isneginf(max_logit)
        for array in (out, lse, max_logit, entropy):
            if array is not None:
                array[unseen] = narrow(np.full((), np.nan, dtype), array.dtype)
    return AttentionResult(
        out=like(q, heads_first(out, layout)),
        lse=like(q, lse),
        max_logit=like(q, max_logit),
        inv_sum=like(q, inv_sum),
        entropy=None if entropy is None else like(q, entropy),
        map=None if map_ is None else like(q, map_),
        top_keys=None if top is None else like(q, top[0]),
        top_weights=None if top is None else like(q, top[1]),
    )


def attention_backward(
    dout: Any,
    q: Any,
    k: Any,
    v: Any,
    result: AttentionResult,
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
    dlse: Any = None,
    dentropy: Any = None,
    with_dbias: bool = True,
    dropout_p: float = 0.0,
    seed: int | None = None,
    layout: Layout = "bhld",
) -> AttentionGradients:
    """Gradients of :func:`attention` from the gradients of its output, lse and entropy.

    Parameters
    ----------
    dout
        Gradient of ``result.out``, of its shape.
    q, k, v, scale, inv_temperature, mask, is_causal, causal_align, window, q_len, kv_len, sinks, softcap
        As they were given to :func:`attention`.
    bias, alibi_slopes, kind, sigmoid_bias, value_gate, dropout_p, seed, layout
        As they were given to :func:`attention`.
    result
        What :func:`attention` returned for them.
    dlse
        Gradient of ``result.lse``, (B, Hq, Lq); rows without any score are left out.
    dentropy
        Gradient of ``result.entropy``, (B, Hq, Lq), which must have been asked for.
    with_dbias
        Whether the gradient of the bias is wanted, where there is one; it costs a further pass.

    Returns
    -------
    AttentionGradients
        Arrays of the kind of ``q``, each of the dtype of what it belongs to.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> rng = np.random.default_rng(0)
    >>> q, k, v, dout = rng.standard_normal((4, 1, 2, 5, 8))
    >>> result = logitscope.attention(q, k, v)
    >>> gradients = logitscope.attention_backward(dout, q, k, v, result)
    >>> bool(np.allclose(gradients.dv.sum(axis=2), dout.sum(axis=2)))
    True
    """
    operation = "attention_backward"
    if is_gpu(q):
        _refuse_on_gpu("attention_backward", value_gate=value_gate, dropout_p=dropout_p or None)
        from logitscope.gpu.attention import attention_backward as on_gpu

        gradients: AttentionGradients = on_gpu(
            dout, q, k, v, result, scale=scale, inv_temperature=inv_temperature, mask=mask, is_causal=is_causal,
            causal_align=causal_align, window=window, q_len=q_len, kv_len=kv_len, sinks=sinks, softcap=softcap,
            bias=bias, alibi_slopes=alibi_slopes, kind=kind, sigmoid_bias=sigmoid_bias, layout=layout, dlse=dlse,
            dentropy=dentropy, with_dbias=with_dbias,
        )  # fmt: skip
        return gradients
    problem = Problem.of(
        operation, q, k, v, scale=scale, inv_temperature=inv_temperature, mask=mask, is_causal=is_causal,
        causal_align=causal_align, window=window, q_len=q_len, kv_len=kv_len, sinks=sinks,
        softcap=softcap, bias=bias, alibi_slopes=alibi_slopes, kind=kind, sigmoid_bias=sigmoid_bias,
        layout=layout, dropout_p=dropout_p, seed=seed, value_gate=value_gate,
    )  # fmt: skip
    batch, heads, queries, _ = problem.q.shape
    rows = (batch, heads, queries)
    out_axes = (batch, queries, heads) if layout == "blhd" else rows
    out_shape = (*out_axes, problem.v.shape[3])

    dtype = problem.q.dtype

    def given(name: str, value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        if len(shape) == 4:
            array = as_floats(operation, name, value)
            if array.dtype != dtype:
                message = f"{operation}: {name} has dtype {name_of(array.dtype)}, q has {name_of(dtype)}; use one dtype"
                raise DTypeError(message)
        else:
            array = as_computed(operation, name, value, dtype)
        if array.shape != shape:
            message = f"{operation}: {name} has shape {array.shape}; use {shape}"
            raise ShapeError(message)
        return array

    if dentropy is not None and result.entropy is None:
        message = f"{operation}: dentropy is given but result holds no entropy; call attention with stats=('entropy',)"
        raise ArgumentError(message)
    upstream = _Upstream(
        out=row_contiguous("result.out", heads_first(given("result.out", result.out, out_shape), layout)),
        max_logit=given("result.max_logit", result.max_logit, rows),
        inv_sum=given("result.inv_sum", result.inv_sum, rows),
        dout=row_contiguous("dout", heads_first(given("dout", dout, out_shape), layout)),
        dlse=None if dlse is None else given("dlse", dlse, rows),
        entropy=None if dentropy is None else given("result.entropy", result.entropy, rows),
        dentropy=None if dentropy is None else given("dentropy", dentropy, rows),
    )

    def wanted(condition: bool, shape: tuple[int, ...]) -> NDArray[Any] | None:
        return np.empty(shape, wide(dtype)) if condition else None

    shape = () if bias is None else tuple(np.shape(bias))
    dbias = wanted(bias is not None and with_dbias, (1,) * (4 - len(shape)) + shape)
    filled = AttentionGradients(
        **{
            f"d{name}": new_heads(x, x.shape[3])
            for name, x in (("q", problem.q), ("k", problem.k), ("v", problem.v))
        },
        dinv_temperature=wanted(inv_temperature is not None, rows),
        dsinks=wanted(sinks is not None, (heads,)),
        dbias=dbias,
        dalibi_slopes=wanted(alibi_slopes is not None, (heads,)),
        dsigmoid_bias=wanted(problem.sigmoid_bias is not None, (heads,)),
    )
    _native.attention_backward(problem, upstream, filled)
    note_native(operation, problem, upstream.inv_sum)
    if problem.value_gate is not None and problem.plain_v is not None:
        dv, dgate = gate_gradients(problem.plain_v, problem.value_gate, problem.kv_len, filled.dv)
        filled = replace(filled, dv=dv, dvalue_gate=dgate)
    turned = {name: heads_first(getattr(filled, name), layout) for name in ("dq", "dk", "dv")}
    filled = replace(filled, **turned, dbias=None if dbias is None else dbias.reshape(shape))
    parts = {name: getattr(filled, name) for name in filled.__slots__}
    # Each in the dtype of what it belongs to.
    given_options = {
        "dinv_temperature": inv_temperature, "dsinks": sinks, "dbias": bias, "dalibi_slopes": alibi_slopes,
        "dsigmoid_bias": sigmoid_bias,
    }  # fmt: skip
    for name, option in given_options.items():
        if parts[name] is not None and np.ndim(option) and not isinstance(option, str):
            parts[name] = narrow(parts[name], as_floats(operation, name[1:], option).dtype)
    return AttentionGradients(**{name: None if x is None else like(q, x) for name, x in parts.items()})


def _check_options(stats: Collection[str], empty: str) -> None:
    if isinstance(stats, str) or not set(stats) <= {"entropy"}:
        message = f"attention: stats is {stats!r}; use a collection of 'entropy' or an empty one"
        raise ArgumentError(message)
    if empty not in ("zero", "nan"):
        message = f"attention: empty is {empty!r}; use 'zero' or 'nan'"
        raise ArgumentError(message)


def checked_top_keys(top_keys: int, keys: int) -> int:
    """How many top keys of each row are wanted, as an integer."""
    chosen = operator.index(top_keys)
    if not 0 <= chosen <= max(keys, 1):
        message = f"attention: top_keys is {chosen}; use 0 for none, or up to the number of keys, {keys}"
        raise ArgumentError(message)
    return chosen


def _refuse_on_gpu(operation: str, **options: Any) -> None:
    """Raise ArgumentError for what only the CPU can do."""
    for name, value in options.items():
        if value is not None:
            message = f"{operation}: {name} is given with a GpuArray; leave it out, or compute on the CPU"
            raise ArgumentError(message)


def _bins(map_bins: tuple[int, int], queries: int, keys: int) -> tuple[int, int]:
    rows, columns = (operator.index(bins) for bins in map_bins)
    if not (1 <= rows <= queries and 1 <= columns <= keys):
        message = f"attention: map_bins is ({rows}, {columns}); use 1..{queries} bins of queries and 1..{keys} of keys"
        raise ArgumentError(message)
    return rows, columns
