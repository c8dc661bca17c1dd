"""The operators of fused attention: the way from tensors to the kernel, and its gradient."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 -- torch reads the operators' annotations
from typing import Any

import torch
from torch import Tensor

from logitscope.nn import composite
from logitscope.nn.functional._path import array, is_plain, tensor_of, wide
from logitscope.ops._attention_problem import positions_first
from logitscope.ops._path_notes import note_composite
from logitscope.ops._row_figures import OF_STATISTIC
from logitscope.ops.attention import attention
from logitscope.ops.attention_backward import attention_backward
from logitscope.ops.attention_result import AttentionResult


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inv_temperature: Tensor | None,
    sinks: Tensor | None,
    bias: Tensor | None,
    alibi_slopes: Tensor | None,
    sigmoid_bias: Tensor | None,
    value_gate: Tensor | None,
    mask: Tensor | None,
    q_len: Tensor | None,
    kv_len: Tensor | None,
    seed: Tensor | None,
    scale: float,
    window: Sequence[int],
    causal_align: str,
    softcap: float,
    is_sigmoid: bool,
    dropout_p: float,
    stats: str,
    map_bins: Sequence[int],
    map_pooling: str,
    top_keys: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    result = attention(
        array(q),
        array(k),
        array(v),
        **_arrays(inv_temperature, sinks, bias, alibi_slopes, value_gate, mask, q_len, kv_len),
        **_options(sigmoid_bias, seed, scale, window, causal_align, softcap, is_sigmoid, dropout_p),
        stats=stats.split(),
        map_bins=(map_bins[0], map_bins[1]) if map_bins else None,
        map_pooling=map_pooling,  # type: ignore[arg-type]
        top_keys=top_keys,
    )
    parts = (getattr(result, name) for name in RESULTS)
    made = [q.new_empty(0, dtype=wide(q.dtype)) if part is None else tensor_of(part) for part in parts]
    if result.top_keys is None:
        made[RESULTS.index("top_keys")] = q.new_empty(0, dtype=torch.int64)
    return tuple(made)  # type: ignore[return-value]


RESULTS = (
    *("out", "lse", "max_logit", "inv_sum", "entropy", "map", "top_keys", "top_weights"),
    *("logit_count", "logit_mean", "logit_m2", "variance"),
)
"""What the operator gives, of no elements where it was not asked for."""


def _backward(
    dout: Tensor,
    dlse: Tensor | None,
    dentropy: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inv_temperature: Tensor | None,
    sinks: Tensor | None,
    bias: Tensor | None,
    alibi_slopes: Tensor | None,
    sigmoid_bias: Tensor | None,
    value_gate: Tensor | None,
    mask: Tensor | None,
    q_len: Tensor | None,
    kv_len: Tensor | None,
    seed: Tensor | None,
    out: Tensor,
    lse: Tensor,
    max_logit: Tensor,
    inv_sum: Tensor,
    entropy: Tensor,
    scale: float,
    window: Sequence[int],
    causal_align: str,
    softcap: float,
    is_sigmoid: bool,
    dropout_p: float,
    with_dbias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    result = AttentionResult(
        out=array(out),
        lse=array(lse),
        max_logit=array(max_logit),
        inv_sum=array(inv_sum),
        entropy=None if dentropy is None else array(entropy),
    )
    gradients = attention_backward(
        array(dout),
        array(q),
        array(k),
        array(v),
        result,
        **_arrays(inv_temperature, sinks, bias, alibi_slopes, value_gate, mask, q_len, kv_len),
        **_options(sigmoid_bias, seed, scale, window, causal_align, softcap, is_sigmoid, dropout_p),
        dlse=None if dlse is None else array(dlse),
        dentropy=None if dentropy is None else array(dentropy),
        with_dbias=with_dbias,
    )
    names = ("q", "k", "v", "inv_temperature", "sinks", "bias", "alibi_slopes", "sigmoid_bias", "value_gate")
    parts = (getattr(gradients, f"d{name}") for name in names)
    made = (q.new_empty(0) if part is None else tensor_of(part) for part in parts)
    return tuple(made)  # type: ignore[return-value]


def _arrays(
    inv_temperature: Tensor | None,
    sinks: Tensor | None,
    bias: Tensor | None,
    alibi_slopes: Tensor | None,
    value_gate: Tensor | None,
    mask: Tensor | None,
    q_len: Tensor | None,
    kv_len: Tensor | None,
) -> dict[str, Any]:
    tensors = {
        "inv_temperature": inv_temperature,
        "sinks": sinks,
        "bias": bias,
        "alibi_slopes": alibi_slopes,
        "value_gate": value_gate,
        "mask": mask,
        "q_len": q_len,
        "kv_len": kv_len,
    }
    return {name: None if tensor is None else array(tensor) for name, tensor in tensors.items()}


def _options(
    sigmoid_bias: Tensor | None,
    seed: Tensor | None,
    scale: float,
    window: Sequence[int],
    causal_align: str,
    softcap: float,
    is_sigmoid: bool,
    dropout_p: float,
) -> dict[str, Any]:
    without = "auto_row" if is_sigmoid else "auto"
    return {
        "sigmoid_bias": without if sigmoid_bias is None else array(sigmoid_bias),
        "scale": scale,
        "window": (window[0], window[1]),
        "causal_align": causal_align,
        "softcap": softcap,
        "kind": "sigmoid" if is_sigmoid else "softmax",
        "dropout_p": dropout_p,
        "seed": None if seed is None else int(seed) % 2**64,
    }


attention_operator = torch.library.custom_op("logitscope::attention", _forward, mutates_args=())
_backward_operator = torch.library.custom_op("logitscope::attention_backward", _backward, mutates_args=())


@attention_operator.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, ...]:
    stats, map_bins, _, top_keys = others[-4:]
    rows, dtype = q.shape[:3], wide(q.dtype)
    figures = {name for stat in stats.split() for name in OF_STATISTIC[stat]}
    shapes = {
        "map": (*rows[:2], *map_bins) if map_bins else (0,),
        **dict.fromkeys(("top_keys", "top_weights"), (*rows, top_keys) if top_keys else (0,)),
        **dict.fromkeys(("lse", "max_logit", "inv_sum", *figures), rows),
    }
    return _new_heads(q, v.shape[3]), *(
        q.new_empty(shapes.get(name, (0,)), dtype=torch.int64 if name == "top_keys" else dtype)
        for name in RESULTS[1:]
    )


@_backward_operator.register_fake
def _(
    dout: Tensor, dlse: Tensor | None, dentropy: Tensor | None, q: Tensor, k: Tensor, v: Tensor, *others: Any
) -> tuple[Tensor, ...]:
    heads = (_new_heads(x, x.shape[3]) for x in (q, k, v))
    rest, with_dbias = list(others[: _DIFFERENTIABLE - 3]), others[-1]
    rest[_BIAS - 3] = rest[_BIAS - 3] if with_dbias else None
    return *heads, *(q.new_empty(0) if x is None else x.new_empty(x.shape) for x in rest)


def _new_heads(model: Tensor, size: int) -> Tensor:
    """As the kernels make their results: in memory in the order of ``model``."""
    batch, heads, length, _ = model.shape
    if positions_first(model.stride()):
        return model.new_empty(batch, length, heads, size).transpose(1, 2)
    return model.new_empty(batch, heads, length, size)


_DIFFERENTIABLE = 9
"""So many of the operator's inputs have a gradient: q to value_gate."""
_BIAS = 5
"""The place of the bias among them."""
_TENSORS = 13
"""So many of its inputs are tensors."""


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    tensors, numbers = inputs[:_TENSORS], inputs[_TENSORS:]
    *options, stats, _, _, _ = numbers
    out, lse, max_logit, inv_sum, entropy, *unused = output
    with_entropy = "entropy" in stats.split()
    ctx.options = tuple(options)
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(max_logit, inv_sum, *unused, *(() if with_entropy else (entropy,)))
    ctx.save_for_backward(*tensors, out, lse, max_logit, inv_sum, entropy)


