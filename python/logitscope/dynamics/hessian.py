"""The Hessian of a loss without its entries: products with vectors, the ends of its spectrum, its density.

A product costs two backward passes over one kept graph. Lanczos' method finds the outer eigenvalues from some twenty of
them; the same recursion from random vectors gives the density (stochastic Lanczos quadrature, Ghorbani et al.,
arXiv 1901.10159), and with it the trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray
    from torch import Tensor

    Array = NDArray[np.float64]

_FLOOR = 1e-5
"""Of the highest density: what lies lower between the bells is no density but their width."""


class HessianOperator:
    """Multiplies vectors with the Hessian of a loss.

    Parameters
    ----------
    loss
        A number with a graph, of the parameters as they are.
    parameters
        What it is differentiated by; those without a gradient count as zeros.

    Examples
    --------
    >>> import torch
    >>> from logitscope.dynamics import HessianOperator
    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> HessianOperator(3 * w[0] ** 2 + w[0] * w[1], [w])(torch.tensor([1.0, 0.0]))
    tensor([6., 1.])
    """

    def __init__(self, loss: Tensor, parameters: Iterable[Tensor]) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        if not self._parameters or loss.ndim:
            message = f"HessianOperator: a loss of shape {tuple(loss.shape)} and {len(self._parameters)} parameters; "
            raise ArgumentError(message + "give one number, and parameters that require gradients")
        gradients = torch.autograd.grad(loss, self._parameters, create_graph=True, allow_unused=True)
        self._gradient = self._flat(gradients)
        self.size = self._gradient.numel()
        """Rows and columns of the Hessian."""

    @property
    def gradient(self) -> Tensor:
        """The gradient, (size,)."""
        return self._gradient.detach()

    def __call__(self, vector: Tensor) -> Tensor:
        """The product with a vector (size,)."""
        if not self._gradient.requires_grad:  # a loss that is linear in all parameters
            return torch.zeros_like(vector)
        slope = self._gradient @ vector.to(self._gradient)
        parts = torch.autograd.grad(slope, self._parameters, retain_graph=True, allow_unused=True)
        return self._flat(parts).detach()

    def _flat(self, parts: Iterable[Tensor | None]) -> Tensor:
        pairs = zip(parts, self._parameters, strict=True)
        return torch.cat(
            [(torch.zeros_like(like) if part is None else part).reshape(-1) for part, like in pairs]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Ritz:
    """What Lanczos' recursion from one vector has found."""

    values: Array  # (k,), lowest first; the outermost are eigenvalues
    weights: Array  # (k,), how much of the first vector lies along each; their sum is 1


def lanczos(operator: Callable[[Tensor], Tensor], start: Tensor, steps: int = 20) -> Ritz:
    """Approximate a symmetric operator from one vector, all vectors kept orthogonal.

    Parameters
    ----------
    operator
        Takes and gives a vector (n,).
    start
        (n,), not zero.
    steps
        Products at most; fewer when the vectors are used up.

    Examples
    --------
    >>> import torch
    >>> from logitscope.dynamics import lanczos
    >>> diagonal = torch.tensor([1.0, 2.0, 5.0])
    >>> lanczos(lambda v: diagonal * v, torch.ones(3)).values.round(4)
    array([1., 2., 5.])
    """
    vector = start / start.norm()
    basis = [vector]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(steps):
        product = operator(vector)
        diagonal.append(float(product @ vector))
        known = torch.stack(basis)
        for _ in range(2):  # twice is enough
            product = product - known.T @ (known @ product)
        length = float(product.norm())
        if not length > 1e-6 * max(map(abs, diagonal)) or len(diagonal) == min(steps, len(start)):
            break
        beside.append(length)
        vector = product / length
        basis.append(vector)
    matrix = (
        np.diag(diagonal) + np.diag(beside[: len(diagonal) - 1], 1) + np.diag(beside[: len(diagonal) - 1], -1)
    )
    if not np.isfinite(matrix).all():
        return Ritz(np.full(len(diagonal), np.nan), np.full(len(diagonal), 1 / len(diagonal)))
    values, vectors = np.linalg.eigh(matrix)
    return Ritz(values, vectors[0] ** 2)


def spectral_density(ritz: Iterable[Ritz], points: int = 200, width: float = 0.01) -> Array:
    """Density of the eigenvalues, (2, points): values and density, each Ritz value a bell of relative ``width``.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.dynamics import Ritz, spectral_density
    >>> density = spectral_density([Ritz(np.array([0.0, 1.0]), np.array([0.75, 0.25]))])
    >>> round(float(np.trapezoid(density[1], density[0])), 3)
    1.0
    """
    found = list(ritz)
    values = np.concatenate([one.values for one in found])
    weights = np.concatenate([one.weights for one in found]) / len(found)
    low, high = float(values.min()), float(values.max())
    spread = (high - low) * width or 1e-12
    grid = np.linspace(low - 5 * spread, high + 5 * spread, points)
    bells = np.exp(-0.5 * ((grid[:, None] - values) / spread) ** 2)
    density = bells @ weights / (spread * np.sqrt(2 * np.pi))
    return np.stack([grid, np.maximum(density, _FLOOR * density.max())])
