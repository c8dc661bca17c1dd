"""How sharp the loss is where a training stands, and how noisy its gradient: recorded now and then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from logitscope.dynamics.hessian import HessianOperator, lanczos, spectral_density
from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from logitscope.record import Recorder

_STEPS, _PROBES = 20, 2


@dataclass(frozen=True, slots=True, eq=False)
class Curvature:
    """The loss around the weights of one step."""

    step: int
    sharpness: float
    """The largest eigenvalue of the Hessian; a step of ``2 / sharpness`` or more overshoots."""
    lowest: float
    """The lowest one; far below 0 near a saddle."""
    trace: float
    """The sum of all, estimated."""
    density: NDArray[np.float64]  # (2, points), eigenvalues and their density
    noise: float
    """Gradient noise scale, in samples: batches far smaller are noise, far larger ones waste (arXiv 1812.06162).
    NaN where the batch cannot be halved."""


class CurvatureProbe:
    """Measures sharpness, spectrum and gradient noise on one batch now and then; call :meth:`look` at each step.

    Parameters
    ----------
    model
        The model that is trained.
    loss
        Takes a part of the batch and gives its mean loss.
    every
        Steps between two looks. One costs some 60 backward passes over the batch.
    recorder
        Where to record them; panels are declared. None for nowhere.
    seed
        Of the random vectors; the same at every look, so that the curves are smooth.

    Examples
    --------
    >>> import torch
    >>> from logitscope.dynamics import CurvatureProbe
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> probe = CurvatureProbe(model, lambda x: model(x).square().mean(), every=10)
    >>> x = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> round(probe.look(0, x).sharpness, 3), probe.look(1, x)
    (4.0, None)
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[..., Tensor],
        every: int = 100,
        *,
        recorder: Recorder | None = None,
        seed: int = 0,
    ) -> None:
        if every < 1:
            message = f"CurvatureProbe: every is {every}; give 1 or more"
            raise ArgumentError(message)
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._loss, self._every, self._recorder, self._seed = loss, every, recorder, seed
        if recorder is not None:
            _declare(recorder)

    def look(self, step: int, *batch: Tensor, learning_rate: float | None = None) -> Curvature | None:
        """Measure at a step that is due; the weights and their gradients stay as they are."""
        if step % self._every:
            return None
        with torch.enable_grad():
            operator = HessianOperator(self._loss(*batch), self._parameters)
            noise = self._noise(operator.gradient, batch)
        generator = torch.Generator().manual_seed(self._seed)
        starts = [torch.randn(operator.size, generator=generator) for _ in range(_PROBES)]
        found = [lanczos(operator, start.to(operator.gradient), _STEPS) for start in starts]
        curvature = Curvature(
            step,
            max(float(ritz.values[-1]) for ritz in found),
            min(float(ritz.values[0]) for ritz in found),
            operator.size * sum(float(ritz.values @ ritz.weights) for ritz in found) / _PROBES,
            spectral_density(found),
            noise,
        )
        if self._recorder is not None:
            self._record(self._recorder, curvature, learning_rate)
        return curvature

    def _noise(self, whole: Tensor, batch: Sequence[Tensor]) -> float:
        """Variance of a sample's gradient over the squared length of the true one, from halves of the batch."""
        count = len(batch[0]) // 2
        if not count:
            return float("nan")
        squares = []
        for part in (slice(count), slice(count, 2 * count)):
            loss = self._loss(*(tensor[part] for tensor in batch))
            gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
            squares.append(sum(float(part.square().sum()) for part in gradients if part is not None))
        small, large = sum(squares) / 2, float(whole.square().sum())
        # Of n samples the squared length is |G|^2 + variance / n: two n give both.
        signal = 2 * large - small
        return max(small - large, 0.0) * 2 * count / signal if signal > 0 else float("inf")

    def _record(self, recorder: Recorder, found: Curvature, learning_rate: float | None) -> None:
        scalars = {
            "curvature/sharpness": found.sharpness,
            "curvature/lowest": found.lowest,
            "curvature/trace": found.trace,
            "gradient_noise": found.noise,
        }
        if learning_rate:
            scalars["curvature/limit"] = 2 / learning_rate
            scalars["effective_learning_rate"] = learning_rate * found.sharpness / 2
        recorder.scalars(scalars, found.step)
        recorder.array("curvature/density", found.density, found.step)


def _declare(recorder: Recorder) -> None:
    group = "Training"
    recorder.panel("Sharpness", "lines", ["curvature/sharpness", "curvature/limit"], group=group, log_y=True)
    recorder.panel(
        "Hessian spectrum",
        "scatter",
        ["curvature/density"],
        group=group,
        x_label="eigenvalue",
        y_label="density",
        joined=True,
        log_y=True,
    )
    recorder.panel(
        "Gradient noise scale", "lines", ["gradient_noise"], group=group, y_label="samples", log_y=True
    )
    recorder.panel("Effective learning rate", "lines", ["effective_learning_rate"], group=group)
