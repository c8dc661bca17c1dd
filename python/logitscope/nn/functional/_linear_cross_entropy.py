"""A linear layer and cross entropy in one, with the gradients that the kernel makes in the same call."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 -- torch reads the annotations of an operator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.nn import composite_loss
from logitscope.nn.functional import _on_gpu
from logitscope.nn.functional._cross_entropy import check_values, options_of, scalars_of
from logitscope.nn.functional._path import array, check_dtype, needs_composite, tensor_of, wide
from logitscope.ops import linear_cross_entropy as arrays
from logitscope.ops._linear_problem import Plan
from logitscope.ops._loss_problem import Options, normalizer_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = "linear_cross_entropy"


def linear_cross_entropy(
    input: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    *,
    mode: str = "auto",
    num_chunks: int | None = None,
    filter_eps: float | None = None,
    shift: int = 0,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    smooth_over: str = "all",
    reduction: str = "mean",
    normalizer: Tensor | float | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    lse_square_scale: float = 0.0,
    entropy_weight: float = 0.0,
    link: str = "ce",
    link_params: Mapping[str, float] | None = None,
    complement: bool = True,
    empty: str = "nan",
    device: _on_gpu.DeviceName | None = None,
) -> Tensor:
    """Cross entropy of the logits ``input @ weight.T + bias``, which are never all in memory.

    A reduced loss in mode ``"chunked"`` has its gradients ready when it returns; the first backward pass hands them
    over, another one computes them again. Everything else makes the logits once more in the backward pass.

    Parameters
    ----------
    input
        (..., d); float32, float64, float16 or bfloat16.
    weight
        (V, d), as in ``torch.nn.Linear``.
    targets
        (...) integers in 0..V-1 or ``ignore_index``; or (..., V) soft targets.
    bias
        (V,) or None.
    mode, num_chunks, filter_eps, shift, class_weight
        As in :func:`logitscope.loss.linear_cross_entropy`.
    ignore_index, label_smoothing, smooth_over, reduction, normalizer, temperature, softcap, lse_square_scale
        As in :func:`logitscope.loss.cross_entropy`.
    entropy_weight, link, link_params, complement, empty
        Likewise.
    device
        ``"cpu"``, or ``"gpu"``: the tensors go to the GPU of :func:`logitscope.gpu.default_device` and the result comes
        back; `logitscope bench gpu` says from which size on that pays.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn.functional import linear_cross_entropy
    >>> hidden, weight = torch.zeros(2, 3, requires_grad=True), torch.ones(5, 3)
    >>> loss = linear_cross_entropy(hidden, weight, torch.tensor([0, 4]))
    >>> loss.backward()
    >>> round(loss.item(), 4), hidden.grad.shape
    (1.6094, torch.Size([2, 3]))
    """
    options = Options(
        weight=class_weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        smooth_over=smooth_over,
        reduction=reduction,
        normalizer=normalizer,
        temperature=temperature,
        softcap=softcap,
        lse_square_scale=lse_square_scale,
        entropy_weight=entropy_weight,
        link=link,
        link_params=link_params or {},
        complement=complement,
        empty=empty,
    )
    plan = Plan(mode=mode, num_chunks=num_chunks, filter_eps=filter_eps, shift=shift)
    refused = any(
        isinstance(one, Tensor) and one.requires_grad for one in (targets, class_weight, normalizer)
    )
    if _on_gpu.is_sent(_NAME, device, input, weight, bias, fits=not refused):
        _check(input, weight, targets, bias, options, plan)
        return _on_gpu.linear_cross_entropy(input, weight, targets, bias, options, plan)
    return differentiable(input, weight, targets, bias, options, plan)


def differentiable(
    input: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None, options: Options, plan: Plan
) -> Tensor:
    """Compute the loss with the gradients of whatever requires one."""
    _check(input, weight, targets, bias, options, plan)
    factors = options.weight
    if factors is not None:
        factors = torch.as_tensor(factors, dtype=wide(input.dtype), device=input.device)
    normalizer = options.normalizer
    if normalizer is not None:
        given = array(normalizer) if isinstance(normalizer, Tensor) else normalizer
        kept = _kept_shape(input, plan.shift)
        normalizer = torch.as_tensor(
            normalizer_of(_NAME, given, kept), dtype=torch.float64, device=input.device
        )
    options = replace(options, weight=factors, normalizer=normalizer)
    recording = torch.is_grad_enabled()
    other_gradients = recording and any(
        tensor is not None and tensor.requires_grad for tensor in (targets, factors)
    )
    if other_gradients or needs_composite(input, weight, targets, bias, factors):
        return _composite(input, weight, targets, bias, options, plan)
    wanted = [recording and tensor is not None and tensor.requires_grad for tensor in (input, weight, bias)]
    loss: Tensor = _linear_cross_entropy(
        input,
        weight,
        targets,
        bias,
        factors,
        normalizer,
        plan.mode,
        plan.num_chunks,
        plan.filter_eps,
        plan.shift,
        *scalars_of(options),
        wanted,
    )[0]
    return loss


@torch.library.custom_op("logitscope::linear_cross_entropy", mutates_args=())
def _linear_cross_entropy(
    input: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    class_weight: Tensor | None,
    normalizer: Tensor | None,
    mode: str,
    num_chunks: int | None,
    filter_eps: float | None,
    shift: int,
    ignore_index: int,
    reduction: str,
    empty: str,
    temperature: float,
    softcap: float | None,
    label_smoothing: float,
    smooth_over: str,
    lse_square_scale: float,
    entropy_weight: float,
    link: str,
    link_names: str,
    link_values: Sequence[float],
    complement: bool,
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    options = options_of(
        _array(class_weight),
        _array(normalizer),
        ignore_index,
        reduction,
        empty,
        temperature,
        softcap,
        label_smoothing,
        smooth_over,
        lse_square_scale,
        entropy_weight,
        link,
        link_names,
        link_values,
        complement,
    )
    plan = Plan(mode, num_chunks, filter_eps, shift)
    states = input.new_zeros(
        (input.shape[:-1].numel(), 4) if _keeps_states(mode, wanted) else 0, dtype=torch.float64
    )
    of_input, of_weight, of_bias = wanted
    loss, *rest = arrays.loss(
        array(input),
        array(weight),
        array(targets),
        _array(bias),
        options,
        plan,
        wanted=(of_input, of_weight, of_bias) if _makes_gradients(mode, reduction, wanted) else None,
        states=array(states) if states.numel() else None,
    )
    loss = (
        torch.as_tensor(loss).reshape(_kept_shape(input, shift) if reduction == "none" else ()).contiguous()
    )
    if not rest:
        return loss, input.new_empty(0), input.new_empty(0), input.new_empty(0), states
    return loss, *_tensors(input, rest[0]), states


@torch.library.custom_op("logitscope::linear_cross_entropy_backward", mutates_args=())
def _linear_cross_entropy_backward(
    dloss: Tensor,
    states: Tensor,
    input: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    class_weight: Tensor | None,
    normalizer: Tensor | None,
    mode: str,
    num_chunks: int | None,
    filter_eps: float | None,
    shift: int,
    ignore_index: int,
    reduction: str,
    empty: str,
    temperature: float,
    softcap: float | None,
    label_smoothing: float,
    smooth_over: str,
    lse_square_scale: float,
    entropy_weight: float,
    link: str,
    link_names: str,
    link_values: Sequence[float],
    complement: bool,
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    options = options_of(
        _array(class_weight),
        _array(normalizer),
        ignore_index,
        reduction,
        empty,
        temperature,
        softcap,
        label_smoothing,
        smooth_over,
        lse_square_scale,
        entropy_weight,
        link,
        link_names,
        link_values,
        complement,
    )
    of_input, of_weight, of_bias = wanted
    gradients = arrays.backward(
        array(dloss),
        array(input),
        array(weight),
        array(targets),
        _array(bias),
        options,
        Plan(mode, num_chunks, filter_eps, shift),
        wanted=(of_input, of_weight, of_bias),
        states=array(states) if states.numel() else None,
    )
    return _tensors(input, gradients)


@_linear_cross_entropy.register_fake
def _(input: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    mode, shift, reduction, wanted = rest[4], rest[7], rest[9], rest[-1]
    shape = _kept_shape(input, shift) if reduction == "none" else ()
    loss = input.new_empty(shape, dtype=wide(input.dtype))
    rows = input.shape[:-1].numel()
    states = input.new_empty((rows, 4) if _keeps_states(mode, wanted) else 0, dtype=torch.float64)
    made = wanted if _makes_gradients(mode, reduction, wanted) else [False] * 3
    return loss, *_fakes(input, weight, made), states


@_linear_cross_entropy_backward.register_fake
def _(
    dloss: Tensor, states: Tensor, input: Tensor, weight: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return _fakes(input, weight, rest[-1])


def _fakes(input: Tensor, weight: Tensor, made: Sequence[bool]) -> tuple[Tensor, Tensor, Tensor]:
    shapes: list[Any] = [input.shape, weight.shape, weight.shape[:1]]
    a, b, c = (input.new_empty(shape if is_made else 0) for shape, is_made in zip(shapes, made, strict=True))
    return a, b, c


def _tensors(input: Tensor, gradients: arrays.LinearGradients) -> tuple[Tensor, Tensor, Tensor]:
    parts = (gradients.input, gradients.weight, gradients.bias)
    a, b, c = (input.new_empty(0) if part is None else tensor_of(part) for part in parts)
    return a, b, c


def _array(tensor: Tensor | None) -> Any:
    return None if tensor is None else array(tensor)


def _makes_gradients(mode: str, reduction: str, wanted: Sequence[bool]) -> bool:
    """Whether the forward pass makes the gradients: rows apart need their factors first."""
    return any(wanted) and mode != "recompute" and reduction != "none"


def _keeps_states(mode: str, wanted: Sequence[bool]) -> bool:
    return any(wanted) and mode == "recompute"


def _kept_shape(input: Tensor, shift: int) -> tuple[int, ...]:
    shape = tuple(input.shape[:-1])
    return (*shape[:-1], shape[-1] - shift) if shift else shape


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.wanted = inputs
    ctx.rest = tensors[6:]
    loss, *gradients, states = output
    ctx.set_materialize_grads(False)  # no zeros as large as the gradients that are handed out
    ctx.mark_non_differentiable(*gradients, states)
    made = _makes_gradients(ctx.rest[0], ctx.rest[5], ctx.wanted)
    # Handed over in the first backward pass, so that a gradient as large as the weight is there only once. What traces
    # this has tensors of its own types, and follows only those that are saved.
    handed_over = made and type(loss) is Tensor
    ctx.gradients = gradients if handed_over else None
    ctx.save_for_backward(*tensors[:6], states, *(gradients if made and not handed_over else ()))


def _gradient(ctx: Any, dloss: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if dloss is None:
        return (None,) * (len(ctx.rest) + 7)
    *tensors, states = ctx.saved_tensors[:7]
    traced = ctx.saved_tensors[7:]
    input, weight, targets, bias, class_weight, normalizer = tensors
    nothing = (None,) * (len(ctx.rest) + 1)
    if torch.is_grad_enabled():  # the gradient will be differentiated itself
        options, plan = options_of(class_weight, normalizer, *ctx.rest[4:]), Plan(*ctx.rest[:4])
        with torch.enable_grad():
            loss = _composite(input, weight, targets, bias, options, plan)
        wanted = [t for t, is_wanted in zip((input, weight, bias), ctx.wanted, strict=True) if is_wanted]
        given = iter(torch.autograd.grad(loss, wanted, dloss, create_graph=True))
        made = [next(given) if is_wanted else None for is_wanted in ctx.wanted]
    else:
        gradients, ctx.gradients = ctx.gradients, None
        if traced:
            gradients = [gradient * dloss for gradient in traced]
        elif gradients is None:
            gradients = _linear_cross_entropy_backward(dloss, states, *tensors, *ctx.rest, ctx.wanted)
        else:
            gradients = [gradient.mul_(dloss) for gradient in gradients]
        made = [g if is_wanted else None for g, is_wanted in zip(gradients, ctx.wanted, strict=True)]
    return made[0], made[1], None, made[2], None, None, *nothing


_linear_cross_entropy.register_autograd(_gradient, setup_context=_keep)


def _composite(
    input: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None, options: Options, plan: Plan
) -> Tensor:
    """Compute the same in plain torch, with all logits in memory."""
    if plan.shift:
        kept = input.shape[-2] - plan.shift
        input, targets = input[..., :kept, :], targets[..., plan.shift :]
    dtype = wide(input.dtype)
    offsets = None if bias is None else bias.to(dtype)
    logits = torch.nn.functional.linear(input.to(dtype), weight.to(dtype), offsets)
    targets = targets.to(dtype) if targets.is_floating_point() else targets
    check_values(logits, targets, options, _NAME)
    return composite_loss.cross_entropy(logits, targets, options)


def _check(
    input: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None, options: Options, plan: Plan
) -> None:
    check_dtype(_NAME, input=input, weight=weight, bias=bias)
    if options.reduction not in ("mean", "sum", "none"):
        message = f"{_NAME}: reduction {options.reduction!r} is unknown; use mean, sum, none"
        raise ArgumentError(message)
    shape = tuple(input.shape)
    if input.dim() == 0 or weight.dim() != 2 or weight.shape[1] != shape[-1] or weight.shape[0] == 0:
        message = (
            f"{_NAME}: input has shape {shape}, weight {tuple(weight.shape)}; use (..., d) and (classes, d), "
            "at least one class"
        )
        raise ShapeError(message)
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.dtype != input.dtype:
            message = f"{_NAME}: {name} is {tensor.dtype}, input {input.dtype}; use one dtype"
            raise DTypeError(message)
    classes = weight.shape[0]
    if bias is not None and tuple(bias.shape) != (classes,):
        message = f"{_NAME}: bias has shape {tuple(bias.shape)}; use {(classes,)}, one a class"
        raise ShapeError(message)
    soft = targets.is_floating_point()
    if targets.dtype.is_complex or targets.dtype == torch.bool or (soft and targets.dtype != input.dtype):
        message = (
            f"{_NAME}: targets are {targets.dtype}; use an integer type, or {input.dtype} for soft targets"
        )
        raise DTypeError(message)
    expected = (*shape[:-1], classes) if soft else shape[:-1]
    if tuple(targets.shape) != expected:
        message = f"{_NAME}: targets has shape {tuple(targets.shape)}; use {expected}"
        raise ShapeError(message)
    shift = plan.check_shift(_NAME, shape[:-1])
    if shift and soft:
        message = f"{_NAME}: shift is {shift} with soft targets; shift them, or use classes"
        raise ArgumentError(message)
    plan.chunk(_NAME, input.shape[:-1].numel(), *weight.shape)
