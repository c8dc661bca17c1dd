"""Packed attention with what the packed kernel has not, temperatures of queries: each sequence is a call of its own."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope._arrays import as_floats, like
from logitscope.errors import ShapeError
from logitscope.ops.attention import attention
from logitscope.ops.attention_backward import attention_backward
from logitscope.ops.attention_result import AttentionGradients, AttentionResult

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from numpy.typing import NDArray

    from logitscope.ops.attention_backward import Upstream

    Starts = tuple[list[int], list[int]]

_FIGURES = ("lse", "max_logit", "inv_sum", "entropy", "logit_count", "logit_mean", "logit_m2", "variance")


def temperatures(operation: str, inv_temperature: Any, q: NDArray[Any]) -> NDArray[Any]:
    """Give each query of packed sequences its own, (Hq, positions)."""
    array = as_floats(operation, "inv_temperature", inv_temperature)
    shape = (q.shape[1], q.shape[0])
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        message = (
            f"{operation}: inv_temperature has shape {array.shape}; "
            f"use one that broadcasts to (heads, positions) = {shape}"
        )
        raise ShapeError(message) from None


def forward(
    operation: str,
    arrays: tuple[Any, Any, Any],
    starts: Starts,
    inv_temperature: Any,
    options: dict[str, Any],
    stats: Collection[str],
    empty: Any,
) -> AttentionResult:
    """:func:`logitscope.attention_varlen` of checked starts."""
    q, k, v = (as_floats(operation, name, array) for name, array in zip("qkv", arrays, strict=True))
    tau = temperatures(operation, inv_temperature, q)
    results = [
        attention(
            *(q[None, rows], k[None, keys], v[None, keys]), inv_temperature=tau[None, :, rows], layout="blhd",
            stats=stats, empty=empty, **options,
        )
        for rows, keys in _parts(starts)
    ]  # fmt: skip
    model, first = arrays[0], results[0]
    figures: dict[str, Any] = {
        name: like(model, np.concatenate([getattr(result, name)[0] for result in results], axis=1))
        for name in _FIGURES
        if getattr(first, name) is not None
    }
    out = np.concatenate([result.out[0] for result in results])
    return AttentionResult(out=like(model, out), **figures, kind=first.kind, layout="blhd")


def backward(
    operation: str,
    arrays: tuple[Any, Any, Any],
    starts: Starts,
    upstream: Upstream,
    inv_temperature: Any,
    options: dict[str, Any],
) -> AttentionGradients:
    """:func:`attention_varlen_backward` of what was checked; what belongs to heads is summed in float64."""
    q, k, v = (as_floats(operation, name, array) for name, array in zip("qkv", arrays, strict=True))
    tau = temperatures(operation, inv_temperature, q)

    def own(figures: NDArray[Any] | None, rows: slice) -> NDArray[Any] | None:
        return None if figures is None else figures[None, :, rows]

    parts = [
        attention_backward(
            *(upstream.dout[None, rows], q[None, rows], k[None, keys], v[None, keys]),
            AttentionResult(
                out=upstream.out[None, rows],
                lse=None,
                max_logit=own(upstream.max_logit, rows),
                inv_sum=own(upstream.inv_sum, rows),
                entropy=own(upstream.entropy, rows),
            ),
            inv_temperature=own(tau, rows),
            layout="blhd",
            dlse=own(upstream.dlse, rows),
            dentropy=own(upstream.dentropy, rows),
            **options,
        )
        for rows, keys in _parts(starts)
    ]
    model = arrays[0]
    joined = {
        name: np.concatenate([getattr(part, name)[0] for part in parts], axis=axis)
        for name, axis in (("dq", 0), ("dk", 0), ("dv", 0), ("dinv_temperature", 1))
    }
    for name in ("dsinks", "dalibi_slopes", "dsigmoid_bias"):
        of_heads = [getattr(part, name) for part in parts]
        # A bias that goes by the lengths is no one number.
        is_learned = name != "dsigmoid_bias" or not isinstance(options["sigmoid_bias"], str)
        if of_heads[0] is not None and is_learned:
            joined[name] = np.sum(of_heads, axis=0, dtype=np.float64).astype(of_heads[0].dtype)
    return AttentionGradients(**{name: like(model, x) for name, x in joined.items()})


def _parts(starts: Starts) -> Iterator[tuple[slice, slice]]:
    """Which queries and which keys each sequence has."""
    for (first, end), (start, stop) in zip(*map(pairwise, starts), strict=True):
        yield slice(first, end), slice(start, stop)
