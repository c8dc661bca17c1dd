"""Sigmoid self-attention (Ramapuram et al., arXiv 2409.04431): as good as softmax, if its bias is -log n.

Part A: character language models with softmax attention, and with sigmoid attention whose bias is -log n, 0, or 0 with
a norm on what attention gives. Part B: the norm of the Jacobian of one head for random tokens, against the bound.
"""

from __future__ import annotations

import json
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from logitscope.data import topics
from logitscope.dynamics import AttentionNormProbe
from logitscope.experiments.language import Recipe, attention_maps, held_out, train
from logitscope.experiments.progress import Silent
from logitscope.experiments.side_by_side import side_by_side
from logitscope.experiments.verdict import Check, Verdict
from logitscope.nn import GPT, GPTConfig, functional
from logitscope.theory import attention_jacobian_norm, sigmoid_attention_lipschitz

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from logitscope.data import TextData
    from logitscope.experiments.progress import Progress
    from logitscope.record import Recorder

CONTEXT, LAYERS, HEADS, WIDTH = 64, 2, 4, 64
ARMS = ("softmax", "sigmoid", "sigmoid_b0", "sigmoid_b0_norm")
FIRST_STEPS = 50
"""So long are norms of attention looked at in every step."""
LOOKS = 5
"""How often the maps of a training are looked at."""
LENGTHS = (16, 32, 64, 128, 256)
SMOKE: dict[str, object] = {"seeds": (0,), "steps": 12, "lengths": (4, 8), "windows": 8}


def run(
    scope: Recorder,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    progress: Progress | None = None,
    steps: int = 200,
    lengths: Sequence[int] = LENGTHS,
    windows: int = 256,
) -> Verdict:
    """Train each arm for each seed; judge it on ``windows`` held-out windows; measure Jacobians at ``lengths``."""
    progress = progress or Silent()
    _declare_panels(scope)
    progress.begin(steps * len(seeds) * len(ARMS))
    text = topics()
    jobs = [
        partial(
            _train,
            arm,
            _model(arm, seed, text),
            text,
            seed,
            steps,
            windows,
            scope if seed == seeds[0] else None,
        )
        for seed in seeds
        for arm in ARMS
    ]
    found = side_by_side(jobs, progress)
    figures = {arm: found[index :: len(ARMS)] for index, arm in enumerate(ARMS)}
    return _verdict(figures, _jacobians(scope, seeds, lengths))


def _declare_panels(scope: Recorder) -> None:
    def panel(title: str, kind: Any, *tags: str, **options: Any) -> None:
        scope.panel(title, kind, list(tags), group="Sigmoid attention", **options)

    panel("Loss", "lines", "loss/*", y_label="nats/character")
    panel(
        "What attention gives, by layer",
        "lines",
        "norm/*",
        log_y=True,
        y_label="mean norm",
        notes="With a bias of 0 it starts one to two decades above.",
    )
    panel(
        "Sums of rows",
        "histogram",
        "row_sums",
        x_label="sum of the weights",
        y_label="rows",
        x_marks={"softmax": 1.0},
        notes="Of all heads with -log n; a softmax has 1 everywhere. They leave 1 as the model learns.",
    )
    panel(
        "Sums of rows, by head",
        "heatmap",
        "row_sums_by_head",
        x_label="sum of the weights",
        row_labels_tag="heads",
        col_labels_tag="sums",
        notes="Share of a head's rows in each bin.",
    )
    panel(
        "Norm of the Jacobian",
        "scatter",
        "jacobian/*",
        x_label="tokens",
        joined=True,
        log_x=True,
        log_y=True,
        notes="With -log n the bound hardly grows with the number of tokens.",
    )
    for arm in ("softmax", "sigmoid"):
        panel(f"Attention maps, {arm}", "heads", f"map/{arm}")


def _model(arm: str, seed: int, text: TextData) -> GPT:
    """All weights normal with a deviation of 0.02, and the bias of the arm."""
    torch.manual_seed(seed)
    model = GPT(
        GPTConfig(
            len(text.vocabulary),
            CONTEXT,
            LAYERS,
            HEADS,
            WIDTH,
            attention="sigmoid" if "sigmoid" in arm else arm,
        )
    )
    attentions: list[Any] = list(model.attentions)
    for attention in attentions:
        torch.nn.init.normal_(attention.out.weight, std=0.02)
        if "b0" in arm:
            attention.sigmoid_bias.zero_()
        if arm.endswith("norm"):
            attention.out_norm = torch.nn.LayerNorm(WIDTH)
    return model


