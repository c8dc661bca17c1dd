"""Softmax over the k largest elements with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from logitscope.errors import ArgumentError
from logitscope.nn.functional._path import array, check_dtype, needs_composite, normal_dim
from logitscope.ops.topk_softmax import topk_softmax as forward_rows
from logitscope.ops.topk_softmax import topk_softmax_backward as backward_rows


def topk_softmax(x: Tensor, k: int, dim: int = -1) -> tuple[Tensor, Tensor]:
    """Softmax over the ``k`` largest elements along a dimension, largest first, and where they stand.

    Parameters
    ----------
    x
        Any shape, float32 or float64.
    k
        How many are selected; of equal elements the first.
    dim
        The dimension they are selected from.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn.functional import topk_softmax
    >>> topk_softmax(torch.tensor([0.0, 2.0, -1.0, 2.0]), 2)
    (tensor([0.5000, 0.5000]), tensor([1, 3]))
    """
    check_dtype("topk_softmax", x=x)
    dim = normal_dim("topk_softmax", dim, x)
    size = x.shape[dim] if x.dim() else 1
    if not 1 <= k <= size:
        message = f"topk_softmax: k is {k}; use 1..{size}"
        raise ArgumentError(message)
    if needs_composite(x):
        values, indices = x.sort(dim=dim, descending=True, stable=True)
        if x.dim():
            values, indices = values.narrow(dim, 0, k), indices.narrow(dim, 0, k)
        return torch.softmax(values, dim), indices
    weights, indices = _topk_softmax(x, k, dim)
    return weights, indices


@torch.library.custom_op("logitscope::topk_softmax", mutates_args=())
def _topk_softmax(x: Tensor, k: int, dim: int) -> tuple[Tensor, Tensor]:
    weights, indices = forward_rows(array(x), k, dim)
    return torch.from_numpy(weights), torch.from_numpy(indices)


@torch.library.custom_op("logitscope::topk_softmax_backward", mutates_args=())
def _topk_softmax_backward(weights: Tensor, indices: Tensor, dweights: Tensor, size: int, dim: int) -> Tensor:
    return torch.from_numpy(backward_rows(array(weights), array(indices), array(dweights), size, dim))


def _with_size(tensor: Tensor, dim: int, size: int) -> list[int]:
    return [size if axis == dim else length for axis, length in enumerate(tensor.shape)]


@_topk_softmax.register_fake
def _(x: Tensor, k: int, dim: int) -> tuple[Tensor, Tensor]:
    shape = _with_size(x, dim, k)
    return x.new_empty(shape), x.new_empty(shape, dtype=torch.int64)


@_topk_softmax_backward.register_fake
def _(weights: Tensor, indices: Tensor, dweights: Tensor, size: int, dim: int) -> Tensor:
    return weights.new_empty(_with_size(weights, dim, size))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, _, ctx.dim = inputs
    ctx.size = x.shape[ctx.dim] if x.dim() else 1
    ctx.save_for_backward(*output)
    ctx.mark_non_differentiable(output[1])


def _gradient(ctx: Any, dweights: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
    weights, indices = ctx.saved_tensors
    if torch.is_grad_enabled():  # the gradient will be differentiated itself
        mean = (weights * dweights).sum(ctx.dim, keepdim=True)
        selected = weights * (dweights - mean)
        zeros = weights.new_zeros(_with_size(weights, ctx.dim, ctx.size))
        return zeros.scatter(ctx.dim, indices, selected), None, None
    return _topk_softmax_backward(weights, indices, dweights, ctx.size, ctx.dim), None, None


_topk_softmax.register_autograd(_gradient, setup_context=_keep)
