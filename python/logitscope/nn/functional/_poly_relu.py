"""PolyReLU with the gradients of its input and of its coefficients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from logitscope.nn.functional._composite_gradient import composite_gradients
from logitscope.nn.functional._path import array, check_dtype, needs_composite, tensor_of, wide
from logitscope.ops import poly_relu as elements


def poly_relu(x: Tensor, weight: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """PolyReLU, ``w[0] p**3 + w[1] p**2 + w[2] p + b`` of ``p = max(x, 0)``.

    Parameters
    ----------
    x
        Any shape; float32, float64, float16 or bfloat16.
    weight
        (r,) coefficients, 1 to 5 of them, that of the highest power first.
    bias
        The constant, one number.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn.functional import poly_relu
    >>> poly_relu(torch.tensor([-1.0, 1.0, 2.0]), torch.tensor([1.0, 0.5, 0.25]), 3.0)
    tensor([ 3.0000,  4.7500, 13.5000])
    """
    check_dtype("poly_relu", x=x)
    weight, bias = coefficients("poly_relu", x, weight, bias)
    if needs_composite(x, weight, bias):
        return _composite(x, weight, bias)
    y: Tensor = _poly_relu(x, weight, bias)
    return y


def coefficients(operation: str, x: Tensor, weight: Any, bias: Any) -> tuple[Tensor, Tensor]:
    """Check coefficients and give them the type that ``x`` is computed in."""
    weight = torch.as_tensor(weight)
    elements.check_order(operation, tuple(weight.shape))
    bias = torch.as_tensor(bias, device=weight.device)
    dtype = wide(x.dtype)
    return weight.to(x.device, dtype), bias.to(x.device, dtype).reshape(())


def _composite(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    p = torch.relu(x).to(weight.dtype)
    value = weight[0] * p
    for w in weight[1:]:
        value = (value + w) * p
    return (value + bias).to(x.dtype)


@torch.library.custom_op("logitscope::poly_relu", mutates_args=())
def _poly_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return tensor_of(elements.poly_relu(array(x), array(weight), array(bias)))


@torch.library.custom_op("logitscope::poly_relu_backward", mutates_args=())
def _poly_relu_backward(x: Tensor, dy: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    dx, dweight, dbias = elements.poly_relu_backward(array(x), array(dy), array(weight))
    return tensor_of(dx), tensor_of(dweight), tensor_of(dbias)


@_poly_relu.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@_poly_relu_backward.register_fake
def _(x: Tensor, dy: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape), weight.new_empty(())


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradient(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias = ctx.saved_tensors
    if torch.is_grad_enabled():  # the gradient will be differentiated itself
        return tuple(composite_gradients(ctx, _composite, (x, weight, bias), dy))
    gradients: tuple[Tensor, ...] = _poly_relu_backward(x, dy, weight)
    return gradients


_poly_relu.register_autograd(_gradient, setup_context=_keep)
