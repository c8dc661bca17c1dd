"""Selective attention (Zhang, Chang, Li, Roy-Chowdhury, Chen and Oymak, arXiv 2411.12892), one gate at a time.

Part A: the map of a graph, whose nodes have few or many neighbours, from fixed tokens; ordinary attention has one
matrix for it, selective attention also a temperature for each node. Part B: attention that shall keep one half on a
token that becomes rarer; the best flat temperature against one that grows with the logarithm of the position. Part C:
the mean of the few tokens that carry a signal; ordinary attention against one whose values have a gate. Beside them two
language models are trained and shown, and decide nothing: which tokens get which temperature.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from logitscope.data import topics
from logitscope.dynamics.attention_probe import AttentionProbe
from logitscope.experiments.language import Recipe, train
from logitscope.experiments.progress import Silent
from logitscope.experiments.side_by_side import side_by_side
from logitscope.experiments.verdict import Check, Verdict
from logitscope.nn import GPT, GPTConfig, PositionTemperature, functional
from logitscope.theory import optimal_position_temperature

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from logitscope.data import TextData
    from logitscope.experiments.progress import Progress
    from logitscope.record import Recorder
    from logitscope.record.watch import AttentionObservation

EDGES = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 5), (2, 6), (3, 7))
NODES, SIZE = 8, 5
POSITIONS, SHARE = 400, 0.5
CLASSES, TOKENS, SIGNALS, NOISE = 8, 32, 8, 0.2
LOOKS = 40
"""How often a training is looked at."""
CONTEXT = 64
_TEXT_UNITS = 20
"""A step of a language model costs so many of the toys'."""
SMOKE: dict[str, object] = {
    "seeds": (0,),
    "graph_steps": 100,
    "position_steps": 100,
    "gate_steps": 40,
    "text_steps": 10,
}


def run(
    scope: Recorder,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    progress: Progress | None = None,
    graph_steps: int = 2000,
    position_steps: int = 1000,
    gate_steps: int = 600,
    text_steps: int = 150,
) -> Verdict:
    """Train parts A and C for each seed, part B and the language models once: nothing in B is random."""
    progress = progress or Silent()
    _declare_panels(scope)
    scope.array("A/map/target", _wanted_map().numpy(), 0)
    progress.begin(
        position_steps + 2 * len(seeds) * (graph_steps + gate_steps) + 2 * _TEXT_UNITS * text_steps
    )
    shown = {seed: scope if seed == seeds[0] else None for seed in seeds}
    text = topics()
    models = {name: _language_model(name, text, seeds[0]) for name in ("softmax", "selective")}
    jobs: list[Any] = [partial(_position, scope, position_steps)]
    jobs += [partial(_text, scope, model, name, text, seeds[0], text_steps) for name, model in models.items()]
    for part, steps in ((_graph, graph_steps), (_gate, gate_steps)):
        jobs += [partial(part, shown[seed], seed, kind, steps) for seed in seeds for kind in (False, True)]
    position, _, _, *found = side_by_side(jobs, progress)
    graphs, gates = found[: 2 * len(seeds)], found[2 * len(seeds) :]
    return _verdict(position, (graphs[::2], graphs[1::2]), (gates[::2], gates[1::2]))


def _declare_panels(scope: Recorder) -> None:
    def panel(title: str, kind: Any, *tags: str, **options: Any) -> None:
        scope.panel(title, kind, list(tags), group="Selective attention", **options)

    for name, title in (
        ("target", "wanted"),
        ("vanilla", "of one matrix"),
        ("selective", "with temperatures"),
    ):
        panel(
            f"Map of the graph, {title}",
            "heatmap",
            f"A/map/{name}",
            x_label="node",
            y_label="node",
            limits=[0, 0.5],
        )
    panel("Error of the map", "lines", "A/error/*", y_label="mean l1 of a row")
    panel("Norm of the matrix", "lines", "A/norm/*")
    panel(
        "Temperature by number of neighbours",
        "scatter",
        "A/tau",
        x_label="keys that a node shall see",
        y_label="inverse temperature",
        notes="Of either sign. The paper expects who shall see few keys to look sharper.",
    )
    over = {"x_label": "position", "joined": True}
    panel("Share of the rare token", "scatter", "B/share/*", y_marks={"wanted": SHARE}, **over)
    panel("Inverse temperature by position", "scatter", "B/tau/*", **over)
    panel("Error of the mean of the signal", "lines", "C/error/*", log_y=True)
    panel(
        "Temperatures of the tokens of a text",
        "heatmap",
        "text/tokens_tau",
        row_labels_tag="text/rows",
        col_labels_tag="text/tokens",
        notes="Inverse temperatures of queries and gates of values, means over the heads of a layer.",
    )
    panel(
        "Temperature by position in a text",
        "scatter",
        "text/tau/*",
        x_label="position",
        y_label="inverse temperature",
        notes="Of the first layer's queries, and what the position alone gives: 1 + sigma(alpha) log n.",
    )
    for name in ("softmax", "selective"):
        panel(f"Entropy of rows of a text, {name}", "histogram", f"text/entropy/{name}", x_label="of maximum")
    panel("Loss of the language models", "lines", "text/loss/*", y_label="nats/character")


