"""Attention over sequences of different lengths that lie one after the other."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from logitscope._arrays import as_numpy, is_tensor
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.ops.attention import AttentionResult, attention

if TYPE_CHECKING:
    from collections.abc import Collection

    from logitscope.ops._attention_problem import CausalAlign, Kind, Window

_OPERATION = "attention_varlen"


def attention_varlen(
    q: Any,
    k: Any,
    v: Any,
    cu_seqlens_q: Any,
    cu_seqlens_k: Any,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    causal_align: CausalAlign = "bottom_right",
    window: Window = (-1, -1),
    sinks: Any = None,
    softcap: float = 0.0,
    alibi_slopes: Any = None,
    kind: Kind = "softmax",
    sigmoid_bias: Any = "auto",
    stats: Collection[str] = (),
    empty: Literal["zero", "nan"] = "zero",
) -> AttentionResult:
    """Attention of packed sequences: each attends to itself alone, as in a call of its own, bit for bit.

    Parameters
    ----------
    q
        Queries of all sequences, (sum of Lq, Hq, D).
    k
        Keys, (sum of Lk, Hk, D).
    v
        Values, (sum of Lk, Hk, Dv).
    cu_seqlens_q, cu_seqlens_k
        Where the sequences begin, (sequences + 1,): from 0 to the length of ``q`` and of ``k``, ascending.
    scale, is_causal, causal_align, window, sinks, softcap, alibi_slopes, kind, sigmoid_bias, stats, empty
        As in :func:`logitscope.attention`.

    Returns
    -------
    AttentionResult
        ``out`` is (sum of Lq, Hq, Dv), the figures of the rows are (Hq, sum of Lq). Tensors are differentiable.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 7, 2, 8), dtype=np.float32)
    >>> starts = [0, 3, 7]
    >>> packed = logitscope.attention_varlen(q, k, v, starts, starts, is_causal=True)
    >>> first = logitscope.attention(q[None, :3], k[None, :3], v[None, :3], is_causal=True, layout="blhd")
    >>> bool((packed.out[:3] == first.out[0]).all())
    True
    """
    for name, array in (("q", q), ("k", k), ("v", v)):
        shape = tuple(np.shape(array))
        if len(shape) != 3:
            message = f"{_OPERATION}: {name} has shape {shape}; use (positions, heads, head_dim)"
            raise ShapeError(message)
    starts_q = _starts("cu_seqlens_q", cu_seqlens_q, "q", np.shape(q)[0])
    starts_k = _starts("cu_seqlens_k", cu_seqlens_k, "k", np.shape(k)[0])
    if len(starts_q) != len(starts_k):
        message = (
            f"{_OPERATION}: cu_seqlens_q has {len(starts_q)} entries, cu_seqlens_k {len(starts_k)}; "
            f"use as many"
        )
        raise ShapeError(message)
    results = [
        attention(
            q[None, first_q:end_q],
            k[None, first_k:end_k],
            v[None, first_k:end_k],
            scale=scale,
            is_causal=is_causal,
            causal_align=causal_align,
            window=window,
            sinks=sinks,
            softcap=softcap,
            alibi_slopes=alibi_slopes,
            kind=kind,
            sigmoid_bias=sigmoid_bias,
            stats=stats,
            empty=empty,
            layout="blhd",
        )
        for (first_q, end_q), (first_k, end_k) in zip(pairwise(starts_q), pairwise(starts_k), strict=True)
    ]

    def joined(name: str, axis: int) -> Any:
        parts = [getattr(result, name) for result in results]
        if parts[0] is None:
            return None
        if not is_tensor(parts[0]):
            return np.concatenate([part[0] for part in parts], axis=axis)
        import torch

        return torch.cat([part[0] for part in parts], dim=axis)

    figures = ("lse", "max_logit", "inv_sum", "entropy")
    return AttentionResult(joined("out", 0), *(joined(name, 1) for name in figures))


def _starts(name: str, value: Any, of: str, length: int) -> list[int]:
    array = as_numpy(_OPERATION, name, value)
    if array.dtype.kind not in "iu":
        message = f"{_OPERATION}: {name} has dtype {array.dtype}; use integers"
        raise DTypeError(message)
    starts: list[int] = array.tolist() if array.ndim == 1 else []
    ascending = all(start <= end for start, end in pairwise(starts))
    if len(starts) < 2 or starts[0] != 0 or starts[-1] != length or not ascending:
        message = (
            f"{_OPERATION}: {name} is {array.tolist()}; "
            f"use ascending numbers from 0 to {length}, the length of {of}"
        )
        raise ArgumentError(message)
    return starts
