"""PolyNorm with the gradients of its input and of its coefficients."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from logitscope.errors import ArgumentError, ShapeError
from logitscope.nn.functional._composite_gradient import composite_gradients
from logitscope.nn.functional._path import array, check_dtype, needs_composite, normal_dim, tensor_of
from logitscope.nn.functional._poly_relu import coefficients
from logitscope.ops import poly_norm as rows

if TYPE_CHECKING:
    from logitscope.ops.poly_norm import NormScale

_SMALLEST = 1e-4


def poly_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | float = 0.0,
    eps: float = 1e-6,
    dim: int = -1,
    *,
    scale: str = "rms",
) -> Tensor:
    """PolyNorm, ``w[0] N(x**3) + w[1] N(x**2) + w[2] N(x) + b`` with ``N(u) = u / sqrt(mean(u**2) + eps)``.

    For the gradient it keeps ``x`` and r + 1 numbers a row.

    Parameters
    ----------
    x
        Any shape; float32, float64, float16 or bfloat16.
    weight
        (r,) coefficients, 1 to 5 of them, that of the highest power first.
    bias
        The constant, one number.
    eps
        Above 0.
    dim
        The dimension of the mean.
    scale
        ``"rms"`` as above, ``"l2"``: the sum of squares in place of their mean.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn.functional import poly_norm
    >>> poly_norm(torch.tensor([1e30, -1e30, 2e30, 0.0]), torch.ones(3) / 3)
    tensor([ 0.5114, -0.1971,  1.8294,  0.0000])
    """
    check_dtype("poly_norm", x=x)
    weight, bias = coefficients("poly_norm", x, weight, bias)
    dim = normal_dim("poly_norm", dim, x)
    if x.dim() and x.shape[dim] == 0:
        message = f"poly_norm: dim {dim} of shape {tuple(x.shape)} has no elements; use at least one"
        raise ShapeError(message)
    if scale not in ("rms", "l2"):
        message = f"poly_norm: scale is {scale!r}; use 'rms' or 'l2'"
        raise ArgumentError(message)
    if not eps > 0:
        message = f"poly_norm: eps is {eps!r}; use a positive finite number"
        raise ArgumentError(message)
    if needs_composite(x, weight, bias):
        return _composite(x, weight, bias, eps=eps, dim=dim, scale=scale)
    y: Tensor = _poly_norm(x, weight, bias, eps, dim, scale)[0]
    return y


def _composite(x: Tensor, weight: Tensor, bias: Tensor, *, eps: float, dim: int, scale: str) -> Tensor:
    dtype, x = x.dtype, x.to(weight.dtype)
    # Any s gives the same result, so it has no gradient.
    s = x.detach().abs().amax(dim, keepdim=True).clamp(min=_SMALLEST)
    t = x / s
    value = bias
    for power, w in enumerate(weight.flip(0), start=1):
        u = t**power
        squares = u.square().mean(dim, keepdim=True) if scale == "rms" else u.square().sum(dim, keepdim=True)
        value = value + w * u * (squares + (eps ** (0.5 / power) / s) ** (2 * power)).rsqrt()
    return value.to(dtype)


@torch.library.custom_op("logitscope::poly_norm", mutates_args=())
def _poly_norm(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, dim: int, scale: str
) -> tuple[Tensor, Tensor]:
    named = cast("NormScale", scale)
    arrays = array(x), array(weight), array(bias)
    y, saved = rows.poly_norm(*arrays, eps, dim, scale=named, return_saved=True)
    return tensor_of(y), tensor_of(saved)


@torch.library.custom_op("logitscope::poly_norm_backward", mutates_args=())
def _poly_norm_backward(
    x: Tensor, dy: Tensor, weight: Tensor, saved: Tensor, dim: int, scale: str
) -> tuple[Tensor, Tensor, Tensor]:
    named = cast("NormScale", scale)
    arrays = array(x), array(dy), array(weight), array(saved)
    dx, dweight, dbias = rows.poly_norm_backward(*arrays, dim, scale=named)
    return tensor_of(dx), tensor_of(dweight), tensor_of(dbias)


@_poly_norm.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float, dim: int, scale: str) -> tuple[Tensor, Tensor]:
    others = [length for axis, length in enumerate(x.shape) if axis != dim] or [1]
    return x.new_empty(x.shape), weight.new_empty([*others, weight.shape[0] + 1])


@_poly_norm_backward.register_fake
def _(
    x: Tensor, dy: Tensor, weight: Tensor, saved: Tensor, dim: int, scale: str
) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape), weight.new_empty(())


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, ctx.eps, ctx.dim, ctx.scale = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, weight, bias, output[1])


def _gradient(ctx: Any, dy: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    x, weight, bias, saved = ctx.saved_tensors
    if torch.is_grad_enabled():  # the gradient will be differentiated itself
        composite = partial(_composite, eps=ctx.eps, dim=ctx.dim, scale=ctx.scale)
        return *composite_gradients(ctx, composite, (x, weight, bias), dy), None, None, None
    return *_poly_norm_backward(x, dy, weight, saved, ctx.dim, ctx.scale), None, None, None


_poly_norm.register_autograd(_gradient, setup_context=_keep)
