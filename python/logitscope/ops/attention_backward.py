"""The gradients of attention."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from logitscope import _native
from logitscope._arrays import as_floats, is_gpu, like
from logitscope._dtypes import name_of, narrow, wide
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
from logitscope.ops.attention_result import AttentionGradients

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitscope.ops.attention_result import AttentionResult


class Upstream(NamedTuple):
    """What the compiled module reads of a forward pass and of the gradients of its results."""

    out: NDArray[Any]
    max_logit: NDArray[Any]
    inv_sum: NDArray[Any]
    dout: NDArray[Any]
    dlse: NDArray[Any] | None
    entropy: NDArray[Any] | None
    dentropy: NDArray[Any] | None

    @classmethod
    def of(
        cls,
        operation: str,
        dtype: np.dtype[Any],
        out_shape: tuple[int, ...],
        rows: tuple[int, ...],
        **given: Any,
    ) -> Upstream:
        """Check that outputs are of the dtype of q, and that they and the figures of the rows have their shapes."""

        def checked(name: str, value: Any) -> NDArray[Any] | None:
            if value is None:
                return None
            if name in ("result.out", "dout"):
                shape, array = out_shape, as_floats(operation, name, value)
                if array.dtype != dtype:
                    got = f"{operation}: {name} has dtype {name_of(array.dtype)}"
                    message = f"{got}, q has {name_of(dtype)}; use one dtype"
                    raise DTypeError(message)
            else:
                shape, array = rows, as_computed(operation, name, value, dtype)
            if array.shape != shape:
                message = f"{operation}: {name} has shape {array.shape}; use {shape}"
                raise ShapeError(message)
            return array

        of_result = ("out", "max_logit", "inv_sum", "entropy")
        names = {name: f"result.{name}" if name in of_result else name for name in given}
        return cls(**{name: checked(names[name], value) for name, value in given.items()})  # type: ignore[arg-type]


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
        from logitscope.gpu.attention import attention_backward as on_gpu

        gradients: AttentionGradients = on_gpu(
            dout, q, k, v, result, scale=scale, inv_temperature=inv_temperature, mask=mask, is_causal=is_causal,
            causal_align=causal_align, window=window, q_len=q_len, kv_len=kv_len, sinks=sinks, softcap=softcap,
            bias=bias, alibi_slopes=alibi_slopes, kind=kind, sigmoid_bias=sigmoid_bias, layout=layout, dlse=dlse,
            dentropy=dentropy, with_dbias=with_dbias, dropout_p=dropout_p, seed=seed, value_gate=value_gate,
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
    dtype = problem.q.dtype
    if dentropy is not None and result.entropy is None:
        message = f"{operation}: dentropy is given but result holds no entropy; call attention with stats=('entropy',)"
        raise ArgumentError(message)
    upstream = Upstream.of(
        operation,
        dtype,
        (*out_axes, problem.v.shape[3]),
        rows,
        out=result.out,
        max_logit=result.max_logit,
        inv_sum=result.inv_sum,
        dout=dout,
        dlse=dlse,
        entropy=result.entropy if dentropy is not None else None,
        dentropy=dentropy,
    )
    upstream = upstream._replace(
        out=row_contiguous("result.out", heads_first(upstream.out, layout)),
        dout=row_contiguous("dout", heads_first(upstream.dout, layout)),
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
    if problem.value_gate is not None:
        dv, dgate = gate_gradients(problem.v, problem.value_gate, problem.kv_len, filled.dv)
        filled = replace(filled, dv=dv, dvalue_gate=dgate)
    turned = {name: heads_first(getattr(filled, name), layout) for name in ("dq", "dk", "dv")}
    filled = replace(filled, **turned, dbias=None if dbias is None else dbias.reshape(shape))
    parts = {name: getattr(filled, name) for name in filled.__slots__}
    # Each in the dtype of what it belongs to.
    given_options = {
        "dinv_temperature": inv_temperature, "dsinks": sinks, "dbias": bias, "dalibi_slopes": alibi_slopes,
        "dsigmoid_bias": sigmoid_bias, "dvalue_gate": value_gate,
    }  # fmt: skip
    for name, option in given_options.items():
        if parts[name] is not None and np.ndim(option) and not isinstance(option, str):
            parts[name] = narrow(parts[name], as_floats(operation, name[1:], option).dtype)
    return AttentionGradients(**{name: None if x is None else like(q, x) for name, x in parts.items()})
