"""Logarithm of the softmax with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from logitscope.nn.functional import _on_gpu
from logitscope.nn.functional._path import array, check_dtype, needs_composite, normal_dim, tensor_of
from logitscope.ops.log_softmax import log_softmax as forward_rows
from logitscope.ops.log_softmax import log_softmax_backward as backward_rows


def log_softmax(x: Tensor, dim: int = -1, *, device: _on_gpu.DeviceName | None = None) -> Tensor:
    """Logarithm of the softmax along a dimension.

    Parameters
    ----------
    x
        Any shape; float32, float64, float16 or bfloat16.
    dim
        The dimension whose exponentials sum to 1.
    device
        ``"cpu"``, or ``"gpu"``: the tensor goes to the GPU of :func:`logitscope.gpu.default_device` and the result
        comes back; `logitscope bench gpu` says from which size on that pays.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn.functional import log_softmax
    >>> log_softmax(torch.zeros(4)).exp()
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    check_dtype("log_softmax", x=x)
    dim = normal_dim("log_softmax", dim, x)
    if _on_gpu.is_sent("log_softmax", device, x):
        return _on_gpu.rows("log_softmax", x, dim)
    if needs_composite(x):
        return torch.log_softmax(x, dim)
    y: Tensor = _log_softmax(x, dim)
    return y


@torch.library.custom_op("logitscope::log_softmax", mutates_args=())
def _log_softmax(x: Tensor, dim: int) -> Tensor:
    return tensor_of(forward_rows(array(x), dim))


@torch.library.custom_op("logitscope::log_softmax_backward", mutates_args=())
def _log_softmax_backward(y: Tensor, dy: Tensor, dim: int) -> Tensor:
    return tensor_of(backward_rows(array(y), array(dy), dim))


@_log_softmax.register_fake
def _(x: Tensor, dim: int) -> Tensor:
    return x.new_empty(x.shape)


@_log_softmax_backward.register_fake
def _(y: Tensor, dy: Tensor, dim: int) -> Tensor:
    return y.new_empty(y.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.dim = inputs
    ctx.save_for_backward(output)


def _gradient(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
    (y,) = ctx.saved_tensors
    if torch.is_grad_enabled():  # the gradient will be differentiated itself
        return dy - y.exp() * dy.sum(ctx.dim, keepdim=True), None
    return _log_softmax_backward(y, dy, ctx.dim), None


_log_softmax.register_autograd(_gradient, setup_context=_keep)
