"""StableMax and its logarithm with their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from logitscope.nn.functional import _on_gpu
from logitscope.nn.functional._path import array, check_dtype, needs_composite, normal_dim, tensor_of
from logitscope.ops import stablemax as rows


def stablemax(x: Tensor, dim: int = -1, *, device: _on_gpu.DeviceName | None = None) -> Tensor:
    """StableMax along a dimension.

    Parameters
    ----------
    x
        Any shape; float32, float64, float16 or bfloat16.
    dim
        The dimension that sums to 1.
    device
        ``"cpu"``, or ``"gpu"``: the tensor goes to the GPU of :func:`logitscope.gpu.default_device` and the result
        comes back; `logitscope bench gpu` says from which size on that pays.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn.functional import stablemax
    >>> stablemax(torch.tensor([3.0, 0.0, 0.0, 1.0]))
    tensor([0.5000, 0.1250, 0.1250, 0.2500])
    """
    check_dtype("stablemax", x=x)
    dim = normal_dim("stablemax", dim, x)
    if _on_gpu.is_sent("stablemax", device, x):
        return _on_gpu.rows("stablemax", x, dim)
    if needs_composite(x):
        return torch.softmax(signed_log(x), dim)
    y: Tensor = _stablemax(x, dim)
    return y


def log_stablemax(x: Tensor, dim: int = -1, *, device: _on_gpu.DeviceName | None = None) -> Tensor:
    """Logarithm of StableMax along a dimension.

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
    >>> from logitscope.nn.functional import log_stablemax
    >>> log_stablemax(torch.tensor([3.0, 0.0, 0.0, 1.0])).exp()
    tensor([0.5000, 0.1250, 0.1250, 0.2500])
    """
    check_dtype("log_stablemax", x=x)
    dim = normal_dim("log_stablemax", dim, x)
    if _on_gpu.is_sent("log_stablemax", device, x):
        return _on_gpu.rows("log_stablemax", x, dim)
    if needs_composite(x):
        return torch.log_softmax(signed_log(x), dim)
    y: Tensor = _log_stablemax(x, dim)
    return y


def signed_log(x: Tensor) -> Tensor:
    """Compute sign(x) log(1 + |x|), whose softmax StableMax is, with its derivative 1 at 0."""
    above, below = torch.where(x < 0, 0.0, x), torch.where(x < 0, x, 0.0)
    return above.log1p() - (-below).log1p()


@torch.library.custom_op("logitscope::stablemax", mutates_args=())
def _stablemax(x: Tensor, dim: int) -> Tensor:
    return tensor_of(rows.stablemax(array(x), dim))


@torch.library.custom_op("logitscope::stablemax_backward", mutates_args=())
def _stablemax_backward(x: Tensor, y: Tensor, dy: Tensor, dim: int) -> Tensor:
    return tensor_of(rows.stablemax_backward(array(x), array(y), array(dy), dim))


@_stablemax.register_fake
def _(x: Tensor, dim: int) -> Tensor:
    return x.new_empty(x.shape)


@_stablemax_backward.register_fake
def _(x: Tensor, y: Tensor, dy: Tensor, dim: int) -> Tensor:
    return x.new_empty(x.shape)


def _stablemax_gradient(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
    x, y = ctx.saved_tensors
    if torch.is_grad_enabled():  # the gradient will be differentiated itself
        return (y * (dy - (y * dy).sum(ctx.dim, keepdim=True))) / (1 + x.abs()), None
    return _stablemax_backward(x, y, dy, ctx.dim), None


@torch.library.custom_op("logitscope::log_stablemax", mutates_args=())
def _log_stablemax(x: Tensor, dim: int) -> Tensor:
    return tensor_of(rows.log_stablemax(array(x), dim))


@torch.library.custom_op("logitscope::log_stablemax_backward", mutates_args=())
def _log_stablemax_backward(x: Tensor, y: Tensor, dy: Tensor, dim: int) -> Tensor:
    return tensor_of(rows.log_stablemax_backward(array(x), array(y), array(dy), dim))


@_log_stablemax.register_fake
def _(x: Tensor, dim: int) -> Tensor:
    return x.new_empty(x.shape)


@_log_stablemax_backward.register_fake
def _(x: Tensor, y: Tensor, dy: Tensor, dim: int) -> Tensor:
    return x.new_empty(x.shape)


def _log_stablemax_gradient(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
    x, y = ctx.saved_tensors
    if torch.is_grad_enabled():  # the gradient will be differentiated itself
        return (dy - y.exp() * dy.sum(ctx.dim, keepdim=True)) / (1 + x.abs()), None
    return _log_stablemax_backward(x, y, dy, ctx.dim), None


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.dim = inputs
    ctx.save_for_backward(x, output)


_stablemax.register_autograd(_stablemax_gradient, setup_context=_keep)
_log_stablemax.register_autograd(_log_stablemax_gradient, setup_context=_keep)
