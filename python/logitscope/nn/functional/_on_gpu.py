"""CPU tensors sent to a GPU and back, with their gradients.

What a call costs beside the computation are the copies: inputs there, results back. `logitscope bench gpu` measures
from which size on that pays.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from logitscope.errors import ArgumentError
from logitscope.gpu import GpuArray, default_device
from logitscope.gpu.sending import is_sending, note_sent
from logitscope.nn.functional._path import why_composite
from logitscope.ops import linear_cross_entropy as linear
from logitscope.ops import log_softmax, logsumexp, softmax, sparsemax, stablemax
from logitscope.ops.attention import attention as attention_of_arrays
from logitscope.ops.attention_backward import attention_backward
from logitscope.ops.attention_result import AttentionResult
from logitscope.ops.cross_entropy import cross_entropy as loss_of_arrays
from logitscope.ops.cross_entropy import cross_entropy_backward

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logitscope.ops._linear_problem import Plan
    from logitscope.ops._loss_problem import Options

DeviceName = Literal["cpu", "gpu"]
"""None stands for the CPU, or for the GPU within :func:`logitscope.gpu.sending`, where it can do the call."""

_MODULES = {
    "softmax": softmax,
    "log_softmax": log_softmax,
    "logsumexp": logsumexp,
    "sparsemax": sparsemax,
    "entmax15": sparsemax,
    "stablemax": stablemax,
    "log_stablemax": stablemax,
}
_DIFFERENTIABLE = ("inv_temperature", "sinks", "bias", "alibi_slopes", "sigmoid_bias", "value_gate")
_WITH_GRADIENT = ("out", "lse", "entropy")
_FIGURES = ("max_logit", "inv_sum", "map", "logit_count", "logit_mean", "logit_m2", "variance", "top_weights")
_RESULTS = (*_WITH_GRADIENT, *_FIGURES, "top_keys")
_OF_FORWARD = ("stats", "map_bins", "map_pooling", "empty", "top_keys")
"""Options that the backward pass does not take."""


def is_sent(operation: str, device: str | None, *tensors: Tensor | None, fits: bool = True) -> bool:
    """Whether an operation on these tensors is to run on a GPU; ``fits`` says that a GPU can do it otherwise.

    Raises
    ------
    ArgumentError
        For a device that is neither.
    """
    if device not in (None, "cpu", "gpu"):
        message = f"{operation}: device is {device!r}; use 'cpu' or 'gpu'"
        raise ArgumentError(message)
    sent = device == "gpu"
    if device is None and fits and is_sending() and not torch.compiler.is_compiling():
        given = [tensor for tensor in tensors if tensor is not None]
        narrow = all(tensor.dtype != torch.float64 and tensor.device.type == "cpu" for tensor in given)
        sent = narrow and why_composite(*given) is None
    if sent:
        note_sent(operation)
    return sent


def rows(operation: str, x: Tensor, dim: int, **options: Any) -> Tensor:
    """One of the operations on rows along a dimension, on a GPU."""
    y: Tensor = _Rows.apply(x, operation, dim, options)
    return y


def cross_entropy(logits: Tensor, targets: Tensor, options: Mapping[str, Any]) -> Tensor:
    """Cross entropy with the classes in dimension 1 (or 0 of one), on a GPU."""
    _refuse_gradients("cross_entropy", {"targets": targets, **options})
    axis = 1 if logits.dim() > 1 else 0
    loss: Tensor = _CrossEntropy.apply(logits, targets, {**_arrays(options), "axis": axis})
    return loss


def linear_cross_entropy(
    input: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None, options: Options, plan: Plan
) -> Tensor:
    """Cross entropy of the logits of a linear layer, on a GPU."""
    of_arrays = {name: getattr(options, name) for name in ("weight", "normalizer")}
    _refuse_gradients("linear_cross_entropy", {"targets": targets, "class_weight": of_arrays["weight"]})
    options = replace(options, **_arrays(of_arrays))
    loss: Tensor = _LinearCrossEntropy.apply(input, weight, bias, targets, options, plan)
    return loss


def attention(q: Tensor, k: Tensor, v: Tensor, options: Mapping[str, Any]) -> AttentionResult:
    """Attention, on a GPU; gradients go through output, lse and entropy."""
    given = dict(options)
    seed = given["seed"]
    given["seed"] = None if seed is None else int(seed) % 2**64
    tensors = []
    for name in _DIFFERENTIABLE:
        value = given[name]
        number = isinstance(value, int | float) and name == "inv_temperature"
        tensors.append(torch.tensor(float(value)) if number else value if isinstance(value, Tensor) else None)
    results = _Attention.apply(q, k, v, *tensors, _arrays(given))
    return AttentionResult(**dict(zip(_RESULTS, results, strict=True)), kind=given["kind"])


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, operation: str, dim: int, options: dict[str, Any]) -> Tensor:
        there = _there(x)
        y = getattr(_MODULES[operation], operation)(there, dim, **options)
        keeps_x = operation in ("stablemax", "log_stablemax", "logsumexp")
        ctx.kept = (there, y) if keeps_x else (y,)
        ctx.called = operation, dim, {name: value for name, value in options.items() if name != "keepdims"}
        return _back(y, x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None, None]:
        operation, dim, options = ctx.called
        _refuse_second(operation)
        function = getattr(_MODULES[operation], f"{operation}_backward")
        return _back(function(*ctx.kept, _there(dy, ctx.kept[0]), dim, **options), dy), None, None, None


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, options: dict[str, Any]) -> Tensor:
        ctx.logits, ctx.options, ctx.like = _there(logits), options, logits.new_empty(0)
        soft = targets.is_floating_point()
        ctx.targets = _there(targets, ctx.logits) if soft else targets.numpy(force=True)
        return _back(loss_of_arrays(ctx.logits, ctx.targets, **options), _wide(logits))

    @staticmethod
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor, None, None]:
        _refuse_second("cross_entropy")
        upstream = dloss.float().numpy(force=True)
        gradient = cross_entropy_backward(upstream, ctx.logits, ctx.targets, **ctx.options)
        return _back(gradient, ctx.like), None, None


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        options: Options,
        plan: Plan,
    ) -> Tensor:
        first = _there(input)
        arrays = (first, _there(weight, first), None if bias is None else _there(bias, first))
        masses = targets.is_floating_point()
        ctx.called = arrays, (targets.float() if masses else targets).numpy(force=True), options, plan
        ctx.like = input.new_empty(0)
        needed = ctx.needs_input_grad
        ctx.wanted = (needed[0], needed[1], needed[2])
        made = any(ctx.wanted) and options.reduction != "none"
        (there, matrix, offsets), wanted = arrays, ctx.wanted if made else None
        loss, *gradients = linear.loss(there, matrix, ctx.called[1], offsets, options, plan, wanted=wanted)
        ctx.gradients = gradients[0] if made else None
        return _back(loss, _wide(input))

    @staticmethod
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second("linear_cross_entropy")
        gradients = ctx.gradients
        if gradients is None:
            (there, matrix, offsets), targets, options, plan = ctx.called
            upstream = dloss.float().numpy(force=True)
            gradients = linear.backward(
                upstream, there, matrix, targets, offsets, options, plan, wanted=ctx.wanted
            )
        parts = (gradients.input, gradients.weight, gradients.bias)
        made = [None if part is None else _back(part, ctx.like) for part in parts]
        if ctx.gradients is not None:
            made = [None if part is None else part * dloss.to(part.dtype) for part in made]
        return *made, None, None, None


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor | None, ...]:
        *tensors, options = rest
        first = _there(q)
        ctx.inputs = (first, _there(k, first), _there(v, first))
        given = {
            name: tensor.float().numpy(force=True)
            for name, tensor in zip(_DIFFERENTIABLE, tensors, strict=True)
            if tensor is not None
        }
        options = {**options, **given}
        ctx.result = attention_of_arrays(*ctx.inputs, **options)
        ctx.options = {name: options[name] for name in options if name not in _OF_FORWARD}
        ctx.tensors = [None if tensor is None else tensor.detach() for tensor in tensors]
        ctx.like = q.new_empty(0)
        ctx.set_materialize_grads(False)
        figures = (getattr(ctx.result, name) for name in _RESULTS[1:-1])
        made = [_back(ctx.result.out, q), *(None if one is None else _back(one, _wide(q)) for one in figures)]
        keys = ctx.result.top_keys
        made.append(None if keys is None else torch.from_numpy(keys))
        ctx.mark_non_differentiable(*(one for one in made[len(_WITH_GRADIENT) :] if one is not None))
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        _refuse_second("attention")
        dout, dlse, dentropy, *_ = upstream
        q, k, v = ctx.inputs
        if dout is None:
            dout = ctx.like.new_zeros((*q.shape[:3], v.shape[3]))
        of_rows: dict[str, Any] = {
            name: None if given is None else given.float().numpy(force=True)
            for name, given in (("dlse", dlse), ("dentropy", dentropy))
        }
        wanted = dict(zip(_DIFFERENTIABLE, ctx.needs_input_grad[3:-1], strict=True))
        gradients = attention_backward(
            _there(dout, q), q, k, v, ctx.result, with_dbias=wanted["bias"], **of_rows, **ctx.options
        )
        made = [_back(one, ctx.like) for one in (gradients.dq, gradients.dk, gradients.dv)]
        further: list[Tensor | None] = []
        for name, tensor in zip(_DIFFERENTIABLE, ctx.tensors, strict=True):
            gradient = getattr(gradients, f"d{name}") if wanted[name] and tensor is not None else None
            further.append(None if gradient is None else _back(gradient, tensor).sum_to_size(tensor.shape))
        return *made, *further, None


def _there(tensor: Tensor, like: GpuArray | None = None) -> GpuArray:
    if like is None:
        return GpuArray(tensor.detach(), default_device())
    return GpuArray(tensor.detach(), like.device, dtype=like.dtype)


def _back(array: GpuArray, like: Tensor) -> Tensor:
    return torch.from_numpy(array.numpy()).to(like.dtype)


def _wide(tensor: Tensor) -> Tensor:
    """Return a tensor of the type of losses and statistics."""
    return tensor if tensor.dtype == torch.float64 else torch.empty(0)


def _arrays(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.numpy(force=True) if isinstance(value, Tensor) else value
        for name, value in options.items()
    }


def _refuse_second(operation: str) -> None:
    """Raise ArgumentError where a gradient will be differentiated itself."""
    if torch.is_grad_enabled():
        message = f"{operation}: its gradient is to have a gradient on device 'gpu'; use device='cpu'"
        raise ArgumentError(message)


def _refuse_gradients(operation: str, options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled():
            message = f"{operation}: {name} requires a gradient on device 'gpu'; use device='cpu' or {name}.detach()"
            raise ArgumentError(message)
