"""Attention over sequences of different lengths that lie one after the other."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from logitscope import _native
from logitscope._arrays import as_numpy, like, needs_autograd
from logitscope._dtypes import narrow, wide
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.ops._attention_problem import Problem, check_options
from logitscope.ops._decoding import Decoding
from logitscope.ops._path_notes import note_native
from logitscope.ops._row_figures import RowFigures
from logitscope.ops.attention_result import AttentionResult

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from numpy.typing import NDArray

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
    inv_temperature: Any = None,
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
    inv_temperature
        A further factor for each query, broadcastable to (Hq, sum of Lq). The sequences are then computed one by one,
        which takes longer where many are short.
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
    options = {
        "scale": scale, "is_causal": is_causal, "causal_align": causal_align, "window": window, "sinks": sinks,
        "softcap": softcap, "alibi_slopes": alibi_slopes, "kind": kind, "sigmoid_bias": sigmoid_bias,
    }  # fmt: skip
    check_options(_OPERATION, stats, empty)
    if needs_autograd(q, k, v, sinks, alibi_slopes, sigmoid_bias, inv_temperature):
        from logitscope.nn.functional._attention_varlen import attention_varlen as differentiable

        starts = Packed.starts_of(q, k, v, cu_seqlens_q, cu_seqlens_k)
        differentiated: AttentionResult = differentiable(
            q, k, v, starts, options, stats, empty, inv_temperature
        )
        return replace(differentiated, kind=kind, layout="blhd")
    if inv_temperature is not None:
        from logitscope.ops._by_sequence import forward

        starts = Packed.starts_of(q, k, v, cu_seqlens_q, cu_seqlens_k)
        return forward(_OPERATION, (q, k, v), starts, inv_temperature, options, stats, empty)
    packed = Packed.of(_OPERATION, q, k, v, cu_seqlens_q, cu_seqlens_k, options)
    _, heads, queries, _ = packed.problem.q.shape
    out = np.empty((queries, heads, packed.problem.v.shape[3]), packed.problem.q.dtype)
    dtype, rows = wide(out.dtype), (heads, queries)
    figures = RowFigures.empty(rows, dtype, stats)
    decodings = [
        Decoding.of_single_query(packed.sequence(index)) if end - first == 1 else None
        for index, (first, end) in enumerate(pairwise(packed.starts[0]))
    ]
    if not all(decodings):
        starts = _in_one_call(packed.starts, decodings)
        _native.attention_varlen_forward(packed.problem, starts, out, figures)
        tiled = [index for index, decoding in enumerate(decodings) if decoding is None]
        note_native(_OPERATION, packed.problem, figures.inv_sum, lambda: map(packed.sequence, tiled))
    decoded = [row for row, decoding in zip(packed.starts[0], decodings, strict=False) if decoding]
    for row, decoding in zip(decoded, filter(None, decodings), strict=True):
        _decode(decoding, row, out, figures, stats)
    if decoded:
        note_native(_OPERATION, packed.problem, figures.inv_sum[:, decoded], is_decoded=True)
    if empty == "nan":
        unseen = np.isneginf(figures.max_logit)
        out.swapaxes(0, 1)[unseen] = narrow(np.full((), np.nan, dtype), out.dtype)
        figures.spoil(unseen)
    return AttentionResult(out=like(q, out), **figures.like(q), kind=kind, layout="blhd")


def _in_one_call(
    starts: tuple[list[int], list[int]], decodings: list[Decoding | None]
) -> tuple[list[int], list[int]]:
    """Where the sequences begin for the packed call, which does not look at the keys of what is decoded.

    Such a sequence stands there as a query without keys, and then as keys without a query: next to no work.
    """
    queries, keys = [0], [0]
    for end, stop, decoding in zip(starts[0][1:], starts[1][1:], decodings, strict=True):
        if decoding is not None:
            queries.append(end)
            keys.append(keys[-1])
        queries.append(end)
        keys.append(stop)
    return queries, keys


def _decode(
    decoding: Decoding, row: int, out: NDArray[Any], figures: RowFigures, stats: Collection[str]
) -> None:
    """Fill the one row of a sequence, as a call of its own would."""
    heads = out.shape[1]
    own = RowFigures.empty((1, heads, 1), figures.lse.dtype, stats)
    _native.attention_decode(decoding, out[row].reshape(1, heads, 1, -1), own)
    for target, source in zip(figures, own, strict=True):
        if target is not None and source is not None:
            target[:, row] = source[0, :, 0]


class Packed(NamedTuple):
    """Packed sequences as a problem of one batch element, and where they begin."""

    problem: Problem
    """Its sigmoid bias is (sequences * Hq,)."""
    starts: tuple[list[int], list[int]]

    @classmethod
    def of(
        cls,
        operation: str,
        q: Any,
        k: Any,
        v: Any,
        cu_seqlens_q: Any,
        cu_seqlens_k: Any,
        options: dict[str, Any],
    ) -> Packed:
        """Check what a user gave."""
        starts = cls.starts_of(q, k, v, cu_seqlens_q, cu_seqlens_k)
        bias = options["sigmoid_bias"]
        # -ln(Lk) differs from sequence to sequence.
        is_auto = options["kind"] == "sigmoid" and isinstance(bias, str) and bias == "auto"
        problem = Problem.of(
            operation, q[None], k[None], v[None], **{**options, "sigmoid_bias": "auto_row"} if is_auto else options,
            inv_temperature=None, mask=None, q_len=None, kv_len=None, bias=None, layout="blhd",
        )  # fmt: skip
        heads = problem.q.shape[1]
        biases = None
        if is_auto:
            numbers = [-math.log(max(end - start, 1)) for start, end in pairwise(starts[1])]
            biases = np.repeat(np.array(numbers, wide(problem.q.dtype)), heads)
        elif problem.sigmoid_bias is not None:
            biases = np.tile(problem.sigmoid_bias, len(starts[0]) - 1)
        return cls(problem._replace(sigmoid_bias=biases), starts)

    @staticmethod
    def starts_of(
        q: Any, k: Any, v: Any, cu_seqlens_q: Any, cu_seqlens_k: Any
    ) -> tuple[list[int], list[int]]:
        """Where the sequences begin."""
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
        return starts_q, starts_k

    def sequence(self, index: int) -> Problem:
        """The problem of one sequence, as far as its scores are concerned."""
        queries, keys = (slice(starts[index], starts[index + 1]) for starts in self.starts)
        problem = self.problem
        return problem._replace(
            q=problem.q[:, :, queries],
            k=problem.k[:, :, keys],
            v=problem.v[:, :, keys],
            sigmoid_bias=None,
        )

    def sequences(self) -> Iterator[Problem]:
        """The problems of all of them."""
        return map(self.sequence, range(len(self.starts[0]) - 1))


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
