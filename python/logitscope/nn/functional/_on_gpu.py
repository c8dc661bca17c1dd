"""CPU tensors sent to a GPU and back: softmax, attention and cross entropy with their gradients.

What a call costs beside the computation are the copies: inputs there, results back. `logitscope bench gpu` measures
from which size on that pays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from logitscope.errors import ArgumentError
from logitscope.gpu import GpuArray, default_device
from logitscope.ops.attention import AttentionResult, attention_backward
from logitscope.ops.attention import attention as attention_of_arrays
from logitscope.ops.cross_entropy import cross_entropy as loss_of_arrays
from logitscope.ops.cross_entropy import cross_entropy_backward
from logitscope.ops.softmax import softmax as softmax_of_arrays
from logitscope.ops.softmax import softmax_backward

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.autograd.function import FunctionCtx

DeviceName = Literal["cpu", "gpu"]


def is_sent(operation: str, device: str) -> bool:
    """Whether an operation is to run on a GPU.

    Raises
    ------
    ArgumentError
        For a device that is neither.
    """
    if device not in ("cpu", "gpu"):
        message = f"{operation}: device is {device!r}; use 'cpu' or 'gpu'"
        raise ArgumentError(message)
    return device == "gpu"


def softmax(x: Tensor, dim: int, temperature: float) -> Tensor:
    """Softmax along a dimension, on a GPU."""
    y: Tensor = _Softmax.apply(x, dim, temperature)
    return y


def cross_entropy(logits: Tensor, targets: Tensor, options: Mapping[str, Any]) -> Tensor:
    """Cross entropy with the classes in dimension 1 (or 0 of one), on a GPU."""
    _refuse_gradients("cross_entropy", {"targets": targets, **options})
    axis = 1 if logits.dim() > 1 else 0
    loss: Tensor = _CrossEntropy.apply(logits, targets, {**_arrays(options), "axis": axis})
    return loss


def attention(q: Tensor, k: Tensor, v: Tensor, options: Mapping[str, Any]) -> AttentionResult:
    """Attention, on a GPU; gradients go through its output alone."""
    _refuse_gradients("attention", options)
    given = _arrays(options)
    if isinstance(given["inv_temperature"], int | float):
        given["inv_temperature"] = np.array(given["inv_temperature"], np.float32)
    out, lse, max_logit, inv_sum, entropy, map_ = _Attention.apply(q, k, v, given)
    return AttentionResult(out=out, lse=lse, max_logit=max_logit, inv_sum=inv_sum, entropy=entropy, map=map_)


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, temperature: float) -> Tensor:
        ctx.y, ctx.options = softmax_of_arrays(_there(x), dim, temperature=temperature), (dim, temperature)
        return _back(ctx.y)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        dim, temperature = ctx.options
        return _back(softmax_backward(ctx.y, _there(dy, ctx.y), dim, temperature=temperature)), None, None


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, options: dict[str, Any]) -> Tensor:
        ctx.logits, ctx.options = _there(logits), options
        soft = targets.is_floating_point()
        ctx.targets = _there(targets, ctx.logits) if soft else targets.numpy(force=True)
        return _back(loss_of_arrays(ctx.logits, ctx.targets, **options))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor, None, None]:
        gradient = cross_entropy_backward(dloss.numpy(force=True), ctx.logits, ctx.targets, **ctx.options)
        return _back(gradient), None, None


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]
    ) -> tuple[Tensor | None, ...]:
        first = _there(q)
        kept: Any = ctx
        kept.inputs = (first, _there(k, first), _there(v, first))
        kept.result = attention_of_arrays(*kept.inputs, **options)
        kept.options = {
            name: value for name, value in options.items() if name not in ("stats", "map_bins", "empty")
        }
        names = ("out", "lse", "max_logit", "inv_sum", "entropy", "map")
        results = [getattr(kept.result, name) for name in names]
        tensors = [None if result is None else _back(result) for result in results]
        ctx.mark_non_differentiable(*(tensor for tensor in tensors[1:] if tensor is not None))
        return tuple(tensors)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dout: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        upstream = _there(dout, ctx.inputs[0])
        q, k, v = ctx.inputs
        gradients = attention_backward(upstream, q, k, v, ctx.result, with_dbias=False, **ctx.options)
        return _back(gradients.dq), _back(gradients.dk), _back(gradients.dv), None


def _there(tensor: Tensor, like: GpuArray | None = None) -> GpuArray:
    if like is None:
        return GpuArray(tensor.detach(), default_device())
    return GpuArray(tensor.detach(), like.device, dtype=like.dtype)


def _back(array: GpuArray) -> Tensor:
    return torch.from_numpy(array.numpy())


def _arrays(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.numpy(force=True) if isinstance(value, Tensor) else value
        for name, value in options.items()
    }


def _refuse_gradients(operation: str, options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled():
            message = f"{operation}: {name} requires a gradient on device 'gpu'; use device='cpu' or {name}.detach()"
            raise ArgumentError(message)
