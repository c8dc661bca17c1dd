"""Trainable polynomials in place of the usual activations (Zhuo et al., arXiv 2411.03884).

Part A: networks 3-16-16-1 learn a smooth function of three variables; test error over that of the best usual
activation. Part B: small language models on Python's documentation, about as many parameters each; held-out loss.
"""

from __future__ import annotations

import math
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from logitscope.data import topics
from logitscope.dynamics import effective_rank, layer_cosine_similarity
from logitscope.experiments.progress import Silent
from logitscope.experiments.verdict import Check, Verdict
from logitscope.methods import find_method
from logitscope.nn import GPT, CrossEntropyLoss, PolyReLU

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from logitscope.data import TextData
    from logitscope.experiments.progress import Progress
    from logitscope.record import Recorder

POLYNOMIALS = ("polyrelu", "polynorm")
USUAL = ("relu", "gelu", "tanh")
LANGUAGE_USUAL = ("relu", "gelu", "swiglu")
NEEDED_RATIO = 0.7
SMOKE: dict[str, object] = {"seeds": (0,), "steps": 150, "language_steps": 4}

_CURVE = torch.linspace(-3.0, 3.0, 61)
_LOOKS = 30
_CONTEXT, _BATCH, _RATE = 64, 16, 3e-3


def run(
    scope: Recorder,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    progress: Progress | None = None,
    steps: int = 1500,
    language_steps: int = 350,
) -> Verdict:
    """Train the networks of part A for ``steps``, the language models of part B for ``language_steps`` (0: none)."""
    progress = progress or Silent()
    _declare_panels(scope, language=language_steps > 0)
    arms, language_arms = USUAL + POLYNOMIALS, LANGUAGE_USUAL + POLYNOMIALS
    # A step of a language model costs about fifteen of part A.
    progress.begin(len(seeds) * (len(arms) * steps + 15 * len(language_arms) * language_steps))
    errors: dict[str, list[float]] = {name: [] for name in arms}
    losses: dict[str, list[float]] = {name: [] for name in language_arms if language_steps}
    text = topics()
    for seed in seeds:
        shown = scope if seed == seeds[0] else None
        for name in arms:
            errors[name].append(_approximate(name, seed, steps, shown))
            progress.advance(steps, f"seed {seed}, {name}, error {errors[name][-1]:.3f}")
        for name in losses:
            losses[name].append(_model_language(text, name, seed, language_steps, shown))
            progress.advance(15 * language_steps, f"seed {seed}, {name}, loss {losses[name][-1]:.3f}")
    return _verdict(errors, losses)


def _declare_panels(scope: Recorder, *, language: bool) -> None:
    group = "Polynomial activations"
    scope.panel(
        "Test error of the approximation",
        "lines",
        ["approximation/rmse/*"],
        group=group,
        y_label="RMSE",
        log_y=True,
        notes="A network 3-16-16-1 for each activation, the first seed.",
    )
    scope.panel(
        "Coefficients of PolyReLU",
        "lines",
        ["polyrelu/coefficient/*"],
        group=group,
        dashed=["*/layer2/*"],
        notes="Of both layers, the second's dashed; all powers start at a third and the constant at 0.",
    )
    scope.panel(
        "Learned activations",
        "scatter",
        ["polyrelu/curve/*"],
        group=group,
        x_label="x",
        joined=True,
        notes="What each layer's PolyReLU gives for x; move through the steps to see it change.",
    )
    scope.panel(
        "Share of the powers",
        "lines",
        ["polyrelu/share/*"],
        group=group,
        y_label="of the magnitude",
        notes="Which terms make up what the first layer's PolyReLU gives on the test points.",
    )
    scope.panel(
        "What goes into the activation",
        "histogram",
        ["polyrelu/inputs"],
        group=group,
        x_label="x",
        y_label="count",
    )
    if language:
        scope.panel("Held-out loss", "lines", ["language/loss/*"], group="Training", y_label="nats/char")
        for matrix, place in (("up", "first"), ("down", "second")):
            scope.panel(
                f"Effective rank of the {place} matrix",
                "lines",
                [f"language/rank_{matrix}/*"],
                group="Training",
                notes=f"Of the first layer's {matrix}-projection, 64 at most.",
            )
        scope.panel(
            "Likeness of the layers",
            "heatmap",
            ["language/similarity"],
            group="Training",
            x_label="layer",
            y_label="layer",
            notes="Mean cosine between the tokens' vectors after two layers, with PolyNorm.",
        )


