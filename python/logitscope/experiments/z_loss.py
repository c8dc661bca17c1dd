"""The Z-loss and the output layer that its family makes possible (de Brébisson and Vincent, arXiv 1604.08859).

Part A: processor time of a step of output layers as the number of classes grows, one thread. Part B: a small word model
of Python's documentation trained with each loss; how often the target is not among the k largest logits.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from functools import partial
from statistics import mean, median
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

import logitscope
from logitscope.experiments.progress import Silent
from logitscope.experiments.verdict import Check, Verdict
from logitscope.loss import spherical_loss
from logitscope.nn import (
    CrossEntropyLoss,
    HierarchicalSoftmax,
    SphericalOutput,
    TaylorSoftmaxLoss,
    ZStandardizedLoss,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from logitscope.experiments.progress import Progress
    from logitscope.record import Recorder

    Loss = Callable[[Tensor, Tensor], Tensor]

TOP = (1, 5, 10, 50, 100)
NEEDED_GROWTH, NEEDED_RATIO, NEEDED_POINTS = 2.0, 40.0, 0.5
JUDGED_CLASSES = 100_000
"""Where dense and factored times are compared; the largest measured if that is smaller."""
SMOKE: dict[str, object] = {"seeds": (0,), "classes": (1000, 10_000), "steps": 60, "stability_steps": 60}

_B = 5.0
_FEATURES, _ROWS, _RATE = 64, 32, 0.01
_VOCABULARY, _CONTEXT, _EMBEDDING, _HIDDEN, _BATCH = 2000, 4, 32, 64, 128
_LOOKS, _LOOKED_AT = 8, 2048
"""How often held-out words are looked at in training, and how many; all of them at its end."""


def run(
    scope: Recorder,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    progress: Progress | None = None,
    classes: Sequence[int] = (1000, 10_000, 100_000, 500_000),
    steps: int = 2500,
    stability_steps: int = 400,
) -> Verdict:
    """Time layers over ``classes``, watch one for ``stability_steps``, train word models for ``steps`` each."""
    progress = progress or Silent()
    _declare_panels(scope)
    losses = _losses()
    progress.begin(len(seeds) * len(losses) * steps + 2000 * len(classes))
    times: dict[int, dict[str, float]] = {}
    for count in classes:
        times[count] = _step_times(count)
        _record_times(scope, times)
        progress.advance(2000, f"step times with {count} classes")
    _watch_the_factors(scope, stability_steps)
    errors: dict[str, list[dict[int, float]]] = {name: [] for name in losses}
    words = _words()
    for seed in seeds:
        for name, loss in losses.items():
            errors[name].append(_train(words, loss, seed, steps, scope if seed == seeds[0] else None, name))
            progress.advance(steps, f"seed {seed}, {name}, top-50 error {errors[name][-1][50]:.1f} %")
    return _verdict(times, errors)


def _losses() -> dict[str, Loss]:
    return {
        "softmax": CrossEntropyLoss(),
        "z_1_5": ZStandardizedLoss(1.0, _B),
        "z_0.1_10": ZStandardizedLoss(0.1, 10.0),
        "taylor": TaylorSoftmaxLoss(),
        "squared": lambda logits, targets: spherical_loss(logits, targets, kind="squared"),
    }


def _declare_panels(scope: Recorder) -> None:
    group = "Z-loss"
    scope.panel(
        "Time of a training step",
        "scatter",
        ["time/ms/*"],
        group=group,
        x_label="classes",
        y_label="ms",
        joined=True,
        log_x=True,
        log_y=True,
        notes="64 features, 32 rows, one thread. The factored layer's line is flat.",
    )
    scope.panel(
        "Error by k",
        "scatter",
        ["error/by_k/*"],
        group=group,
        x_label="k",
        y_label="%",
        joined=True,
        log_x=True,
        notes="Z(1, 5) crosses softmax between k = 10 and k = 50.",
    )
    for k in TOP:
        scope.panel(
            f"Top-{k} error",
            "lines",
            [f"error/top{k}/*"],
            group="Training",
            y_label="%",
            notes="How often the target is not among the largest logits, on about 2048 held-out words spread over "
            "the text; the last point is of all of them.",
        )
    scope.panel(
        "Standardised logit of the target",
        "histogram",
        ["z/target"],
        group=group,
        x_label="z",
        y_label="words",
        x_marks={"b": _B},
        curve_tag="z/loss",
        notes="On held-out words, trained with a = 1, b = 5. Over it the loss of a word, which levels off beyond b.",
    )
    scope.panel(
        "Singular values of U",
        "scatter",
        ["factors/singular_values"],
        group=group,
        x_label="training step",
        log_y=True,
        y_band=[0.5, 2.0],
        notes="Every hundredth step those outside 0.5..2 are moved into V, and the weight stays.",
    )
    scope.panel(
        "Drift of what the layer keeps",
        "lines",
        ["factors/drift"],
        group=group,
        y_label="max |Q - W'W|",
        log_y=True,
    )


def _record_times(scope: Recorder, times: dict[int, dict[str, float]]) -> None:
    classes = list(times)
    for name in times[classes[0]]:
        points = [classes, [1e3 * times[count][name] for count in classes]]
        scope.array(f"time/ms/{name}", np.array(points), len(classes))


def _step_times(count: int) -> dict[str, float]:
    """Median seconds of processor time of a step of each layer; they take turns."""
    torch.manual_seed(0)
    factored = SphericalOutput(_FEATURES, count, lr=_RATE)
    hierarchical = HierarchicalSoftmax(_FEATURES, count, sparse=True)
    dense = {"dense_softmax": CrossEntropyLoss(), "dense_z": ZStandardizedLoss()}
    weight = nn.Parameter(torch.empty(count, _FEATURES).normal_(0.0, 0.01))
    seconds: dict[str, list[float]] = {"factored": [], "hierarchical": [], **{name: [] for name in dense}}
    threads, ours = torch.get_num_threads(), logitscope.get_num_threads()
    torch.set_num_threads(1)
    logitscope.set_num_threads(1)
    try:
        for _ in range(4):
            hidden = torch.randn(_ROWS, _FEATURES, requires_grad=True)
            targets = torch.randint(0, count, (_ROWS,))
            for _ in range(10):
                seconds["factored"].append(_seconds(partial(factored, hidden, targets), []))
            matrices = list(hierarchical.parameters())
            seconds["hierarchical"].append(_seconds(partial(hierarchical, hidden, targets), matrices))
            for name, loss in dense.items():
                seconds[name].append(_seconds(partial(_dense, loss, hidden, weight, targets), [weight]))
    finally:
        torch.set_num_threads(threads)
        logitscope.set_num_threads(ours)
    # The first round warms up.
    return {name: median(taken[len(taken) // 4 :]) for name, taken in seconds.items()}


def _dense(loss: nn.Module, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    value: Tensor = loss(hidden @ weight.T, targets)
    return value


def _seconds(forward: Callable[[], Tensor], parameters: Sequence[Tensor]) -> float:
    """Processor time of loss, gradient and plain gradient descent; with one thread no other program is in it."""
    start = time.process_time()
    torch.autograd.backward(forward())
    with torch.no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.add_(parameter.grad, alpha=-_RATE)
                parameter.grad = None
    return time.process_time() - start


def _watch_the_factors(scope: Recorder, steps: int) -> None:
    """Train the factored layer fast enough for its factors to need care, and record their state."""
    torch.manual_seed(0)
    layer = SphericalOutput(16, 1000, loss="squared", lr=0.02, dtype=torch.float64)
    teacher = torch.randn(1000, 16, dtype=torch.float64)
    seen: list[NDArray[np.float64]] = []
    for step in range(steps):
        hidden = torch.randn(_ROWS, 16, dtype=torch.float64)
        layer(hidden, (hidden @ teacher.T).argmax(dim=-1)).backward()
        if step % 4 == 0 or step + 1 == steps:
            values = torch.linalg.svdvals(layer.u).numpy()
            seen.append(np.stack([np.full_like(values, step), values]))
            scope.array("factors/singular_values", np.concatenate(seen, axis=1), step)
            scope.scalar("factors/drift", max(layer.check().gram, 1e-18), step)


def _words() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Contexts (n, 4) and next words (n) to train on and to test on: every tenth block of 500 words."""
    from pydoc_data.topics import topics

    text = " ".join(topics[name] for name in sorted(topics)).lower()
    tokens = re.findall(r"[a-z_]+|[^\sa-z_]", text)
    known = {word: index for index, (word, _) in enumerate(Counter(tokens).most_common(_VOCABULARY))}
    numbers = torch.tensor([known.get(word, _VOCABULARY) for word in tokens])
    windows = numbers.unfold(0, _CONTEXT + 1, 1)
    held_out = torch.arange(len(windows)) // 500 % 10 == 9
    train, test = windows[~held_out], windows[held_out]
    return train[:, :-1], train[:, -1], test[:, :-1], test[:, -1]


