"""Softmax with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from logitscope.nn.functional import _on_gpu
from logitscope.nn.functional._path import array, check_dtype, needs_composite, normal_dim, tensor_of
from logitscope.ops.softmax import softmax as forward_rows
from logitscope.ops.softmax import softmax_backward as backward_rows


def softmax(
    x: Tensor, dim: int = -1, *, temperature: float = 1.0, device: _on_gpu.DeviceName | None = None
) -> Tensor:
    """Softmax of ``x / temperature`` along a dimension.

    Parameters
    ----------
    x
        Any shape; float32, float64, float16 or bfloat16.
    dim
        The dimension that sums to 1.
    temperature
        What the logits are divided by.
    device
        ``"cpu"``, or ``"gpu"``: the tensors go to the GPU of :func:`logitscope.gpu.default_device` and the result comes
        back; `logitscope bench gpu` says from which size on that pays.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn.functional import softmax
    >>> softmax(torch.zeros(4))
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    check_dtype("softmax", x=x)
    dim = normal_dim("softmax", dim, x)
    if _on_gpu.is_sent("softmax", device, x):
        return _on_gpu.rows("softmax", x, dim, temperature=temperature)
    if needs_composite(x):
        return torch.softmax(x / temperature, dim)
    y: Tensor = _softmax(x, dim, temperature)
    return y


@torch.library.custom_op("logitscope::softmax", mutates_args=())
def _softmax(x: Tensor, dim: int, temperature: float) -> Tensor:
    return tensor_of(forward_rows(array(x), dim, temperature=temperature))


@torch.library.custom_op("logitscope::softmax_backward", mutates_args=())
def _softmax_backward(y: Tensor, dy: Tensor, dim: int, temperature: float) -> Tensor:
    return tensor_of(backward_rows(array(y), array(dy), dim, temperature=temperature))


@_softmax.register_fake
def _(x: Tensor, dim: int, temperature: float) -> Tensor:
    return x.new_empty(x.shape)


@_softmax_backward.register_fake
def _(y: Tensor, dy: Tensor, dim: int, temperature: float) -> Tensor:
    return y.new_empty(y.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.dim, ctx.temperature = inputs
    ctx.save_for_backward(output)


def _gradient(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
    (y,) = ctx.saved_tensors
    if torch.is_grad_enabled():  # the gradient will be differentiated itself
        return y * (dy - (y * dy).sum(ctx.dim, keepdim=True)) / ctx.temperature, None, None
    return _softmax_backward(y, dy, ctx.dim, ctx.temperature), None, None


_softmax.register_autograd(_gradient, setup_context=_keep)