def _train(
    arm: str,
    model: GPT,
    text: TextData,
    seed: int,
    steps: int,
    windows: int,
    scope: Recorder | None,
    progress: Progress,
) -> dict[str, float]:
    first: list[float] = []
    probe = AttentionNormProbe(model)
    for step, loss in train(model, text, Recipe(steps, 3e-3), seed):
        norms = [seen.out_norm for seen in probe.last if seen is not None]
        first = first or norms
        values = {f"loss/{arm}": loss}
        if step <= FIRST_STEPS:
            values |= {f"norm/{arm}_layer{layer}": norm for layer, norm in enumerate(norms)}
        if step == FIRST_STEPS:
            probe.close()
        if scope is not None:
            scope.scalars(values, step)
            if step % max(1, steps // LOOKS) == 0:
                _look(scope, arm, model, text, step)
        progress.advance(1, f"{arm}, seed {seed}")
    probe.close()
    return {"loss": held_out(model, text, windows), "norm": float(np.mean(first))}


def _look(scope: Recorder, arm: str, model: GPT, text: TextData, step: int) -> None:
    """Record attention maps, and of sigmoid attention the sums of its rows."""
    if arm in ("softmax", "sigmoid"):
        scope.array(f"map/{arm}", attention_maps(model, text), step)
    if arm != "sigmoid":
        return
    sums = _row_sums(model, text)
    edges = np.linspace(0.0, max(2.0, float(sums.max())), 33)
    scope.histogram("row_sums", sums, step)
    shares = [np.histogram(head, edges)[0] / len(head) for head in sums]
    scope.array("row_sums_by_head", np.stack(shares), step)
    names = [f"L{layer} H{head}" for layer in range(LAYERS) for head in range(HEADS)]
    scope.text("heads", json.dumps(names), step)
    scope.text("sums", json.dumps([f"{edge:.2g}" for edge in edges[:-1]]), step)


@torch.no_grad()
def _row_sums(model: GPT, text: TextData) -> NDArray[np.float32]:
    """(layers * heads, rows), on windows that are not trained on."""
    with AttentionNormProbe(model) as probe:
        model(torch.from_numpy(text.validation_windows(16, CONTEXT)[0]))
    seen = [look.row_sums.swapaxes(0, 1) for look in probe.last if look is not None]
    return np.concatenate([rows.reshape(len(rows), -1) for rows in seen])


def _jacobians(scope: Recorder, seeds: Sequence[int], lengths: Sequence[int]) -> dict[str, float]:
    """Norms and bounds of one head on random tokens of length about 1; the largest ratio and the growth with n."""
    ratios, growth = [], {"-log n": 0.0, "0": 0.0}
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        d = 16
        wq, wk, wv = (torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5 for _ in range(3))
        bounds: dict[str, list[float]] = {name: [] for name in growth}
        norms: dict[str, list[float]] = {name: [] for name in growth}
        for n in lengths:
            x = torch.randn(n, d, generator=generator, dtype=torch.float64) / d**0.5
            for name, bias in (("-log n", -math.log(n)), ("0", 0.0)):
                norm = attention_jacobian_norm(partial(_head, wq, wk, wv, bias), x, generator=generator)
                bound = sigmoid_attention_lipschitz(x, wq, wk, wv, bias)
                ratios.append(norm / bound)
                bounds[name].append(bound)
                norms[name].append(norm)
        for name, values in bounds.items():
            growth[name] = max(growth[name], values[-1] / values[0])
            if seed == seeds[0]:
                arm = "b0" if name == "0" else "log_n"
                scope.array(f"jacobian/bound_{arm}", np.array([lengths, values]), 0)
                scope.array(f"jacobian/norm_{arm}", np.array([lengths, norms[name]]), 0)
    return {"largest ratio": max(ratios), "growth": growth["-log n"], "growth with 0": growth["0"]}


def _head(wq: torch.Tensor, wk: torch.Tensor, wv: torch.Tensor, bias: float, x: torch.Tensor) -> torch.Tensor:
    q, k, v = ((x @ w.T)[None, None] for w in (wq, wk, wv))
    out: torch.Tensor = functional.sigmoid_attention(q, k, v, bias=bias).out
    return out


def _verdict(figures: dict[str, list[dict[str, float]]], jacobians: dict[str, float]) -> Verdict:
    def all_of(arm: str, name: str = "loss") -> list[float]:
        return [figure[name] for figure in figures[arm]]

    def mean(arm: str, name: str = "loss") -> float:
        return float(np.mean(all_of(arm, name)))

    sigmoid, zero = np.array(all_of("sigmoid")), np.array(all_of("sigmoid_b0"))
    return Verdict(
        claim="Sigmoid attention with a bias of -log n learns as well as softmax; with a bias of 0 it starts with "
        "outputs far too large and learns worse.",
        measured={
            "held-out loss, sigmoid with -log n": mean("sigmoid"),
            "norm of attention's output at first, sigmoid with -log n": mean("sigmoid", "norm"),
            "growth of the Jacobian's bound over the lengths, -log n": jacobians["growth"],
        },
        baseline={
            "held-out loss, softmax": mean("softmax"),
            "held-out loss, sigmoid with 0": mean("sigmoid_b0"),
            "held-out loss, sigmoid with 0 and a norm on its output": mean("sigmoid_b0_norm"),
            "norm of attention's output at first, softmax": mean("softmax", "norm"),
            "norm of attention's output at first, sigmoid with 0": mean("sigmoid_b0", "norm"),
            "growth of the Jacobian's bound over the lengths, 0": jacobians["growth with 0"],
        },
        checks=(
            Check(
                "largest loss of -log n over softmax",
                float(np.max(sigmoid - np.array(all_of("softmax")))),
                "at most",
                0.05,
            ),
            Check("smallest loss of 0 over -log n", float(np.min(zero - sigmoid)), "at least", 0.05),
            Check(
                "smallest ratio of first norms, 0 over -log n",
                float(np.min(np.array(all_of("sigmoid_b0", "norm")) / np.array(all_of("sigmoid", "norm")))),
                "at least",
                10.0,
            ),
            Check("largest norm of a Jacobian over its bound", jacobians["largest ratio"], "at most", 1.0),
        ),
        caveats=(
            "models of 0.1 million parameters on contexts of 64 characters, where the long contexts that need the "
            "hybrid norm do not occur",
            "the speed of the paper's GPU kernel is not tested",
        ),
    )