class _WordModel(nn.Module):
    """Four embedded words, a layer of tanh, a logit a word."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(_VOCABULARY + 1, _EMBEDDING)
        self.hidden = nn.Linear(_CONTEXT * _EMBEDDING, _HIDDEN)
        self.head = nn.Linear(_HIDDEN, _VOCABULARY + 1)

    def forward(self, contexts: Tensor) -> Tensor:
        """(n, 4) to (n, words)."""
        logits: Tensor = self.head(torch.tanh(self.hidden(self.embedding(contexts).flatten(1))))
        return logits


def _train(
    words: tuple[Tensor, Tensor, Tensor, Tensor],
    loss: Loss,
    seed: int,
    steps: int,
    scope: Recorder | None,
    name: str,
) -> dict[int, float]:
    """Train a word model; returns its top-k errors in percent."""
    torch.manual_seed(seed)
    contexts, targets, test_contexts, test_targets = words
    model = _WordModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)
    every = max(1, steps // _LOOKS)
    spread = slice(None, None, max(1, len(test_targets) // _LOOKED_AT))
    for step in range(steps):
        rows = torch.randint(0, len(targets), (_BATCH,))
        value = loss(model(contexts[rows]), targets[rows])
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()
        if scope is not None and step % every == 0:
            _record_errors(scope, name, *_errors(model, test_contexts[spread], test_targets[spread]), step)
    errors, z = _errors(model, test_contexts, test_targets)
    if scope is not None:
        _record_errors(scope, name, errors, z, steps)
    return errors


def _record_errors(scope: Recorder, name: str, errors: dict[int, float], z: Tensor, step: int) -> None:
    scope.scalars({f"error/top{k}/{name}": error for k, error in errors.items()}, step)
    scope.array(f"error/by_k/{name}", np.array([list(errors), list(errors.values())]), step)
    if name == "z_1_5":
        scope.histogram("z/target", z, step)
        at = np.linspace(float(z.min()), float(z.max()), 101)
        scope.array("z/loss", np.stack([at, np.logaddexp(0.0, _B - at)]), step)


@torch.no_grad()
def _errors(model: nn.Module, contexts: Tensor, targets: Tensor) -> tuple[dict[int, float], Tensor]:
    """Top-k errors in percent, and the targets' standardised logits."""
    ranks, standardised = [], []
    for rows, wanted in zip(torch.split(contexts, 1024), torch.split(targets, 1024), strict=True):
        logits = model(rows)
        own = logits.gather(1, wanted[:, None])
        ranks.append((logits > own).sum(dim=1))
        deviation = logits.std(dim=1, correction=0)
        standardised.append((own[:, 0] - logits.mean(dim=1)) / deviation)
    rank = torch.cat(ranks)
    return {k: 100.0 * float((rank >= k).double().mean()) for k in TOP}, torch.cat(standardised)


