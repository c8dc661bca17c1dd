"""Derivatives of a model's outputs for each sample by itself, in parts that fit into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Parameters = dict[str, Tensor]


def per_sample_jacobians(
    model: nn.Module, x: Tensor, *, chunk: int = 32, params: Sequence[str] | None = None
) -> Iterator[dict[str, Tensor]]:
    """Jacobians of a model's outputs by its parameters, a sample each.

    Parameters
    ----------
    model
        Must treat samples independently: normalisation over the batch must be in eval mode.
    x
        (N, ...) inputs; the first axis is that of the samples.
    chunk
        Samples at a time; memory is that of ``chunk * O`` copies of the parameters.
    params
        Names of the parameters, as ``named_parameters`` has them; by default all that are trained.

    Yields
    ------
    dict
        For each chunk, a name's Jacobian of shape (samples, O, *parameter), O the outputs of a sample.

    Raises
    ------
    ArgumentError
        For a model that couples samples, unknown names, inputs that are not finite.

    Examples
    --------
    >>> import torch
    >>> from logitscope.dynamics import per_sample_jacobians
    >>> model = torch.nn.Linear(3, 2)
    >>> [jacobian["bias"].shape for jacobian in per_sample_jacobians(model, torch.zeros(5, 3), chunk=4)]
    [torch.Size([4, 2, 2]), torch.Size([1, 2, 2])]
    """
    chosen = chosen_parameters("per_sample_jacobians", model, x, chunk, params)
    jacobian = vmap(jacrev(outputs_of(model)), in_dims=(None, 0))
    for part in torch.split(x, chunk):
        yield jacobian(chosen, part)


def outputs_of(model: nn.Module) -> Callable[[Parameters, Tensor], Tensor]:
    """Make the outputs (O,) of one sample a function of parameters."""

    def outputs(parameters: Parameters, sample: Tensor) -> Tensor:
        out: Tensor = functional_call(model, parameters, (sample[None],))
        return out[0].flatten()

    return outputs


def chosen_parameters(
    operation: str, model: nn.Module, x: Tensor, chunk: int, params: Sequence[str] | None
) -> Parameters:
    """Check what was given; returns the parameters by name, without their history."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            place = name or type(module).__name__
            message = f"{operation}: {place} mixes the samples of a batch in train mode; use model.eval()"
            raise ArgumentError(message)
    if not bool(torch.isfinite(x).all()):
        message = f"{operation}: the inputs have numbers that are not finite; use finite ones"
        raise ArgumentError(message)
    if chunk < 1:
        message = f"{operation}: chunk is {chunk}; use 1 or more"
        raise ArgumentError(message)
    known = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    unknown = [name for name in params or () if name not in known]
    if unknown or not known:
        message = f"{operation}: there is no trained parameter {unknown}; use {', '.join(known) or 'a model with some'}"
        raise ArgumentError(message)
    return {name: known[name].detach() for name in (known if params is None else params)}
