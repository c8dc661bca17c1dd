"""Sparsemax and 1.5-entmax with their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from logitscope.nn.functional import _on_gpu
from logitscope.nn.functional._path import array, check_dtype, needs_composite, normal_dim, tensor_of
from logitscope.ops import sparsemax as rows


def sparsemax(x: Tensor, dim: int = -1, *, device: _on_gpu.DeviceName | None = None) -> Tensor:
    """Sparsemax along a dimension.

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
    >>> from logitscope.nn.functional import sparsemax
    >>> sparsemax(torch.tensor([1.0, 0.5, -1.0]))
    tensor([0.7500, 0.2500, 0.0000])
    """
    check_dtype("sparsemax", x=x)
    dim = normal_dim("sparsemax", dim, x)
    if _on_gpu.is_sent("sparsemax", device, x):
        return _on_gpu.rows("sparsemax", x, dim)
    if needs_composite(x):
        return _composite(x, dim, 1)
    y: Tensor = _sparsemax(x, dim)
    return y


def entmax15(x: Tensor, dim: int = -1, *, device: _on_gpu.DeviceName | None = None) -> Tensor:
    """1.5-entmax along a dimension.

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
    >>> from logitscope.nn.functional import entmax15
    >>> entmax15(torch.tensor([1.0, 1.0, -1.0]))
    tensor([0.5000, 0.5000, 0.0000])
    """
    check_dtype("entmax15", x=x)
    dim = normal_dim("entmax15", dim, x)
    if _on_gpu.is_sent("entmax15", device, x):
        return _on_gpu.rows("entmax15", x, dim)
    if needs_composite(x):
        return _composite(x, dim, 2)
    y: Tensor = _entmax15(x, dim)
    return y


def _composite(x: Tensor, dim: int, power: int) -> Tensor:
    """The threshold from the sorted row: the largest of those that each number of elements would have."""
    x = x.unsqueeze(0) if x.dim() == 0 else x
    u = (x - x.amax(dim, keepdim=True)) / power
    # Beyond the reach of any threshold: -inf would make NaN of the sums.
    values = u.clamp(min=-2).sort(dim, descending=True).values
    shape = [-1 if axis == dim else 1 for axis in range(x.dim())]
    count = torch.arange(1, x.shape[dim] + 1, dtype=x.dtype, device=x.device).view(shape)
    mean = values.cumsum(dim) / count
    if power == 1:
        thresholds = mean - 1 / count
    else:
        spread = (values * values).cumsum(dim) - count * mean * mean
        inside = (1 - spread) / count
        thresholds = mean - torch.where(inside > 0, inside, 1).sqrt() * (inside > 0)
    size = (thresholds < values).sum(dim, keepdim=True).clamp(min=1)
    y = (u - thresholds.gather(dim, size - 1)).clamp(min=0) ** power
    return torch.where(x.amax(dim, keepdim=True).isfinite(), y, torch.nan)


@torch.library.custom_op("logitscope::sparsemax", mutates_args=())
def _sparsemax(x: Tensor, dim: int) -> Tensor:
    return tensor_of(rows.sparsemax(array(x), dim))


@torch.library.custom_op("logitscope::sparsemax_backward", mutates_args=())
def _sparsemax_backward(y: Tensor, dy: Tensor, dim: int) -> Tensor:
    return tensor_of(rows.sparsemax_backward(array(y), array(dy), dim))


@_sparsemax.register_fake
def _(x: Tensor, dim: int) -> Tensor:
    return x.new_empty(x.shape)


@_sparsemax_backward.register_fake
def _(y: Tensor, dy: Tensor, dim: int) -> Tensor:
    return y.new_empty(y.shape)


def _sparsemax_gradient(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
    (y,) = ctx.saved_tensors
    if torch.is_grad_enabled():  # the gradient will be differentiated itself
        weight = (y > 0).to(y.dtype)
        mean = (weight * dy).sum(ctx.dim, keepdim=True) / weight.sum(ctx.dim, keepdim=True)
        return weight * (dy - mean), None
    return _sparsemax_backward(y, dy, ctx.dim), None


@torch.library.custom_op("logitscope::entmax15", mutates_args=())
def _entmax15(x: Tensor, dim: int) -> Tensor:
    return tensor_of(rows.entmax15(array(x), dim))


@torch.library.custom_op("logitscope::entmax15_backward", mutates_args=())
def _entmax15_backward(y: Tensor, dy: Tensor, dim: int) -> Tensor:
    return tensor_of(rows.entmax15_backward(array(y), array(dy), dim))


@_entmax15.register_fake
def _(x: Tensor, dim: int) -> Tensor:
    return x.new_empty(x.shape)


@_entmax15_backward.register_fake
def _(y: Tensor, dy: Tensor, dim: int) -> Tensor:
    return y.new_empty(y.shape)


def _entmax15_gradient(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
    (y,) = ctx.saved_tensors
    if torch.is_grad_enabled():  # the gradient will be differentiated itself
        weight = torch.where(y > 0, y, 1).sqrt() * (y > 0)  # the root has no derivative at 0
        mean = (weight * dy).sum(ctx.dim, keepdim=True) / weight.sum(ctx.dim, keepdim=True)
        return weight * (dy - mean), None
    return _entmax15_backward(y, dy, ctx.dim), None


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.dim = inputs
    ctx.save_for_backward(output)


_sparsemax.register_autograd(_sparsemax_gradient, setup_context=_keep)
_entmax15.register_autograd(_entmax15_gradient, setup_context=_keep)
