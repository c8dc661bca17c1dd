"""Softmax over the k largest elements with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from logitscope.errors import ArgumentError
from logitscope.nn.functional._path import array, check_dtype, needs_composite, normal_dim, tensor_of
from logitscope.ops.topk_softmax import topk_softmax as forward_rows
from logitscope.ops.topk_softmax import topk_softmax_backward as backward_rows


def topk_softmax(
    x: Tensor, k: int, dim: int = -1, *, return_indices: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """Softmax over the ``k`` largest elements along a dimension, 0 elsewhere: the gates of mixtures of experts.

    Parameters
    ----------
    x
        Any shape; float32, float64, float16 or bfloat16.
    k
        How many are selected; of equal elements the first.
    dim
        The dimension they are selected from.
    return_indices
        Give the selected alone, largest first, as ``(indices, weights)``.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn.functional import topk_softmax
    >>> topk_softmax(torch.tensor([0.0, 2.0, -1.0, 2.0]), 2)
    tensor([0.0000, 0.5000, 0.0000, 0.5000])
    >>> topk_softmax(torch.tensor([0.0, 2.0, -1.0, 2.0]), 2, return_indices=True)
    (tensor([1, 3]), tensor([0.5000, 0.5000]))
    """
    check_dtype("topk_softmax", x=x)
    dim = normal_dim("topk_softmax", dim, x)
    size = x.shape[dim] if x.dim() else 1
    if not 1 <= k <= size:
        message = f"topk_softmax: k is {k}; use 1..{size}"
        raise ArgumentError(message)
    if needs_composite(x):
        indices, weights = _composite(x, k, dim)
        return (indices, weights) if return_indices else _scatter(weights, indices, dim, x)
    if return_indices:
        weights, indices = _topk_softmax_sparse(x, k, dim)
        return indices, weights
    y: Tensor = _topk_softmax(x, k, dim)
    return y


def _composite(x: Tensor, k: int, dim: int) -> tuple[Tensor, Tensor]:
    values, indices = x.sort(dim=dim, descending=True, stable=True)
    if x.dim():
        values, indices = values.narrow(dim, 0, k), indices.narrow(dim, 0, k)
    largest = values.amax(dim, keepdim=True)
    # Infinities share the weight equally, and where there is nothing but -inf there is none.
    shares = torch.zeros_like(values).masked_fill(values != largest, -torch.inf)
    weights = torch.softmax(torch.where(largest.isinf(), shares, values), dim)
    return indices, weights.masked_fill(largest == -torch.inf, 0.0)


def _scatter(weights: Tensor, indices: Tensor, dim: int, x: Tensor) -> Tensor:
    return torch.zeros_like(x).scatter(dim, indices, weights)


@torch.library.custom_op("logitscope::topk_softmax", mutates_args=())
def _topk_softmax(x: Tensor, k: int, dim: int) -> Tensor:
    return tensor_of(forward_rows(array(x), k, dim))


@torch.library.custom_op("logitscope::topk_softmax_sparse", mutates_args=())
def _topk_softmax_sparse(x: Tensor, k: int, dim: int) -> tuple[Tensor, Tensor]:
    indices, weights = forward_rows(array(x), k, dim, return_indices=True)
    return tensor_of(weights), tensor_of(indices)


@torch.library.custom_op("logitscope::topk_softmax_backward", mutates_args=())
def _topk_softmax_backward(
    weights: Tensor, dweights: Tensor, indices: Tensor | None, size: int, dim: int
) -> Tensor:
    places = None if indices is None else array(indices)
    return tensor_of(backward_rows(array(weights), array(dweights), dim, indices=places, size=size))


def _with_size(tensor: Tensor, dim: int, size: int) -> list[int]:
    return [size if axis == dim else length for axis, length in enumerate(tensor.shape)]


@_topk_softmax.register_fake
def _(x: Tensor, k: int, dim: int) -> Tensor:
    return x.new_empty(x.shape)


@_topk_softmax_sparse.register_fake
def _(x: Tensor, k: int, dim: int) -> tuple[Tensor, Tensor]:
    shape = _with_size(x, dim, k)
    return x.new_empty(shape), x.new_empty(shape, dtype=torch.int64)


@_topk_softmax_backward.register_fake
def _(weights: Tensor, dweights: Tensor, indices: Tensor | None, size: int, dim: int) -> Tensor:
    return weights.new_empty(_with_size(weights, dim, size))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, _, ctx.dim = inputs
    ctx.size = x.shape[ctx.dim] if x.dim() else 1
    ctx.save_for_backward(output)


def _keep_sparse(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, _, ctx.dim = inputs
    ctx.size = x.shape[ctx.dim] if x.dim() else 1
    ctx.save_for_backward(*output)
    ctx.mark_non_differentiable(output[1])


def _gradient_of(ctx: Any, weights: Tensor, dweights: Tensor, indices: Tensor | None) -> Tensor:
    if torch.is_grad_enabled():  # the gradient will be differentiated itself
        selected = weights * (dweights - (weights * dweights).sum(ctx.dim, keepdim=True))
        if indices is None:
            return selected
        return _scatter(selected, indices, ctx.dim, weights.new_empty(_with_size(weights, ctx.dim, ctx.size)))
    dx: Tensor = _topk_softmax_backward(weights, dweights, indices, ctx.size, ctx.dim)
    return dx


def _gradient(ctx: Any, dweights: Tensor) -> tuple[Tensor, None, None]:
    (weights,) = ctx.saved_tensors
    return _gradient_of(ctx, weights, dweights, None), None, None


def _gradient_sparse(ctx: Any, dweights: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
    weights, indices = ctx.saved_tensors
    return _gradient_of(ctx, weights, dweights, indices), None, None


_topk_softmax.register_autograd(_gradient, setup_context=_keep)
_topk_softmax_sparse.register_autograd(_gradient_sparse, setup_context=_keep_sparse)