def _verdict(times: dict[int, dict[str, float]], errors: dict[str, list[dict[int, float]]]) -> Verdict:
    smallest, largest = min(times), max(times)
    judged = min((count for count in times if count >= JUDGED_CLASSES), default=largest)
    growth = times[largest]["factored"] / times[smallest]["factored"]
    ratio = times[judged]["dense_softmax"] / times[judged]["factored"]
    top = {name: {k: mean(run[k] for run in runs) for k in TOP} for name, runs in errors.items()}
    behind = max(top["z_0.1_10"][k] - min(top["taylor"][k], top["squared"][k]) for k in (1, 5))
    return Verdict(
        claim="The factored output layer's step does not grow with the number of classes; trained with the Z-loss, a "
        "word model has a lower top-50 error than with softmax, and a lower top-1 and top-5 error than with the other "
        "losses of the family.",
        measured={
            f"ms a step, factored, {smallest} classes": 1e3 * times[smallest]["factored"],
            f"ms a step, factored, {largest} classes": 1e3 * times[largest]["factored"],
            **{f"top-{k} error of Z(1, 5), %": top["z_1_5"][k] for k in TOP},
            **{f"top-{k} error of Z(0.1, 10), %": top["z_0.1_10"][k] for k in (1, 5)},
        },
        baseline={
            f"ms a step, dense softmax, {judged} classes": 1e3 * times[judged]["dense_softmax"],
            f"ms a step, hierarchical softmax, {judged} classes": 1e3 * times[judged]["hierarchical"],
            **{f"top-{k} error of softmax, %": top["softmax"][k] for k in TOP},
            **{f"top-{k} error of Taylor softmax, %": top["taylor"][k] for k in (1, 5, 50)},
            **{f"top-{k} error of squared error, %": top["squared"][k] for k in (1, 5, 50)},
        },
        checks=(
            Check(
                f"factored time with {largest} classes over that with {smallest}",
                growth,
                "at most",
                NEEDED_GROWTH,
            ),
            Check(f"dense softmax time over factored, {judged} classes", ratio, "at least", NEEDED_RATIO),
            Check(
                "top-50 error of softmax less that of Z(1, 5), points",
                top["softmax"][50] - top["z_1_5"][50],
                "at least",
                NEEDED_POINTS,
            ),
            Check(
                "top-1 and top-5 error of Z(0.1, 10) less the better of Taylor and squared, points",
                behind,
                "at most",
                0.0,
            ),
        ),
        caveats=(
            f"top-1 error of Z(1, 5) less that of softmax: {top['z_1_5'][1] - top['softmax'][1]:+.1f} points; in the "
            "paper, too, softmax remains better at top-1",
            "processor time of one thread, layers in turns; the paper's 40 and 4 times are of a GPU and 793,471 words",
            "the documentation repeats paragraphs, so some held-out words are known; for all losses alike",
        ),
    )
