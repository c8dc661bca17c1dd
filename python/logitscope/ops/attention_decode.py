"""Attention of the newest tokens over a cache."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope import _native
from logitscope._arrays import as_floats, like, same_dtype
from logitscope._dtypes import wide
from logitscope.errors import ArgumentError, ShapeError
from logitscope.ops._attention_problem import (
    Kind,
    Problem,
    as_computed,
    check_kind,
    check_options,
    row_contiguous,
)
from logitscope.ops._decoding import Decoding
from logitscope.ops._row_figures import RowFigures
from logitscope.ops.attention_result import AttentionResult

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from logitscope.ops.kv_cache import KVCache

_OPERATION = "attention_decode"


def attention_decode(
    q: Any,
    cache: KVCache,
    *,
    scale: float | None = None,
    inv_temperature: Any = None,
    window: int = -1,
    sinks: Any = None,
    softcap: float = 0.0,
    alibi_slopes: Any = None,
    kind: Kind = "softmax",
    sigmoid_bias: Any = "auto",
    stats: Collection[str] = (),
) -> AttentionResult:
    """Attention of the last tokens of each sequence over what the cache holds.

    Keys and values are read once, where they lie, at the speed of the memory. Chunks of 1024 of them, which all threads
    share, are merged in their order: the result depends neither on the batch nor on the number of threads. 16-bit
    caches are computed with in float32, and ``out`` is rounded once. Sigmoid weighting goes the way of
    :func:`logitscope.attention` instead, which is slower, and copies what a ring or pages hold.

    Parameters
    ----------
    q
        Queries of the last T tokens, (B, Hq, T, D); their keys have been appended. Query head h reads key head
        h // (Hq / Hk). A ring answers for as many as it was made for.
    cache
        Keys and values.
    scale
        Factor of the dot products; 1 / sqrt(D) by default.
    inv_temperature
        A further factor for each query, broadcastable to (B, Hq, T).
    window
        How many keys before its own position a query sees; -1 is all that the cache holds.
    sinks, softcap, alibi_slopes, kind, stats
        As in :func:`logitscope.attention`.
    sigmoid_bias
        The number that the model was trained with, one for each head, or ``"auto_row"``; needed with
        ``kind="sigmoid"``, since a cache does not know the length of training sequences.

    Returns
    -------
    AttentionResult
        Arrays of the kind and dtype of ``q``, beside ``out`` float32 where that has 16 bits; rows are (B, Hq, T).
        Sequences without tokens give zeros. Tensors have no gradient.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> cache = logitscope.KVCache(1, 1, window=3, head_dim=4)
    >>> for token in range(5):
    ...     q = np.full((1, 2, 1, 4), token, np.float32)
    ...     cache.append(q[:, :1], q[:, :1])
    >>> float(logitscope.attention_decode(q * 0, cache).out[0, 0, 0, 0])
    3.0
    """
    check_options(_OPERATION, stats, "zero")
    check_kind(_OPERATION, kind, sigmoid_bias, sinks)
    window = _checked_window(window)
    if scale is not None and not math.isfinite(scale):
        message = f"{_OPERATION}: scale is {scale}; use a finite number"
        raise ArgumentError(message)
    queries = as_floats(_OPERATION, "q", q)
    batch, (key_heads, _, dim) = len(cache.lengths), cache.keys.shape[1:]
    if (
        queries.ndim != 4
        or queries.shape[0] != batch
        or queries.shape[3] != dim
        or queries.shape[1] % key_heads
    ):
        message = (
            f"{_OPERATION}: q has shape {queries.shape}; use ({batch}, query heads, tokens, {dim}), "
            f"a multiple of {key_heads} heads"
        )
        raise ShapeError(message)
    dtype = same_dtype(_OPERATION, [("q", queries), ("cache", cache.keys)])
    _, heads, tokens, _ = queries.shape
    if cache.window is not None:
        together = cache.capacity - cache.window + 1
        if tokens > together:
            message = (
                f"{_OPERATION}: q has {tokens} tokens; use up to {together} at a time, as the ring has room for, "
                f"or KVCache(..., tokens={tokens})"
            )
            raise ArgumentError(message)
        window = cache.window - 1 if window < 0 else min(window, cache.window - 1)
    if not 0 <= softcap < math.inf:
        message = f"{_OPERATION}: softcap is {softcap}; use a positive number, or 0 for none"
        raise ArgumentError(message)
    rows = (batch, heads, tokens)
    out = np.empty((*rows, cache.values.shape[3]), dtype)
    figures = RowFigures.empty(rows, wide(dtype), stats)
    if kind == "sigmoid":
        if isinstance(sigmoid_bias, str) and sigmoid_bias == "auto":
            message = (
                f"{_OPERATION}: sigmoid_bias is 'auto', which is of a training length; "
                f"use the number itself, one for each head of q, or 'auto_row'"
            )
            raise ArgumentError(message)
        keys, values, lengths = cache.in_order()
        whole = Problem.of(
            _OPERATION, queries, keys, values, scale=scale, inv_temperature=inv_temperature, mask=None, is_causal=True,
            causal_align="bottom_right", window=(window, 0), q_len=None, kv_len=lengths, sinks=None, softcap=softcap,
            bias=None, alibi_slopes=alibi_slopes, kind=kind, sigmoid_bias=sigmoid_bias, layout="bhld",
        )  # fmt: skip
        _native.attention_forward(whole, out, figures, None, None)
        return AttentionResult(out=like(q, out), **figures.like(q), kind=kind)

    def of_heads(name: str, numbers: Any) -> NDArray[Any] | None:
        if numbers is None:
            return None
        array = as_computed(_OPERATION, name, numbers, dtype)
        if array.shape != (heads,):
            message = (
                f"{_OPERATION}: {name} has shape {array.shape}; use ({heads},), one number for each head of q"
            )
            raise ShapeError(message)
        return np.ascontiguousarray(array)

    temperature = None
    if inv_temperature is not None:
        temperature = as_computed(_OPERATION, "inv_temperature", inv_temperature, dtype)
        try:
            temperature = np.broadcast_to(temperature, rows)
        except ValueError:
            message = f"{_OPERATION}: inv_temperature has shape {temperature.shape}; use one that broadcasts to {rows}"
            raise ShapeError(message) from None
    problem = Decoding(
        q=row_contiguous("q", queries),
        keys=cache.keys,
        values=cache.values,
        pages=cache.pages.ravel().tolist(),
        lengths=cache.lengths.tolist(),
        capacity=cache.capacity,
        window=None if window < 0 else window,
        scale=1 / math.sqrt(dim) if scale is None else float(scale),
        inv_temperature=temperature,
        softcap=float(softcap),
        alibi_slopes=of_heads("alibi_slopes", alibi_slopes),
        sinks=of_heads("sinks", sinks),
    )
    _native.attention_decode(problem, out, figures)
    return AttentionResult(out=like(q, out), **figures.like(q))


def _checked_window(window: int) -> int:
    """``window`` as an integer, -1 for no bound."""
    try:
        reach = operator.index(window)
    except TypeError:
        reach = -2
    if reach < -1:
        message = f"{_OPERATION}: window is {window!r}; use an integer of 0 or more, -1 for no bound"
        raise ArgumentError(message)
    # No sequence is longer, and the compiled module takes no larger number.
    return min(reach, 2**62)
