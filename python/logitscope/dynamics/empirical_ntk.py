"""The tangent kernel of a model as it is: which outputs move together when its parameters do."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp

from logitscope.dynamics.per_sample import chosen_parameters, outputs_of, per_sample_jacobians
from logitscope.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

Mode = Literal["trace", "full"]
Method = Literal["jacobian", "vjp_jvp"]


def empirical_ntk(
    model: nn.Module,
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    mode: Mode = "trace",
    method: Method = "jacobian",
    chunk: int = 32,
    params: Sequence[str] | None = None,
) -> Tensor:
    """Neural tangent kernel ``J(x1) J(x2)^T`` of a model (Jacot, Gabriel and Hongler, arXiv 1806.07572).

    Parameters
    ----------
    model
        Any module whose samples do not depend on each other.
    x1, x2
        (N1, ...) and (N2, ...) inputs; ``x1`` again by default.
    mode
        "full": all pairs of outputs; "trace": the mean over equal outputs.
    method
        "jacobian" needs time for N backward passes an output and memory for ``chunk`` Jacobians; "vjp_jvp" needs the
        memory of one gradient, and a forward pass for each input and output.
    chunk
        Samples at a time.
    params
        Names of the parameters that count; by default all that are trained.

    Returns
    -------
    Tensor
        (N1, N2), or (N1, N2, O, O) for "full".

    Raises
    ------
    ArgumentError, ShapeError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import torch
    >>> from logitscope.dynamics import empirical_ntk
    >>> empirical_ntk(torch.nn.Linear(2, 3), torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    tensor([[2., 2.],
            [2., 6.]])
    """
    if mode not in ("trace", "full") or method not in ("jacobian", "vjp_jvp"):
        message = (
            f"empirical_ntk: mode is {mode!r}, method {method!r}; "
            "use 'trace' or 'full', and 'jacobian' or 'vjp_jvp'"
        )
        raise ArgumentError(message)
    if x2 is not None and x2.shape[1:] != x1.shape[1:]:
        message = (
            f"empirical_ntk: x2 has samples of shape {tuple(x2.shape[1:])}; use {tuple(x1.shape[1:])}, as x1"
        )
        raise ShapeError(message)
    if method == "jacobian":
        return _by_jacobians(model, x1, x2, mode, chunk, params)
    kernel = _by_products(model, x1, x1 if x2 is None else x2, chunk, params)
    return kernel if mode == "full" else kernel.diagonal(dim1=2, dim2=3).mean(dim=-1)


def _by_jacobians(
    model: nn.Module,
    x1: Tensor,
    x2: Tensor | None,
    mode: Mode,
    chunk: int,
    params: Sequence[str] | None,
) -> Tensor:
    rows: list[list[Tensor]] = []
    for row, left in enumerate(per_sample_jacobians(model, x1, chunk=chunk, params=params)):
        # Of a symmetric kernel the blocks below the diagonal are those above it.
        others = x2 if x2 is not None else x1[row * chunk :]
        blocks = [
            _product(left, right, mode)
            for right in per_sample_jacobians(model, others, chunk=chunk, params=params)
        ]
        known = [] if x2 is not None else [_mirrored(above[row]) for above in rows]
        rows.append([*known, *blocks])
    return torch.cat([torch.cat(blocks, dim=1) for blocks in rows])


def _mirrored(block: Tensor) -> Tensor:
    return block.transpose(0, 1) if block.dim() == 2 else block.permute(1, 0, 3, 2)


def _product(left: dict[str, Tensor], right: dict[str, Tensor], mode: Mode) -> Tensor:
    """Sum over the parameters, tensor by tensor."""
    total: Tensor | float = 0.0
    for name, jacobian in left.items():
        a, b = jacobian.flatten(2), right[name].flatten(2)
        if mode == "full":
            total = total + torch.einsum("iap,jbp->ijab", a, b)
        else:
            total = total + a.flatten(1) @ b.flatten(1).T / a.shape[1]
    return torch.as_tensor(total)


def _outputs_at(model: nn.Module, sample: Tensor, parameters: dict[str, Tensor]) -> Tensor:
    return outputs_of(model)(parameters, sample)


def _by_products(
    model: nn.Module, x1: Tensor, x2: Tensor, chunk: int, params: Sequence[str] | None
) -> Tensor:
    """Column by column: a gradient at one input and output, and its effect on all others."""
    chosen = chosen_parameters("empirical_ntk", model, x1, chunk, params)
    chosen_parameters("empirical_ntk", model, x2, chunk, params)

    def all_outputs(parameters: dict[str, Tensor]) -> Tensor:
        out: Tensor = functional_call(model, parameters, (x1,))
        return out.flatten(1)

    columns = []
    for sample in x2:
        pulled: Any = vjp(partial(_outputs_at, model, sample), chosen)
        outputs, pull = pulled
        units = torch.eye(len(outputs), dtype=outputs.dtype)
        moved = [jvp(all_outputs, (chosen,), pull(unit))[1] for unit in units]
        columns.append(torch.stack(moved, dim=-1))
    return torch.stack(columns, dim=1)
