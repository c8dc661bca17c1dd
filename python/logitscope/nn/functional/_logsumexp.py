"""Logarithm of the sum of exponentials with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from logitscope.nn.functional import _on_gpu
from logitscope.nn.functional._path import array, check_dtype, needs_composite, normal_dim, tensor_of
from logitscope.ops.logsumexp import logsumexp as forward_rows
from logitscope.ops.logsumexp import logsumexp_backward as backward_rows


def logsumexp(
    x: Tensor, dim: int = -1, *, keepdim: bool = False, device: _on_gpu.DeviceName | None = None
) -> Tensor:
    """Logarithm of the sum of exponentials along a dimension.

    Parameters
    ----------
    x
        Any shape; float32, float64, float16 or bfloat16.
    dim
        The dimension that is summed over.
    keepdim
        Whether that dimension stays, with length 1.
    device
        ``"cpu"``, or ``"gpu"``: the tensor goes to the GPU of :func:`logitscope.gpu.default_device` and the result
        comes back; `logitscope bench gpu` says from which size on that pays.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn.functional import logsumexp
    >>> logsumexp(torch.tensor([[1000.0, 1000.0]]))
    tensor([1000.6932])
    """
    check_dtype("logsumexp", x=x)
    dim = normal_dim("logsumexp", dim, x)
    if _on_gpu.is_sent("logsumexp", device, x):
        return _on_gpu.rows("logsumexp", x, dim, keepdims=keepdim)
    if needs_composite(x):
        return torch.logsumexp(x, dim, keepdim=keepdim)
    lse: Tensor = _logsumexp(x, dim)
    return lse if keepdim else lse.squeeze(dim)


@torch.library.custom_op("logitscope::logsumexp", mutates_args=())
def _logsumexp(x: Tensor, dim: int) -> Tensor:
    return tensor_of(forward_rows(array(x), dim, keepdims=True))


@torch.library.custom_op("logitscope::logsumexp_backward", mutates_args=())
def _logsumexp_backward(x: Tensor, lse: Tensor, dlse: Tensor, dim: int) -> Tensor:
    return tensor_of(backward_rows(array(x), array(lse), array(dlse), dim))


@_logsumexp.register_fake
def _(x: Tensor, dim: int) -> Tensor:
    return x.new_empty([1 if axis == dim else size for axis, size in enumerate(x.shape)])


@_logsumexp_backward.register_fake
def _(x: Tensor, lse: Tensor, dlse: Tensor, dim: int) -> Tensor:
    return x.new_empty(x.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.dim = inputs
    ctx.save_for_backward(x, output)


def _gradient(ctx: Any, dlse: Tensor) -> tuple[Tensor, None]:
    x, lse = ctx.saved_tensors
    if torch.is_grad_enabled():  # the gradient will be differentiated itself
        return dlse * (x - lse).exp(), None
    return _logsumexp_backward(x, lse, dlse, ctx.dim), None


_logsumexp.register_autograd(_gradient, setup_context=_keep)
