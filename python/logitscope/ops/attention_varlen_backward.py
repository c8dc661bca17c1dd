"""The gradients of attention over packed sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope import _native
from logitscope._arrays import as_floats, like
from logitscope._dtypes import narrow, wide
from logitscope.errors import ArgumentError
from logitscope.ops._attention_problem import heads_first, row_contiguous
from logitscope.ops._by_sequence import backward
from logitscope.ops._path_notes import note_native
from logitscope.ops.attention_backward import Upstream
from logitscope.ops.attention_result import AttentionGradients
from logitscope.ops.attention_varlen import Packed

if TYPE_CHECKING:
    from logitscope.ops._attention_problem import CausalAlign, Kind, Window
    from logitscope.ops.attention_result import AttentionResult

_OPERATION = "attention_varlen_backward"


def attention_varlen_backward(
    dout: Any,
    q: Any,
    k: Any,
    v: Any,
    cu_seqlens_q: Any,
    cu_seqlens_k: Any,
    result: AttentionResult,
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
    dlse: Any = None,
    dentropy: Any = None,
) -> AttentionGradients:
    """Gradients of :func:`attention_varlen` from the gradients of its output, lse and entropy.

    Parameters
    ----------
    dout
        Gradient of ``result.out``, (sum of Lq, Hq, Dv).
    q, k, v, cu_seqlens_q, cu_seqlens_k, scale, inv_temperature, is_causal, causal_align, window, sinks, softcap
        As they were given to :func:`attention_varlen`.
    alibi_slopes, kind, sigmoid_bias
        As they were given to :func:`attention_varlen`.
    result
        What :func:`attention_varlen` returned for them.
    dlse
        Gradient of ``result.lse``, (Hq, sum of Lq).
    dentropy
        Gradient of ``result.entropy``, (Hq, sum of Lq), which must have been asked for.

    Returns
    -------
    AttentionGradients
        Those of what belongs to heads are summed over the sequences; ``dinv_temperature`` is (Hq, sum of Lq).

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> q, k, v, dout = np.random.default_rng(0).standard_normal((4, 7, 2, 8))
    >>> starts = [0, 3, 7]
    >>> packed = logitscope.attention_varlen(q, k, v, starts, starts)
    >>> gradients = logitscope.attention_varlen_backward(dout, q, k, v, starts, starts, packed)
    >>> bool(np.allclose(gradients.dv[:3].sum(axis=0), dout[:3].sum(axis=0)))
    True
    """
    options = {
        "scale": scale, "is_causal": is_causal, "causal_align": causal_align, "window": window, "sinks": sinks,
        "softcap": softcap, "alibi_slopes": alibi_slopes, "kind": kind, "sigmoid_bias": sigmoid_bias,
    }  # fmt: skip
    if dentropy is not None and result.entropy is None:
        message = (
            f"{_OPERATION}: dentropy is given but result holds no entropy; "
            f"call attention_varlen with stats=('entropy',)"
        )
        raise ArgumentError(message)
    packed = Packed.of(_OPERATION, q, k, v, cu_seqlens_q, cu_seqlens_k, options)
    problem = packed.problem
    _, heads, queries, _ = problem.q.shape
    of_rows = (heads, queries)
    upstream = Upstream.of(
        _OPERATION,
        problem.q.dtype,
        (queries, heads, problem.v.shape[3]),
        of_rows,
        out=result.out,
        max_logit=result.max_logit,
        inv_sum=result.inv_sum,
        dout=dout,
        dlse=dlse,
        entropy=result.entropy if dentropy is not None else None,
        dentropy=dentropy,
    )
    if inv_temperature is not None:
        return backward(_OPERATION, (q, k, v), packed.starts, upstream, inv_temperature, options)
    dtype = wide(problem.q.dtype)
    arrays = (problem.q, problem.k, problem.v)
    dq, dk, dv = (np.empty((x.shape[2], x.shape[1], x.shape[3]), x.dtype) for x in arrays)
    of_heads = {"dsinks": sinks, "dalibi_slopes": alibi_slopes}
    has_bias = kind == "sigmoid" and not isinstance(sigmoid_bias, str)
    of_heads |= {"dsigmoid_bias": sigmoid_bias if has_bias else None}
    filled = AttentionGradients(
        dq, dk, dv, **{name: None if x is None else np.empty(heads, dtype) for name, x in of_heads.items()}
    )
    batched = Upstream(
        out=row_contiguous("result.out", heads_first(upstream.out[None], "blhd")),
        max_logit=upstream.max_logit[None],
        inv_sum=upstream.inv_sum[None],
        dout=row_contiguous("dout", heads_first(upstream.dout[None], "blhd")),
        dlse=None if upstream.dlse is None else upstream.dlse[None],
        entropy=None if upstream.entropy is None else upstream.entropy[None],
        dentropy=None if upstream.dentropy is None else upstream.dentropy[None],
    )
    _native.attention_varlen_backward(problem, packed.starts, batched, filled)
    note_native(_OPERATION, problem, batched.inv_sum, packed.sequences)
    given = {"dq": dq, "dk": dk, "dv": dv}
    for name, option in of_heads.items():
        if (part := getattr(filled, name)) is not None:
            is_array = bool(np.ndim(option))
            given[name] = narrow(part, as_floats(_OPERATION, name[1:], option).dtype) if is_array else part
    return AttentionGradients(**{name: like(q, x) for name, x in given.items()})
