"""Wide networks train as their tangent kernel says (Jacot, Gabriel and Hongler, arXiv 1806.07572).

Networks of growing width learn to tell handwritten threes from eights by full-batch gradient descent on least squares.
How far is their kernel from that of infinite width, how far does it move, and how well does the latter predict the
training?
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from logitscope.dynamics import NTKProbe
from logitscope.experiments.progress import Silent
from logitscope.experiments.verdict import Check, Verdict
from logitscope.nn import ntk_mlp
from logitscope.theory import KernelDynamics, ntk_kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from logitscope.experiments.progress import Progress
    from logitscope.record import Recorder

    Array = NDArray[np.float64]

DEPTH, SIGMA_W, SIGMA_B = 3, 1.0, 0.1
SLOPE_OF_ERROR, SLOPE_OF_DRIFT = -0.4, -0.6
LARGEST_PREDICTION_ERROR = 0.01
NEEDED_CORRELATION = 0.95
SMOKE: dict[str, object] = {"seeds": (0, 1), "further": 0, "widths": (32, 128), "samples": 16, "steps": 30}

_SHOWN = 6
"""Components that are drawn."""
_DRAWN_ABOVE = 1e-5
"""They are cut off below this share of the largest start."""
_FITTED = 5
_FIT_ABOVE = 0.02
"""A rate is fitted while a component is above this share of its start."""


def run(
    scope: Recorder,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    progress: Progress | None = None,
    widths: Sequence[int] = (64, 256, 1024),
    further: int = 2,
    samples: int = 48,
    steps: int = 150,
) -> Verdict:
    """Train networks of all ``widths`` on ``samples`` digits for ``steps``, twice for each seed.

    Those that are not the widest differ more from each other: for them there are ``further`` seeds after the largest.
    """
    progress = progress or Silent()
    after = range(max(seeds) + 1, max(seeds) + 1 + further)
    starts = [(seed, width) for seed in seeds for width in widths]
    starts += [(seed, width) for seed in after for width in widths if width < max(widths)]
    progress.begin(sum(2.0 * width**2 for _, width in starts))
    x, y = _digits(samples)
    limit = ntk_kernel(x.numpy(), depth=DEPTH, sigma_w=SIGMA_W, sigma_b=SIGMA_B)
    theory = KernelDynamics(limit, y.numpy())
    _declare_panels(scope, widths, (float(limit.min()), float(limit.max())))
    scope.array("kernel/limit", limit, 0)
    scope.array("spectrum/infinite_width", theory.eigvals, 0)
    figures: dict[int, list[_Figures]] = {width: [] for width in widths}
    for seed, width in starts:
        shown = scope if seed == seeds[0] else None
        figures[width].append(_measure(x, y, limit, width, seed, steps, shown, largest=width == max(widths)))
        progress.advance(2.0 * width**2, f"seed {seed}, width {width}")
    for name in _NAMES:
        scope.array(
            f"by_width/{name}", np.array([widths, [_mean(figures[width], name) for width in widths]]), steps
        )
    rates = np.mean([run.rates for run in figures[max(widths)]], axis=0)
    return _verdict(figures, rates, theory, samples)


@dataclass(frozen=True, slots=True, eq=False)
class _Figures:
    """What one network showed."""

    kernel_error: float
    drift: float
    prediction_error: float
    """Distance to the predicted residual after the last step, over its start."""
    mean_prediction_error: float
    """The same, averaged over the steps."""
    rates: Array


_NAMES = ("kernel_error", "drift", "prediction_error", "mean_prediction_error")


def _declare_panels(scope: Recorder, widths: Sequence[int], limits: tuple[float, float]) -> None:
    group = "Tangent kernel"
    maps: dict[str, Any] = {"group": group, "x_label": "digit", "y_label": "digit"}
    same: dict[str, Any] = {"limits": list(limits)}
    widest = max(widths)
    scope.panel(
        "Kernel of the network",
        "heatmap",
        ["kernel/network"],
        notes=f"Width {widest}, first seed; in the colours of that of infinite width.",
        **maps,
        **same,
    )
    scope.panel(
        "Kernel of infinite width",
        "heatmap",
        ["kernel/limit"],
        notes="Does not change in training.",
        **maps,
        **same,
    )
    scope.panel(
        "Their difference", "heatmap", ["kernel/difference"], notes="Fades as the width grows.", **maps
    )
    scope.panel(
        "Components of the residual",
        "lines",
        ["residual/measured/*", "residual/theory/*"],
        group="Training",
        log_y=True,
        dashed=["residual/theory/*"],
        notes=f"Along the six largest eigenvectors, width {widest}, theory dashed. Those with large eigenvalues fall "
        "first. What is small is cut off.",
    )
    scope.panel(
        "Drift of the kernel",
        "lines",
        ["drift/*"],
        group=group,
        notes="Distance to the first kernel over its norm. Flat: lazy. Rising: features are learned.",
    )
    scope.panel(
        "Alignment with the first kernel",
        "lines",
        ["alignment/*"],
        group=group,
    )
    scope.panel(
        "Spectrum",
        "spectrum",
        ["spectrum/infinite_width", "spectrum/network"],
        group=group,
        x_label="index",
        y_label="eigenvalue",
        y_marks={"learnt by now": "spectrum/learnt"},
        notes="What lies right of where the mark crosses, below N / (rate * steps), is not learnt yet.",
    )
    scope.panel(
        "By width",
        "scatter",
        ["by_width/*"],
        group=group,
        x_label="width",
        joined=True,
        log_x=True,
        log_y=True,
        notes="Error of the first kernel, its drift, and error of the predicted residual: means over the seeds, of "
        "which narrow networks have more.",
    )


def _digits(samples: int) -> tuple[Tensor, Tensor]:
    """Threes (+1) and eights (-1): centred, rows of norm 8."""
    digits = load_digits()
    chosen = np.isin(digits.target, (3, 8))
    x = (digits.data[chosen] - digits.data[chosen].mean(axis=0))[:samples]
    x = x * np.sqrt(x.shape[1]) / np.linalg.norm(x, axis=1, keepdims=True)
    y = np.where(digits.target[chosen][:samples] == 3, 1.0, -1.0)
    return torch.from_numpy(x), torch.from_numpy(y)


def _measure(
    x: Tensor,
    y: Tensor,
    limit: Array,
    width: int,
    seed: int,
    steps: int,
    scope: Recorder | None,
    *,
    largest: bool,
) -> _Figures:
    """Train at N / largest eigenvalue for drift and prediction, and at half of that for the rates."""
    network = _network(x.shape[1], width, seed)
    probe = NTKProbe(network, x, every=max(1, steps // 10), top=_SHOWN, chunk=16)
    first = probe.look(0)
    assert first is not None  # step 0 is one to look at
    kernel_error = float(np.linalg.norm(first.kernel - limit) / np.linalg.norm(limit))
    theory = KernelDynamics(limit, y.numpy(), _outputs(network, x).numpy())
    rate = len(x) / float(theory.eigvals[0])
    measured = np.empty((steps + 1, len(x)))
    for step in range(steps + 1):
        measured[step] = theory.eigvecs.T @ (_outputs(network, x) - y).numpy()
        if scope is not None and step % probe.every == 0:
            reading = probe.look(step)
            assert reading is not None  # as for step 0
            scope.scalars(
                {f"drift/width_{width}": reading.drift, f"alignment/width_{width}": reading.alignment}, step
            )
            if largest:
                scope.array("kernel/network", reading.kernel, step)
                scope.array("kernel/difference", reading.kernel - limit, step)
                scope.array("spectrum/network", np.linalg.eigvalsh(reading.kernel), step)
        if step < steps:
            _descend(network, x, y, rate)
    predicted = np.stack([theory.components_gd(step, rate) for step in range(steps + 1)])
    last = probe.look(0)
    assert last is not None
    if scope is not None and largest:
        _record_residual(scope, measured, predicted)
        for step in range(1, steps + 1):
            scope.scalar("spectrum/learnt", len(x) / (rate * step), step)
    network = _network(x.shape[1], width, seed)
    distances = np.linalg.norm(measured - predicted, axis=1) / np.linalg.norm(measured[0])
    return _Figures(
        kernel_error,
        last.drift,
        float(distances[-1]),
        float(distances.mean()),
        _rates(network, x, y, theory, rate / 2, steps),
    )


def _network(inputs: int, width: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return ntk_mlp([inputs, *[width] * (DEPTH - 1), 1], "relu", SIGMA_W, SIGMA_B).double()


@torch.no_grad()
def _outputs(network: nn.Sequential, x: Tensor) -> Tensor:
    outputs: Tensor = network(x)[:, 0]
    return outputs


def _descend(network: nn.Sequential, x: Tensor, y: Tensor, rate: float) -> None:
    """One step of gradient descent on the sum of squares over 2 N."""
    loss = (network(x)[:, 0] - y).square().sum() / (2 * len(x))
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(gradient, alpha=rate)


def _record_residual(scope: Recorder, measured: Array, predicted: Array) -> None:
    """Record the components; on a logarithmic axis those that are gone would leave no room for the others."""
    least = _DRAWN_ABOVE * float(np.abs(measured[0]).max())
    for step in range(len(measured)):
        for name, components in (("measured", measured), ("theory", predicted)):
            sizes = np.maximum(np.abs(components[step, :_SHOWN]), least)
            scope.scalars({f"residual/{name}/{i + 1}": float(size) for i, size in enumerate(sizes)}, step)


def _rates(
    network: nn.Sequential, x: Tensor, y: Tensor, theory: KernelDynamics, rate: float, steps: int
) -> Array:
    """Slope of the logarithm of each of the largest components, while it is not small."""
    components = []
    for step in range(steps + 1):
        components.append(np.abs(theory.eigvecs.T @ (_outputs(network, x) - y).numpy())[:_FITTED])
        if step < steps:
            _descend(network, x, y, rate)
    slopes = []
    for component in np.stack(components, axis=1):
        small = np.flatnonzero(component <= _FIT_ABOVE * component[0])
        length = max(2, small[0] if len(small) else len(component))
        slopes.append(-np.polyfit(np.arange(length), np.log(component[:length]), 1)[0])
    return np.array(slopes)


def _mean(runs: list[_Figures], name: str) -> float:
    return mean(float(getattr(run, name)) for run in runs)


def _slope(figures: dict[int, list[_Figures]], name: str) -> float:
    widths = np.log(list(figures))
    values = np.log([_mean(runs, name) for runs in figures.values()])
    return float(np.polyfit(widths, values, 1)[0])


def _verdict(
    figures: dict[int, list[_Figures]], rates: Array, theory: KernelDynamics, samples: int
) -> Verdict:
    means = {width: {name: _mean(runs, name) for name in _NAMES} for width, runs in figures.items()}
    widest = max(means)
    half_rate = 0.5 * samples / theory.eigvals[0]
    expected = -np.log(1 - half_rate * theory.eigvals[:_FITTED] / samples)
    errors = [means[width]["prediction_error"] for width in sorted(means)]
    largest_rise = max(later - earlier for earlier, later in pairwise(errors))
    return Verdict(
        claim="The tangent kernel of a network tends to that of infinite width and moves less in training as the width "
        "grows, and the kernel of infinite width predicts how each component of the residual decays.",
        measured={
            **{f"kernel error at width {width}": means[width]["kernel_error"] for width in means},
            **{f"kernel drift at width {width}": means[width]["drift"] for width in means},
            **{f"prediction error at width {width}": means[width]["prediction_error"] for width in means},
            **{f"rate of component {i + 1} at width {widest}": float(rates[i]) for i in range(_FITTED)},
        },
        baseline={f"rate of component {i + 1} in theory": float(expected[i]) for i in range(_FITTED)},
        checks=(
            Check(
                "slope of log kernel error against log width",
                _slope(figures, "kernel_error"),
                "at most",
                SLOPE_OF_ERROR,
            ),
            Check(
                "slope of log drift against log width", _slope(figures, "drift"), "at most", SLOPE_OF_DRIFT
            ),
            Check(
                "largest rise of the prediction error from a width to the next", largest_rise, "at most", 0.0
            ),
            Check(f"prediction error at width {widest}", errors[-1], "at most", LARGEST_PREDICTION_ERROR),
            Check(
                "correlation of the rates with theory",
                float(np.corrcoef(rates, expected)[0, 1]),
                "at least",
                NEEDED_CORRELATION,
            ),
        ),
        caveats=(
            f"{samples} digits of 8 x 8 pixels in place of 512 of MNIST, widths of up to {widest} in place of 10000",
            "the prediction error is the distance to the predicted residual after the last step, over its start",
            f"averaged over the steps it is {100 * means[widest]['mean_prediction_error']:.1f} % at width {widest}: "
            "the first steps are predicted worse",
        ),
    )
