"""How lazy a training is: how far its tangent kernel moves, and which components of the target are left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from logitscope.dynamics.empirical_ntk import empirical_ntk
from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from logitscope.record import Recorder

    Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class NTKReading:
    """The kernel of a model at one step."""

    step: int
    kernel: Array
    """(N, N)"""
    drift: float
    """Distance to the first kernel over that kernel's norm (Frobenius)."""
    alignment: float
    """Cosine with the first kernel."""
    target_alignment: float | None
    """Cosine with ``y y^T``; None without targets."""
    eigenvalues: Array
    """(top,), largest first."""
    residual: Array | None
    """(top,), what is left of the targets along the first kernel's eigenvectors; None without targets."""


class NTKProbe:
    """Measures the tangent kernel on a few inputs now and then; call :meth:`look` at each step.

    Parameters
    ----------
    model
        The model that is trained.
    x
        (N, ...) inputs to look at; the cost is N backward passes an output.
    y
        (N,) or (N, O) targets of least squares, for what is left of them.
    every
        Steps between two looks.
    top
        Eigenvalues and components to keep.
    chunk
        Samples at a time.

    Examples
    --------
    >>> import torch
    >>> from logitscope.dynamics import NTKProbe
    >>> model, x = torch.nn.Linear(2, 1), torch.eye(2)
    >>> probe = NTKProbe(model, x, torch.tensor([1.0, -1.0]), every=10)
    >>> reading = probe.look(0)  # a linear model's kernel never moves
    >>> reading.drift, reading.eigenvalues.round(3), probe.look(1)
    (0.0, array([3., 1.]), None)
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor | None = None,
        every: int = 50,
        *,
        top: int = 6,
        chunk: int = 32,
    ) -> None:
        if every < 1 or top < 1:
            message = f"NTKProbe: every is {every} and top {top}; use 1 or more"
            raise ArgumentError(message)
        if y is not None and len(y) != len(x):
            message = f"NTKProbe: x has {len(x)} samples and y {len(y)}; use as many"
            raise ArgumentError(message)
        self.model, self.x, self.y = model, x, y
        self.every, self.top, self.chunk = every, top, chunk
        self.first: Array | None = None
        """The kernel of the first look."""
        self._vectors: Array | None = None

    def look(self, step: int) -> NTKReading | None:
        """Measure, if the step is one of those to look at."""
        if step % self.every:
            return None
        kernel = empirical_ntk(self.model, self.x, chunk=self.chunk).double().numpy(force=True)
        values, vectors = np.linalg.eigh((kernel + kernel.T) / 2)
        if self.first is None or self._vectors is None:
            self.first, self._vectors = kernel, vectors[:, ::-1][:, : self.top]
        target_alignment, residual = None, None
        if self.y is not None:
            y = self.y.double().numpy(force=True).reshape(len(self.x), -1)
            target_alignment = _cosine(kernel, y @ y.T)
            with torch.no_grad():
                outputs = self.model(self.x).double().numpy(force=True).reshape(y.shape)
            residual = np.linalg.norm(self._vectors.T @ (outputs - y), axis=1)
        drift = np.linalg.norm(kernel - self.first) / np.linalg.norm(self.first)
        return NTKReading(
            step,
            kernel,
            float(drift),
            _cosine(kernel, self.first),
            target_alignment,
            values[::-1][: self.top].copy(),
            residual,
        )

    def record(self, scope: Recorder, step: int, folder: str = "ntk") -> NTKReading | None:
        """Measure as :meth:`look` does, and write it down under ``folder``."""
        reading = self.look(step)
        if reading is None:
            return None
        values = {f"{folder}/drift": reading.drift, f"{folder}/alignment": reading.alignment}
        if reading.target_alignment is not None:
            values[f"{folder}/target_alignment"] = reading.target_alignment
        values |= {f"{folder}/eigenvalue/{i + 1}": float(v) for i, v in enumerate(reading.eigenvalues)}
        if reading.residual is not None:
            values |= {f"{folder}/residual/{i + 1}": float(v) for i, v in enumerate(reading.residual)}
        scope.scalars(values, step)
        scope.array(f"{folder}/kernel", reading.kernel, step)
        return reading


def _cosine(a: Array, b: Array) -> float:
    scale = np.linalg.norm(a) * np.linalg.norm(b)
    return float((a * b).sum() / scale) if scale > 0 else 0.0
