"""Attention of packed sequences with its gradient: one call of the kernel each way."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from logitscope.errors import ShapeError
from logitscope.nn.functional._attention import attention
from logitscope.nn.functional._path import array, tensor_of, why_composite
from logitscope.ops._row_figures import OF_STATISTIC
from logitscope.ops.attention_result import AttentionResult
from logitscope.ops.attention_varlen import attention_varlen as packed_attention
from logitscope.ops.attention_varlen_backward import attention_varlen_backward

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_OF_HEADS = ("sinks", "alibi_slopes", "sigmoid_bias")

Starts = tuple[list[int], list[int]]


def attention_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts: Starts,
    options: dict[str, Any],
    stats: Collection[str],
    empty: Literal["zero", "nan"],
    inv_temperature: Tensor | float | None = None,
) -> AttentionResult:
    """:func:`logitscope.attention_varlen` of checked starts with gradients."""
    if inv_temperature is not None:
        return _by_sequence(q, k, v, starts, {**options, "stats": stats, "empty": empty}, inv_temperature)
    given = tuple(option if isinstance(option := options[name], Tensor) else None for name in _OF_HEADS)
    if why_composite(q, k, v, *given) is not None:
        return _by_sequence(q, k, v, starts, {**options, "stats": stats, "empty": empty})
    output = _Varlen.apply(q, k, v, *given, starts, options, tuple(stats), empty)
    return AttentionResult(**dict(zip(_given(stats), output, strict=True)))


def _given(stats: Collection[str]) -> tuple[str, ...]:
    """Names of what the packed call gives; the entropy, which has a gradient, before others that have none."""
    asked_for = (name for stat, names in OF_STATISTIC.items() if stat in stats for name in names)
    return "out", "lse", "max_logit", "inv_sum", *asked_for


def _by_sequence(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts: Starts,
    options: dict[str, Any],
    inv_temperature: Tensor | float | None = None,
) -> AttentionResult:
    """Call attention for one sequence after the other."""
    tau = inv_temperature
    if isinstance(tau, Tensor):
        tau = _of_queries(tau, q)
    results = [
        attention(
            *(x[first:end].transpose(0, 1)[None] for x, (first, end) in ((q, rows), (k, keys), (v, keys))),
            inv_temperature=tau[None, :, rows[0] : rows[1]] if isinstance(tau, Tensor) else tau,
            **options,
        )
        for rows, keys in zip(*map(pairwise, starts), strict=True)
    ]

    def joined(name: str) -> Any:
        parts = [getattr(result, name) for result in results]
        return None if parts[0] is None else torch.cat([part[0] for part in parts], dim=1)

    names = _given(options.get("stats", ()))
    return AttentionResult(out=joined("out").transpose(0, 1), **{name: joined(name) for name in names[1:]})


def _of_queries(inv_temperature: Tensor, q: Tensor) -> Tensor:
    """Give each query of packed sequences its own, (Hq, positions)."""
    shape = (q.shape[1], q.shape[0])
    try:
        return inv_temperature.expand(shape)
    except RuntimeError:
        message = (
            f"attention_varlen: inv_temperature has shape {tuple(inv_temperature.shape)}; "
            f"use one that broadcasts to (heads, positions) = {shape}"
        )
        raise ShapeError(message) from None


class _Varlen(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        sinks: Tensor | None,
        alibi_slopes: Tensor | None,
        sigmoid_bias: Tensor | None,
        starts: Starts,
        options: dict[str, Any],
        stats: tuple[str, ...],
        empty: Literal["zero", "nan"],
    ) -> tuple[Tensor, ...]:
        inputs = (q, k, v, sinks, alibi_slopes, sigmoid_bias)
        given = _with(options, [None if x is None else array(x) for x in inputs[3:]])
        result = packed_attention(
            array(q), array(k), array(v), starts[0], starts[1], **given, stats=stats, empty=empty
        )
        names = _given(stats)
        output = tuple(tensor_of(getattr(result, name)) for name in names)
        ctx.starts, ctx.options, ctx.with_entropy = starts, options, "entropy" in names
        ctx.set_materialize_grads(False)
        state = 4 + ctx.with_entropy
        ctx.mark_non_differentiable(*output[2:4], *output[state:])
        ctx.save_for_backward(*inputs, *output[:state])
        return output

    @staticmethod
    def backward(
        ctx: Any, dout: Tensor | None, dlse: Tensor | None, *others: Tensor | None
    ) -> tuple[Any, ...]:
        inputs, output = ctx.saved_tensors[:6], ctx.saved_tensors[6:]
        dentropy = others[2] if ctx.with_entropy else None
        if torch.is_grad_enabled():  # the gradients will be differentiated themselves
            gradients = _gradients_by_sequence(ctx, inputs, (dout, dlse, dentropy))
        else:
            gradients = _gradients(ctx, inputs, output, (dout, dlse, dentropy))
        wanted = (
            gradient if need else None
            for gradient, need in zip(gradients, ctx.needs_input_grad, strict=False)
        )
        return *wanted, *(None,) * 4


def _with(options: dict[str, Any], of_heads: Sequence[Any]) -> dict[str, Any]:
    """Options, with what belongs to heads as it is given where it is."""
    given = {name: x for name, x in zip(_OF_HEADS, of_heads, strict=True) if x is not None}
    return {**options, **given}


def _gradients(
    ctx: Any,
    inputs: tuple[Tensor | None, ...],
    output: tuple[Tensor, ...],
    upstream: tuple[Tensor | None, ...],
) -> list[Tensor | None]:
    q, k, v, *of_heads = (None if x is None else array(x) for x in inputs)
    dout, dlse, dentropy = (None if x is None else array(x) for x in upstream)
    state: dict[str, Any] = dict(zip(_given(("entropy",)), map(array, output), strict=False))
    got = attention_varlen_backward(
        array(torch.zeros_like(output[0])) if dout is None else dout,
        q,
        k,
        v,
        ctx.starts[0],
        ctx.starts[1],
        AttentionResult(**state),
        **_with(ctx.options, of_heads),
        dlse=dlse,
        dentropy=dentropy,
    )
    parts = (got.dq, got.dk, got.dv, got.dsinks, got.dalibi_slopes, got.dsigmoid_bias)
    return [None if part is None else tensor_of(part) for part in parts]


def _gradients_by_sequence(
    ctx: Any, inputs: tuple[Tensor | None, ...], upstream: tuple[Tensor | None, ...]
) -> list[Tensor | None]:
    q, k, v, *of_heads = inputs
    stats = () if upstream[2] is None else ("entropy",)
    result = _by_sequence(q, k, v, ctx.starts, {**_with(ctx.options, of_heads), "stats": stats})  # type: ignore[arg-type]
    outputs = (result.out, result.lse, result.entropy)
    given = [
        (part, gradient) for part, gradient in zip(outputs, upstream, strict=True) if gradient is not None
    ]
    wanted = [x for x in inputs if x is not None and x.requires_grad]
    found = iter(
        torch.autograd.grad(
            [part for part, _ in given],
            wanted,
            [gradient for _, gradient in given],
            create_graph=True,
            allow_unused=True,
        )
    )
    return [next(found) if x is not None and x.requires_grad else None for x in inputs]