def _gradient(
    ctx: Any,
    dout: Tensor | None,
    dlse: Tensor | None,
    _max_logit: None,
    _inv_sum: None,
    dentropy: Tensor | None,
    *_unused: None,
) -> tuple[Tensor | None, ...]:
    tensors, output = ctx.saved_tensors[:_TENSORS], ctx.saved_tensors[_TENSORS:]
    if torch.is_grad_enabled():  # the gradients will be differentiated themselves
        note_composite(
            "attention_backward",
            tensors[0],
            tensors[1],
            "its gradients are to be differentiated (create_graph=True)",
        )
        gradients: Sequence[Tensor | None] = _composite_gradients(
            tensors, ctx.options, ((0, dout), (1, dlse), (4, dentropy))
        )
    else:
        dout = torch.zeros_like(output[0]) if dout is None else dout
        bias = tensors[_BIAS]
        with_dbias = bias is not None and bool(bias.requires_grad)
        backward: Any = _backward if is_plain(dout, *tensors) else _backward_operator
        gradients = backward(dout, dlse, dentropy, *tensors, *output, *ctx.options, with_dbias)
    given = (
        part if tensor is not None and tensor.requires_grad else None
        for tensor, part in zip(tensors[:_DIFFERENTIABLE], gradients, strict=True)
    )
    return *given, *(None,) * (_TENSORS - _DIFFERENTIABLE + len(ctx.options) + 4)


def _composite_gradients(
    tensors: tuple[Tensor | None, ...],
    options: tuple[Any, ...],
    upstream: tuple[tuple[int, Tensor | None], ...],
) -> list[Tensor | None]:
    parts = composite.attention(*tensors, *options, "entropy", (), "mean", 0)  # type: ignore[arg-type, call-arg]
    inputs = tensors[:_DIFFERENTIABLE]
    wanted = [tensor for tensor in inputs if tensor is not None and tensor.requires_grad]
    given = [(parts[index], gradient) for index, gradient in upstream if gradient is not None]
    gradients = iter(
        torch.autograd.grad(
            [part for part, _ in given],
            wanted,
            [gradient for _, gradient in given],
            create_graph=True,
            allow_unused=True,
        )
    )
    return [next(gradients) if tensor is not None and tensor.requires_grad else None for tensor in inputs]


attention_operator.register_autograd(_gradient, setup_context=_keep)


class _Function(torch.autograd.Function):
    """The same without the dispatcher, whose way costs a tenth of a millisecond."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        output = _forward(*inputs)
        _keep(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        return _gradient(ctx, *gradients)


def fused_attention(*inputs: Any) -> tuple[Tensor, ...]:
    """Call the operator, without torch's dispatcher where nobody looks on."""
    call = _Function.apply if is_plain(*inputs[:_TENSORS]) else attention_operator
    output: tuple[Tensor, ...] = call(*inputs)
    return output
