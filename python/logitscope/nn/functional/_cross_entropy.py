"""Cross entropy with its gradient, which the kernel makes in the same call."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 -- torch reads the annotations of an operator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from logitscope import _native
from logitscope.errors import ArgumentError, DTypeError, ShapeError, TargetError
from logitscope.nn import composite_loss
from logitscope.nn.functional import _on_gpu
from logitscope.nn.functional._path import array, check_dtype, needs_composite, normal_dim, tensor_of, wide
from logitscope.ops._loss_problem import Options, Problem, normalizer_of
from logitscope.ops.cross_entropy import loss as loss_of_arrays

if TYPE_CHECKING:
    from collections.abc import Mapping

_REDUCTIONS = ("mean", "sum", "none")


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    weight: Tensor | None = None,
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
    """Cross entropy of class logits and the right classes, accurate down to the smallest float.

    Parameters
    ----------
    logits
        (V,), (N, V) or (N, V, ...), the classes in dimension 1 as in torch; float32, float64, float16 or
        bfloat16.
    targets
        (), (N,) or (N, ...) integers in 0..V-1 or ``ignore_index``; or soft targets of the shape of ``logits``.
    weight
        (V,) factors of the classes.
    ignore_index
        Rows with this target do not count and have no gradient.
    label_smoothing, smooth_over
        The share of a target that is spread over ``"all"`` classes, or those whose logit is ``"finite"``.
    reduction
        "mean" over the rows that count, "sum", or "none".
    normalizer
        Replaces the divisor of the mean: a number, or one a row.
    temperature, softcap, lse_square_scale, entropy_weight, link, link_params, complement, empty
        As in :func:`logitscope.loss.cross_entropy`.
    device
        ``"cpu"``, or ``"gpu"``: the tensors go to the GPU of :func:`logitscope.gpu.default_device` and the result comes
        back; `logitscope bench gpu` says from which size on that pays.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn.functional import cross_entropy
    >>> cross_entropy(torch.tensor([[80.0, 0.0]]), torch.tensor([0]))
    tensor(1.8049e-35)
    """
    refused = any(isinstance(one, Tensor) and one.requires_grad for one in (targets, weight, normalizer))
    if _on_gpu.is_sent("cross_entropy", device, logits, fits=not refused):
        given = {
            "weight": weight,
            "ignore_index": ignore_index,
            "label_smoothing": label_smoothing,
            "smooth_over": smooth_over,
            "reduction": reduction,
            "normalizer": normalizer,
            "temperature": temperature,
            "softcap": softcap,
            "lse_square_scale": lse_square_scale,
            "entropy_weight": entropy_weight,
            "link": link,
            "link_params": link_params,
            "complement": complement,
            "empty": empty,
        }
        return _on_gpu.cross_entropy(logits, targets, given)
    options = Options(
        weight=weight,
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
        axis=1 if logits.dim() > 1 else -1,
    )
    return differentiable(logits, targets, options)


def differentiable(logits: Tensor, targets: Tensor, options: Options) -> Tensor:
    """Compute a loss of the family with the gradients of whatever requires one."""
    _check(logits, targets, options)
    soft = targets.is_floating_point()
    rows = logits.movedim(options.axis, -1)
    if soft:
        targets = targets.movedim(options.axis, -1)
    weight = options.weight
    if weight is not None:
        weight = torch.as_tensor(weight, dtype=wide(logits.dtype), device=logits.device)
    normalizer = options.normalizer
    if normalizer is not None:
        given = array(normalizer) if isinstance(normalizer, Tensor) else normalizer
        divisors = normalizer_of("cross_entropy", given, tuple(rows.shape[:-1]))
        normalizer = torch.as_tensor(divisors, dtype=torch.float64, device=logits.device)
    options = replace(options, weight=weight, normalizer=normalizer, axis=-1)
    other_gradients = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (targets, weight)
    )
    if other_gradients or needs_composite(rows, targets, weight):
        check_values(rows, targets, options)
        return composite_loss.cross_entropy(rows, targets, options)
    wants_gradient = torch.is_grad_enabled() and logits.requires_grad
    loss: Tensor = _cross_entropy(
        rows,
        targets,
        weight,
        normalizer,
        *scalars_of(options),
        wants_gradient,
    )[0]
    return loss


@torch.library.custom_op("logitscope::cross_entropy", mutates_args=())
def _cross_entropy(
    logits: Tensor,
    targets: Tensor,
    weight: Tensor | None,
    normalizer: Tensor | None,
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
    with_gradient: bool,
) -> tuple[Tensor, Tensor]:
    options = options_of(
        None if weight is None else array(weight),
        None if normalizer is None else array(normalizer),
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
    answer = loss_of_arrays("cross_entropy", array(logits), array(targets), options, with_gradient, False)
    loss, gradient = answer if with_gradient else (answer, None)
    return (
        torch.as_tensor(loss).reshape(logits.shape[:-1] if reduction == "none" else ()),
        logits.new_empty(0) if gradient is None else tensor_of(gradient),
    )


def scalars_of(options: Options) -> tuple[Any, ...]:
    """Take options that are no tensors apart, for an operator; :func:`options_of` puts them together."""
    names = sorted(options.link_params)
    return (
        options.ignore_index,
        options.reduction,
        options.empty,
        options.temperature,
        options.softcap,
        options.label_smoothing,
        options.smooth_over,
        options.lse_square_scale,
        options.entropy_weight,
        options.link,
        ",".join(names),
        [float(options.link_params[name]) for name in names],
        options.complement,
    )


def options_of(
    weight: Any,
    normalizer: Any,
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
) -> Options:
    """Put together what an operator takes one by one."""
    return Options(
        weight=weight,
        normalizer=normalizer,
        ignore_index=ignore_index,
        reduction=reduction,
        empty=empty,
        temperature=temperature,
        softcap=softcap,
        label_smoothing=label_smoothing,
        smooth_over=smooth_over,
        lse_square_scale=lse_square_scale,
        entropy_weight=entropy_weight,
        link=link,
        link_params=dict(zip(link_names.split(","), link_values, strict=True)) if link_names else {},
        complement=complement,
    )


@_cross_entropy.register_fake
def _(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    reduction, with_gradient = arguments[4], arguments[-1]
    shape = logits.shape[:-1] if reduction == "none" else ()
    loss = logits.new_empty(shape, dtype=wide(logits.dtype))
    return loss, logits.new_empty(logits.shape if with_gradient else 0)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    logits, targets, weight, normalizer, *ctx.rest, _ = inputs
    ctx.set_materialize_grads(False)  # no zeros as large as the gradients that are handed out
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(logits, targets, weight, normalizer)
    ctx.gradient = output[1]


def _gradient(ctx: Any, dloss: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    if dloss is None:
        return (None,) * (5 + len(ctx.rest))
    logits, targets, weight, normalizer = ctx.saved_tensors
    options = options_of(weight, normalizer, *ctx.rest)
    if torch.is_grad_enabled():  # the gradient will be differentiated itself
        with torch.enable_grad():
            loss = composite_loss.cross_entropy(logits, targets, options)
        (dlogits,) = torch.autograd.grad(loss, logits, dloss, create_graph=True)
    else:
        dlogits = _scaled(ctx, dloss, options.reduction)
    return dlogits, *(None,) * (4 + len(ctx.rest))


def _scaled(ctx: Any, dloss: Tensor, reduction: str) -> Tensor:
    """Gradient of the logits: the one of the forward pass, times that of the loss.

    The first backward pass takes it over and scales it where it lies, as a copy would cost more than the loss
    itself. If there is a second, which needs ``retain_graph``, the gradient is made again.
    """
    factor = dloss[..., None] if reduction == "none" else dloss
    gradient, ctx.gradient = ctx.gradient, None
    if gradient is None:
        gradient = _cross_entropy(*ctx.saved_tensors, *ctx.rest, True)[1]
    if type(gradient) is not Tensor:  # it is being traced for a compiler
        traced: Tensor = (gradient * factor).to(gradient.dtype)
        return traced
    return gradient if factor.numel() == 1 and factor.item() == 1 else gradient.mul_(factor)


_cross_entropy.register_autograd(_gradient, setup_context=_keep)


def _check(logits: Tensor, targets: Tensor, options: Options) -> None:
    check_dtype("cross_entropy", logits=logits)
    if options.reduction not in _REDUCTIONS:
        message = f"cross_entropy: reduction {options.reduction!r} is unknown; use {', '.join(_REDUCTIONS)}"
        raise ArgumentError(message)
    shape = tuple(logits.shape)
    axis = normal_dim("cross_entropy", options.axis, logits)
    if len(shape) == 0 or shape[axis] == 0:
        message = f"cross_entropy: logits of shape {shape} have no class; use (N, V) or (N, V, ...), V > 0"
        raise ShapeError(message)
    if targets.dtype.is_complex or targets.dtype == torch.bool:
        message = f"cross_entropy: targets are {targets.dtype}; use an integer type, such as torch.int64"
        raise DTypeError(message)
    if targets.is_floating_point() and targets.dtype != logits.dtype:
        message = (
            f"cross_entropy: targets are {targets.dtype}; use {logits.dtype}, or an integer type for classes"
        )
        raise DTypeError(message)
    expected = shape if targets.is_floating_point() else shape[:axis] + shape[axis + 1 :]
    if tuple(targets.shape) != expected:
        message = (
            f"cross_entropy: targets of shape {tuple(targets.shape)} do not fit logits of shape {shape}; "
            f"use {expected} (the classes are dimension {axis})"
        )
        raise ShapeError(message)


def check_values(logits: Tensor, targets: Tensor, options: Options, operation: str = "cross_entropy") -> None:
    """Raise for options out of range, and for a class that there is not, where the values may be looked at."""
    classes = logits.shape[-1]
    # The kernel checks the options of no rows.
    nothing = np.empty((0, classes))
    wanted = nothing if targets.is_floating_point() else np.empty(0, np.int64)
    rowless = replace(options, weight=None, normalizer=None)
    problem = Problem.of(operation, nothing, wanted, rowless)
    _native.cross_entropy(*problem.arguments(), np.empty(0), None, None, None)
    if targets.is_floating_point() or targets.is_meta or torch._C._are_functorch_transforms_active():
        return
    wrong = ((targets < 0) | (targets >= classes)) & (targets != options.ignore_index)
    if wrong.any():
        row = int(wrong.flatten().nonzero()[0])
        message = (
            f"{operation}: target {int(targets.flatten()[row])} in row {row} is out of range; "
            f"use 0..{classes - 1} or ignore_index ({options.ignore_index})"
        )
        raise TargetError(message)