def _wanted_map() -> Tensor:
    """Each node looks at itself and its neighbours alike."""
    seen = torch.eye(NODES, dtype=torch.float64)
    for a, b in EDGES:
        seen[a, b] = seen[b, a] = 1.0
    return seen / seen.sum(1, keepdim=True)


def _graph(
    scope: Recorder | None, seed: int, selective: bool, steps: int, progress: Progress
) -> dict[str, float]:
    wanted = _wanted_map()
    generator = torch.Generator().manual_seed(seed)
    e = torch.randn(NODES, SIZE, generator=generator, dtype=torch.float64)
    e = e / e.norm(dim=1, keepdim=True)
    w = torch.zeros(SIZE, SIZE, dtype=torch.float64, requires_grad=True)
    tau = torch.ones(NODES, dtype=torch.float64, requires_grad=selective)
    optimizer = torch.optim.Adam([w, tau] if selective else [w], lr=0.02)
    name, figures = "selective" if selective else "vanilla", {}
    entropy = -torch.special.xlogy(wanted, wanted).sum(1)
    for step in range(1, steps + 1):
        logs = functional.log_softmax(tau[:, None] * (e @ w @ e.T))
        divergence: Any = (-(wanted * logs).sum(1) - entropy).mean()
        optimizer.zero_grad()
        divergence.backward()
        optimizer.step()
        if step % max(1, steps // LOOKS) == 0 or step == steps:
            error = (logs.detach().exp() - wanted).abs().sum(1).mean()
            norm = torch.linalg.matrix_norm(w.detach(), 2)
            figures = {"error": float(error), "norm": float(norm), "divergence": divergence.item()}
            if scope is not None:
                scope.scalars({f"A/error/{name}": figures["error"], f"A/norm/{name}": figures["norm"]}, step)
                scope.array(f"A/map/{name}", logs.detach().exp().numpy(), step)
                if selective:
                    scope.array("A/tau", torch.stack([(wanted > 0).sum(1), tau.detach()]).numpy(), step)
        progress.advance(1, f"graph, seed {seed}")
    return figures


def _position(scope: Recorder, steps: int, progress: Progress) -> dict[str, float]:
    """Loss of three rules of the temperature, on a sequence in which one token becomes rare."""
    n = torch.arange(1, POSITIONS + 1, dtype=torch.float64)
    count = torch.floor(n / (1 + n.sqrt())).clamp_min(1)
    is_rare = torch.diff(count, prepend=torch.zeros(1, dtype=torch.float64)) > 0
    kappa = (n - count) / count
    later = kappa > 0

    def share(tau: Tensor) -> Tensor:
        """Attention on the rare token, whose score is 1; that of the other is 0."""
        keys = is_rare.double()[None, None, :, None]
        ones = torch.ones_like(keys)
        out: Tensor = functional.attention(
            ones, keys, keys, scale=1.0, inv_temperature=tau, is_causal=True
        ).out
        return out[0, 0, :, 0]

    def loss(tau: Tensor) -> Tensor:
        return (share(tau) - SHARE).square()[later].mean()

    optimal = torch.where(later, optimal_position_temperature(kappa.clamp_min(1e-9), SHARE), 0.0)
    flat = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    factor = torch.ones(1, dtype=torch.float64, requires_grad=True)
    growth = PositionTemperature(0.0).double()
    optimizer = torch.optim.Adam([flat, factor, *growth.parameters()], lr=0.05)
    for _ in range(steps):
        total: Any = loss(flat.expand(POSITIONS)) + loss(factor * (1 + growth(n)))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        progress.advance(1, "position")
    learned = (factor * (1 + growth(n))).detach()
    taus = {"flat": flat.detach().expand(POSITIONS), "learned": learned, "optimal": optimal}
    for name, tau in taus.items():
        for figure, values in (("share", share(tau)), ("tau", tau)):
            scope.array(f"B/{figure}/{name}", torch.stack([n, values])[:, 9::10].numpy(), steps)
    return {name: float(loss(tau)) for name, tau in taus.items()}


class _Denoiser(nn.Module):
    """One head whose last token is the query; its values may have a gate made from the token."""

    def __init__(self, gated: bool, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.q, self.k = (nn.Parameter(_drawn((CLASSES, CLASSES), generator)) for _ in range(2))
        self.hidden = nn.Parameter(_drawn((32, CLASSES), generator)) if gated else None
        self.shift = nn.Parameter(torch.zeros(32))
        self.gate = nn.Parameter(_drawn((32,), generator))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, L, d) to directions (B, d)."""
        v = x
        if self.hidden is not None:
            raw = nn.functional.gelu(x @ self.hidden.T + self.shift) @ self.gate
            v = (1 + torch.tanh(raw))[..., None] * x
        q, k = x[:, None, -1:] @ self.q.T, x[:, None] @ self.k.T
        mixed: Tensor = functional.attention(q, k, v[:, None]).out[:, 0, 0]
        direction: Tensor = nn.functional.normalize(mixed, dim=1)
        return direction


def _drawn(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """As torch draws the weights of linear layers."""
    drawn: Tensor = (2 * torch.rand(shape, generator=generator) - 1) / shape[-1] ** 0.5
    return drawn


def _tokens(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noise, in some places with the signal on top, in the last for sure; the signal, and where it is."""
    signal = torch.eye(CLASSES)[torch.randint(0, CLASSES, (count,), generator=generator)]
    order = torch.rand(count, TOKENS, generator=generator)
    order[:, -1] = 2.0
    places = order >= order.topk(SIGNALS, dim=1).values[:, -1:]
    noise = NOISE * torch.randn(count, TOKENS, CLASSES, generator=generator)
    return noise + places[..., None] * signal[:, None], signal, places


def _error(directions: Tensor, signal: Tensor) -> Tensor:
    return (directions - signal).square().sum(1).mean()


def _gate(scope: Recorder | None, seed: int, gated: bool, steps: int, progress: Progress) -> dict[str, float]:
    generator = torch.Generator().manual_seed(1000 + seed)
    model, name = _Denoiser(gated, seed), "gated" if gated else "vanilla"
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(1, steps + 1):
        x, signal, _ = _tokens(128, generator)
        error: Any = _error(model(x), signal)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        if scope is not None and step % max(1, steps // LOOKS) == 0:
            scope.scalar(f"C/error/{name}", error.item(), step)
        progress.advance(1, f"gate, seed {seed}")
    x, signal, places = _tokens(8192, generator)
    with torch.no_grad():
        figures = {"error": float(_error(model(x), signal))}
    for rule, weights in (("mean", torch.ones_like(places)), ("oracle", places)):
        figures[rule] = float(_error(nn.functional.normalize((weights[..., None] * x).sum(1), dim=1), signal))
    return figures


def _language_model(name: str, text: TextData, seed: int) -> GPT:
    torch.manual_seed(seed)
    return GPT(GPTConfig(len(text.vocabulary), CONTEXT, 2, 4, 64, attention=name))


def _text(
    scope: Recorder, model: GPT, name: str, text: TextData, seed: int, steps: int, progress: Progress
) -> None:
    """Train a language model, and look now and then at how it attends to the same held-out windows."""
    windows = torch.from_numpy(text.validation_windows(8, CONTEXT)[0])
    scope.text("text/tokens", json.dumps([text.vocabulary[token] for token in windows[0]]), 0)
    for step, loss in train(model, text, Recipe(steps, 3e-3), seed):
        scope.scalar(f"text/loss/{name}", loss, step)
        if step % max(1, steps // 10) == 0:
            with torch.no_grad(), _RowEntropies(model) as probe:
                model(windows)
            scope.histogram(f"text/entropy/{name}", np.concatenate(probe.rows), step)
            if name == "selective":
                _record_temperatures(scope, model, windows[:1], step)
        progress.advance(_TEXT_UNITS, f"{name} on text")


class _RowEntropies(AttentionProbe):
    """Entropies of all rows, as shares of what they could be; the first row of a text could not be any other."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.rows: list[NDArray[np.float64]] = []

    def take(self, layer: int, observation: AttentionObservation) -> None:
        del layer
        largest = np.log(np.arange(2, CONTEXT + 1))
        self.rows.append((observation.entropy[:, :, 1:] / largest).ravel())


@torch.no_grad()
def _record_temperatures(scope: Recorder, model: GPT, window: Tensor, step: int) -> None:
    """Temperatures of each token of a window: all layers over the tokens, and those of the first by position."""
    attentions: list[Any] = list(model.attentions)
    seen: list[Tensor] = []
    hooks = [
        attention.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
        for attention in attentions
    ]
    model(window)
    for hook in hooks:
        hook.remove()
    found = [attention(x, need_stats=True)[1] for attention, x in zip(attentions, seen, strict=True)]
    rows = [tau[0].mean(0) for stats in found for tau in (stats.tau_q, stats.tau_v)]
    scope.array("text/tokens_tau", torch.stack(rows).numpy(), step)
    names = [f"{what} {layer}" for layer in range(len(found)) for what in ("query", "value")]
    scope.text("text/rows", json.dumps(names), step)
    n = torch.arange(1.0, CONTEXT + 1)
    for head, tau in enumerate(found[0].tau_q[0]):
        scope.array(f"text/tau/head{head}", torch.stack([n, tau]).numpy(), step)
    alone = 1 + attentions[0].query_position(n)
    scope.array("text/tau/position_alone", torch.stack([n, alone]).numpy(), step)


def _verdict(
    position: dict[str, float],
    graphs: tuple[list[dict[str, float]], list[dict[str, float]]],
    gates: tuple[list[dict[str, float]], list[dict[str, float]]],
) -> Verdict:
    def mean(figures: list[dict[str, float]], name: str) -> float:
        return sum(figure[name] for figure in figures) / len(figures)

    ratios = [ours["error"] / plain["error"] for plain, ours in zip(*graphs, strict=True)]
    closed = [
        (plain["error"] - ours["error"]) / (plain["error"] - plain["oracle"])
        for plain, ours in zip(*gates, strict=True)
    ]
    return Verdict(
        claim="A temperature for each query, its growth with the position, and a gate on values each do what one "
        "matrix of attention cannot.",
        measured={
            "A: error of the map with temperatures": mean(graphs[1], "error"),
            "A: norm of the matrix with temperatures": mean(graphs[1], "norm"),
            "B: loss of a temperature learned by position": position["learned"],
            "B: loss of the optimal temperature": position["optimal"],
            "C: error with a value gate": mean(gates[1], "error"),
        },
        baseline={
            "A: error of the map of one matrix": mean(graphs[0], "error"),
            "A: norm of the one matrix": mean(graphs[0], "norm"),
            "B: loss of the best flat temperature": position["flat"],
            "C: error of ordinary attention": mean(gates[0], "error"),
            "C: error of the mean of all tokens": mean(gates[0], "mean"),
            "C: error of who knows the signal's places": mean(gates[0], "oracle"),
        },
        checks=(
            Check("A: largest error with temperatures over that of one matrix", max(ratios), "at most", 0.75),
            Check(
                "B: loss of the learned temperature over that of the best flat one",
                position["learned"] / position["flat"],
                "at most",
                0.2,
            ),
            Check(
                "C: smallest part of the way to the oracle that the gate goes", min(closed), "at least", 0.5
            ),
        ),
        caveats=(
            "toys of 8 nodes, two tokens and 8 classes; the language models beside them are shown and decide nothing",
            "temperatures in part A do not fall with the number of keys, as they do on the paper's graph: the matrix "
            "takes a part of the sharpness",
            "part B has no random numbers, so one run stands for all seeds",
        ),
    )
