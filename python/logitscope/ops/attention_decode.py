"""Attention of the newest tokens over a cache."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope._arrays import as_wide_floats, like, same_dtype
from logitscope.errors import ArgumentError, ShapeError
from logitscope.ops.attention import AttentionResult, attention
from logitscope.ops.kv_cache import CHUNK
from logitscope.ops.merge_states import merge_states

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
    stats: Collection[str] = (),
) -> AttentionResult:
    """Softmax attention of the last tokens of each sequence over what the cache holds.

    The keys are attended to in chunks of 512, which all threads share, and the chunks are merged in their order: the
    result depends neither on the batch nor on the number of threads. Query heads that share a key head read it once.

    Parameters
    ----------
    q
        Queries of the last T tokens, (B, Hq, T, D); their keys have been appended. Query head h reads key head
        h // (Hq / Hk). One token for a cache that is a ring.
    cache
        Keys and values.
    scale
        Factor of the dot products; 1 / sqrt(D) by default.
    inv_temperature
        A further factor for each query, broadcastable to (B, Hq, T).
    window
        How many keys before its own position a query sees; -1 is all that the cache holds.
    sinks, softcap, alibi_slopes, stats
        As in :func:`logitscope.attention`.

    Returns
    -------
    AttentionResult
        Arrays of the kind and dtype of ``q``; rows are (B, Hq, T). Sequences without tokens give zeros.

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
    queries = as_wide_floats(_OPERATION, "q", q)
    batch, key_heads, room, dim = cache.keys.shape
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
    same_dtype(_OPERATION, [("q", queries), ("cache", cache.keys)])
    _, heads, tokens, _ = queries.shape
    if cache.window is not None and tokens != 1:
        message = f"{_OPERATION}: q has {tokens} tokens; use one at a time with a cache that is a ring"
        raise ArgumentError(message)
    rows, chunks, group = (batch, heads, tokens), room // CHUNK, heads // key_heads

    def packed(array: NDArray[Any]) -> NDArray[Any]:
        """(B, Hq, T, ...) to one row of queries for each chunk of a key head, (B, Hk * chunks, g * T, ...)."""
        rest = array.shape[3:]
        wide = array.reshape(batch, key_heads, 1, group * tokens, *rest)
        shape = (batch, key_heads, chunks, group * tokens, *rest)
        return np.broadcast_to(wide, shape).reshape(batch, key_heads * chunks, group * tokens, *rest)

    temperature = None
    if inv_temperature is not None:
        temperature = packed(
            np.broadcast_to(as_wide_floats(_OPERATION, "inv_temperature", inv_temperature), rows)
        )
    # How far each place of the cache is behind each query, (B, T, room).
    held = cache.positions()[:, None]
    position = cache.lengths[:, None, None] - tokens + np.arange(tokens)[:, None]
    distance = position - held
    visible = (held >= 0) & (distance >= 0)
    if window >= 0:
        visible &= distance <= window
    bias = None
    if alibi_slopes is not None:
        slopes = as_wide_floats(_OPERATION, "alibi_slopes", alibi_slopes)
        if slopes.shape != (heads,):
            message = (
                f"{_OPERATION}: alibi_slopes has shape {slopes.shape}; use ({heads},), one for each head of q"
            )
            raise ShapeError(message)
        bias = _by_chunk(-slopes[:, None, None] * distance[:, None].astype(queries.dtype), key_heads, chunks)
    hidden = np.broadcast_to(visible[:, None], (batch, group if tokens > 1 else 1, tokens, room))
    mask = _by_chunk(hidden, 1, chunks)
    mask = np.broadcast_to(mask[:, None], (batch, key_heads, *mask.shape[1:]))
    split = (batch, key_heads * chunks, CHUNK, -1)
    parts = attention(
        packed(queries),
        cache.keys.reshape(split),
        cache.values.reshape(split),
        scale=1 / math.sqrt(dim) if scale is None else scale,
        inv_temperature=temperature,
        mask=mask.reshape(batch, key_heads * chunks, *mask.shape[3:]),
        softcap=softcap,
        bias=bias,
        stats=stats,
    )

    def of_chunk(index: int) -> AttentionResult:
        def own(array: NDArray[Any] | None) -> Any:
            if array is None:
                return None
            chunked = array.reshape(batch, key_heads, chunks, group * tokens, *array.shape[3:])
            return chunked[:, :, index].reshape(*rows, *array.shape[3:])

        names = ("out", "lse", "max_logit", "inv_sum", "entropy")
        return AttentionResult(*(own(getattr(parts, name)) for name in names))

    merged = merge_states([of_chunk(index) for index in range(chunks)], sinks=sinks)
    names = ("out", "lse", "max_logit", "inv_sum", "entropy")
    return AttentionResult(
        *(None if x is None else like(q, x) for x in (getattr(merged, name) for name in names))
    )


def _by_chunk(array: NDArray[Any], key_heads: int, chunks: int) -> NDArray[Any]:
    """(B, H, T, room) to (B, Hk * chunks, (H / Hk) * T, chunk)."""
    batch, heads, tokens, room = array.shape
    rows = heads // key_heads * tokens
    cut = array.reshape(batch, key_heads, rows, chunks, room // chunks).swapaxes(2, 3)
    chunked: NDArray[Any] = cut.reshape(batch, key_heads * chunks, rows, room // chunks)
    return chunked