def _approximate(name: str, seed: int, steps: int, scope: Recorder | None) -> float:
    """Train a network on the function; returns its test error."""
    torch.manual_seed(seed)
    x, y = _samples(2048)
    test_x, test_y = _samples(4096)
    make: Callable[[], nn.Module] = find_method("activation", name)
    network = nn.Sequential(nn.Linear(3, 16), make(), nn.Linear(16, 16), make(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    every = max(1, steps // _LOOKS)
    for step in range(steps):
        _set_rate(optimizer, 5e-3, step / steps)
        rows = torch.randint(0, len(x), (256,))
        loss = (network(x[rows])[:, 0] - y[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if scope is not None and (step % every == 0 or step + 1 == steps):
            scope.scalar(f"approximation/rmse/{name}", _error(network, test_x, test_y), step)
            if name == "polyrelu":
                _look_at(network, test_x, step, scope)
    return _error(network, test_x, test_y)


def _samples(count: int) -> tuple[Tensor, Tensor]:
    """Points of the cube, and sin(pi x1) x2 + x1 x2 x3 + x3**3 / 2 there."""
    x = 2.0 * torch.rand(count, 3) - 1.0
    a, b, c = x.unbind(dim=1)
    return x, torch.sin(math.pi * a) * b + a * b * c + 0.5 * c**3


@torch.no_grad()
def _error(network: nn.Module, x: Tensor, y: Tensor) -> float:
    error: Tensor = (network(x)[:, 0] - y).square().mean().sqrt()
    return float(error)


@torch.no_grad()
def _look_at(network: nn.Sequential, x: Tensor, step: int, scope: Recorder) -> None:
    """Record what the polynomials of a network have become."""
    activations = [module for module in network if isinstance(module, PolyReLU)]
    for layer, activation in enumerate(activations, start=1):
        values = enumerate(activation.coefficients.tolist())
        scope.scalars({f"polyrelu/coefficient/layer{layer}/a{i}": value for i, value in values}, step)
        scope.array(f"polyrelu/curve/layer{layer}", torch.stack([_CURVE, activation(_CURVE)]), step)
    inputs = network[0](x)
    scope.histogram("polyrelu/inputs", inputs, step)
    coefficients = activations[0].coefficients.tolist()
    sizes = [abs(a) * float(inputs.relu().pow(i).mean()) for i, a in enumerate(coefficients)]
    total = sum(sizes[1:]) or 1.0
    names = ("linear", "quadratic", "cubic")
    scope.scalars(
        {f"polyrelu/share/{part}": size / total for part, size in zip(names, sizes[1:], strict=True)}, step
    )


def _model_language(text: TextData, name: str, seed: int, steps: int, scope: Recorder | None) -> float:
    """Train a small language model; returns its loss on text that it was not trained on."""
    torch.manual_seed(seed)
    model = GPT(
        vocabulary=len(text.vocabulary), context=_CONTEXT, layers=2, heads=4, width=64, activation=name
    )
    loss_of = CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.0)
    batches = text.batches(_BATCH, _CONTEXT, np.random.default_rng(seed))
    held_out = [torch.from_numpy(part) for part in text.validation_windows(64, _CONTEXT)]
    every = max(1, steps // 10)
    for step in range(steps):
        _set_rate(optimizer, _RATE, step / steps)
        inputs, targets = (torch.from_numpy(part) for part in next(batches))
        loss = loss_of(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if scope is not None and (step % every == 0 or step + 1 == steps):
            scope.scalar(f"language/loss/{name}", _held_out_loss(model, held_out), step)
            for matrix in ("up", "down"):
                weight = model.get_parameter(f"blocks.0.network.{matrix}.weight")
                scope.scalar(f"language/rank_{matrix}/{name}", effective_rank(weight), step)
    if scope is not None and name == "polynorm":
        scope.array("language/similarity", _similarity(model, held_out[0][:16]), steps - 1)
    return _held_out_loss(model, held_out)


@torch.no_grad()
def _held_out_loss(model: GPT, windows: list[Tensor]) -> float:
    inputs, targets = windows
    return float(CrossEntropyLoss()(model(inputs).flatten(0, 1), targets.flatten()))


@torch.no_grad()
def _similarity(model: GPT, tokens: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Likeness of the residual stream before the first block and after each."""
    states: list[Tensor] = []
    hooks = [
        block.register_forward_hook(lambda _block, _inputs, out: states.append(out)) for block in model.blocks
    ]
    hooks.append(
        model.blocks[0].register_forward_pre_hook(lambda _block, inputs: states.insert(0, inputs[0]))
    )
    model(tokens)
    for hook in hooks:
        hook.remove()
    return layer_cosine_similarity(states)


def _set_rate(optimizer: torch.optim.Optimizer, peak: float, done: float) -> None:
    """Fall with a cosine."""
    for group in optimizer.param_groups:
        group["lr"] = peak * 0.5 * (1.0 + math.cos(math.pi * done))


def _verdict(errors: dict[str, list[float]], losses: dict[str, list[float]]) -> Verdict:
    best = [min(errors[name][run] for name in USUAL) for run in range(len(errors["relu"]))]
    checks = [
        Check(
            f"largest error of {name} over the best of {', '.join(USUAL)}, of all seeds",
            max(error / usual for error, usual in zip(errors[name], best, strict=True)),
            "at most",
            NEEDED_RATIO,
        )
        for name in POLYNOMIALS
    ]
    measured = {f"RMSE of {name}": mean(errors[name]) for name in POLYNOMIALS}
    baseline = {f"RMSE of {name}": mean(errors[name]) for name in USUAL}
    caveats = ["two hidden layers of 16: PolyNorm normalises over the width and wants depth"]
    if losses:
        polynomial = mean(mean(losses[name]) for name in POLYNOMIALS)
        measured |= {f"held-out loss of {name}, nats/char": mean(losses[name]) for name in POLYNOMIALS}
        baseline |= {f"held-out loss of {name}, nats/char": mean(losses[name]) for name in LANGUAGE_USUAL}
        checks += [
            Check(
                f"held-out loss of the polynomials less that of {name}",
                polynomial - mean(losses[name]),
                "at most",
                0.0,
            )
            for name in ("relu", "gelu")
        ]
        spread = max(max(values) - min(values) for values in losses.values())
        difference = polynomial - mean(losses["swiglu"])
        caveats.append(
            f"language models of two layers and some seconds: the polynomials' loss less SwiGLU's is "
            f"{difference:+.3f}, seeds differ by up to {spread:.3f}"
        )
    return Verdict(
        claim="Networks with PolyReLU or PolyNorm learn a smooth function better than with ReLU, GELU or tanh, and "
        "small language models with them reach a lower loss than with ReLU or GELU.",
        measured=measured,
        baseline=baseline,
        checks=tuple(checks),
        caveats=tuple(caveats),
    )
