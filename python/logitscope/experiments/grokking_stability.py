"""Grokking at the edge of numerical stability (Prieto, Barsbey, Mediano and Birdal, arXiv 2501.04697).

Sums modulo p, learned by a bias-free ReLU net from a part of all pairs, in full batches and without regularisation.
Part A: with PerpGrad it generalises at once, with AdamW alone it does not. Part B: in which precision the softmax
collapses, and when. Part C: with StableMax the net begins to generalise where softmax does not. All losses are
logitscope's; those that shall collapse are not in its complement form.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from logitscope.dynamics import logit_scale, nlm_cosine, softmax_collapse
from logitscope.experiments.progress import Silent
from logitscope.experiments.side_by_side import side_by_side
from logitscope.experiments.verdict import Check, Verdict
from logitscope.nn import CrossEntropyLoss, StableMaxCrossEntropy
from logitscope.optim import PerpGrad

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from logitscope.experiments.progress import Progress
    from logitscope.record import Recorder

PRECISIONS = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}
MARGINS = {"float16": 7.6, "float32": 16.6, "float64": 36.7}
"""A row is lost beyond these: the target's logit less the logsumexp of the others."""
LOOKS = 40
"""How often a training is looked at."""
SMOKE: dict[str, object] = {
    "seeds": (0,),
    "perp": (13, 0.6, 32, 60),
    "precision": (11, 0.7, 32, 40),
    "stable": (11, 0.85, 32, 40),
}


@dataclass(frozen=True, slots=True)
class _Task:
    """A training: what is learned, how, and under which name it is recorded."""

    name: str
    size: tuple[int, float, int, int]
    """p, the part of all pairs that is trained on, width of the net, steps."""
    seed: int
    optimizer: Callable[[Any], torch.optim.Optimizer]
    loss: torch.nn.Module
    precision: torch.dtype = torch.float32


@dataclass(slots=True)
class _Course:
    """What came of a training: figures at each look, by name."""

    steps: list[int]
    figures: dict[str, list[float]]

    def last(self, figure: str) -> float:
        """Give the figure at the end."""
        return self.figures[figure][-1]

    def onset(self, figure: str, level: float) -> float:
        """Say at which step the figure first passes a level; infinity if it does not."""
        passed = (step for step, value in zip(self.steps, self.figures[figure], strict=True) if value > level)
        return float(next(passed, float("inf")))


def run(
    scope: Recorder,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    progress: Progress | None = None,
    perp: tuple[int, float, int, int] = (47, 0.5, 128, 300),
    precision: tuple[int, float, int, int] = (31, 0.7, 128, 1600),
    stable: tuple[int, float, int, int] = (31, 0.85, 128, 4000),
) -> Verdict:
    """Train parts A, B and C; each is given as p, part of the pairs to train on, width, and steps."""
    progress = progress or Silent()
    _declare_panels(scope)
    tasks = [task for seed in seeds for task in _tasks(seed, perp, precision, stable)]
    progress.begin(sum(task.size[-1] for task in tasks))
    jobs = [partial(_train, task, scope if task.seed == seeds[0] else None) for task in tasks]
    courses = dict(zip(((task.name, task.seed) for task in tasks), side_by_side(jobs, progress), strict=True))
    return _verdict(courses, seeds, precision[-1])


def _tasks(
    seed: int,
    perp: tuple[int, float, int, int],
    precision: tuple[int, float, int, int],
    stable: tuple[int, float, int, int],
) -> list[_Task]:
    plain = CrossEntropyLoss(complement=False)
    options: dict[str, Any] = {"betas": (0.9, 0.99), "eps": 1e-25, "weight_decay": 0.0}
    slow = options | {"betas": (0.9, 0.999)}
    adamw = partial(torch.optim.AdamW, lr=0.01, **options)
    return [
        _Task("A/adamw", perp, seed, adamw, plain),
        _Task("A/perpgrad", perp, seed, partial(PerpGrad, lr=0.01, **options), plain),
        *(
            _Task(f"B/{name}", precision, seed, partial(torch.optim.AdamW, lr=2e-3, **options), plain, dtype)
            for name, dtype in PRECISIONS.items()
        ),
        _Task("C/softmax", stable, seed, partial(torch.optim.AdamW, lr=0.01, **slow), plain),
        _Task(
            "C/stablemax", stable, seed, partial(torch.optim.AdamW, lr=0.01, **slow), StableMaxCrossEntropy()
        ),
    ]


def _declare_panels(scope: Recorder) -> None:
    def lines(title: str, *tags: str, **options: Any) -> None:
        scope.panel(title, "lines", list(tags), group="Grokking", **options)

    onsets = {f"half in {name}": f"B/onset/{name}" for name in PRECISIONS}
    lines(
        "Accuracy with PerpGrad and without",
        "A/accuracy/*",
        log_x=True,
        notes="Sums modulo p. AdamW alone fits its pairs and learns nothing of the others.",
    )
    lines("Accuracy by precision of the softmax", "B/accuracy/*", log_x=True, x_marks=onsets)
    lines("Accuracy with StableMax and softmax", "C/accuracy/*", log_x=True)
    lines(
        "How far a step only scales the weights",
        "A/cosine/*",
        y_label="cos(-grad, weights)",
        notes="Of AdamW alone, by layer: it goes up once all pairs are fitted.",
    )
    lines("Weight norm", "A/weight_norm/*")
    lines("Size of the logits", "A/logit_rms/*", y_label="rms")
    lines(
        "Collapsed rows by precision",
        "B/collapsed/*",
        y_label="share",
        x_marks=onsets,
        y_marks={"half": 0.5},
    )
    lines("Rows with a loss of exactly 0", "B/zero_loss/*", y_label="share of the rows")
    lines("Loss by precision of the softmax", "B/loss/*", log_y=True, y_label="nats")
    lines("Loss with PerpGrad and without", "A/loss/*", log_y=True, y_label="nats")
    lines("Loss with StableMax and softmax", "C/loss/*", log_y=True, y_label="nats")
    scope.panel(
        "Margins of the training pairs",
        "histogram",
        ["B/margin"],
        group="Grokking",
        x_label="target's logit less logsumexp of the others",
        x_marks=dict(MARGINS),
        notes="Trained in float32. A row is lost beyond the mark of a precision.",
    )


def modular_addition(p: int, fraction: float, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All pairs of numbers below p as two one-hot vectors, and their sums modulo p: those to train on, the others."""
    pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    pairs = pairs[torch.randperm(p * p, generator=torch.Generator().manual_seed(seed))]
    x = torch.nn.functional.one_hot(pairs, p).flatten(1).float()
    y = pairs.sum(1) % p
    kept = int(fraction * p * p)
    return x[:kept], y[:kept], x[kept:], y[kept:]


def _net(p: int, width: int, seed: int) -> torch.nn.Sequential:
    """Two hidden layers without biases, initialised as torch does, with random numbers of its own."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[torch.nn.Module] = []
    for inputs, outputs in ((2 * p, width), (width, width), (width, p)):
        linear = torch.nn.Linear(inputs, outputs, bias=False, device="meta").to_empty(device="cpu")
        torch.nn.init.uniform_(linear.weight, -(inputs**-0.5), inputs**-0.5, generator=generator)
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def _train(task: _Task, scope: Recorder | None, progress: Progress) -> _Course:
    p, fraction, width, steps = task.size
    x, y, x_test, y_test = modular_addition(p, fraction, task.seed)
    model = _net(p, width, task.seed)
    optimizer = task.optimizer(model.parameters())
    course, every = _Course([], {}), max(1, steps // LOOKS)
    for step in range(1, steps + 1):
        logits = model(x)
        loss = task.loss(logits.to(task.precision), y)
        optimizer.zero_grad()
        loss.backward()
        looks = step % every == 0 or step == steps
        figures = _figures(task, model, logits.detach(), y, loss.item()) if looks else {}
        optimizer.step()
        if looks:
            with torch.no_grad():
                figures["accuracy/test"] = _accuracy(model(x_test), y_test)
            _keep(course, figures, step)
            if scope is not None:
                _record(scope, task, figures, step)
                if task.name == "B/float32":
                    scope.histogram("B/margin", softmax_collapse(logits.detach(), y).margin, step)
        progress.advance(1, f"{task.name}, seed {task.seed}")
    if scope is not None:
        _mark_onset(scope, task, course)
    return course


def _figures(task: _Task, model: torch.nn.Module, logits: Tensor, y: Tensor, loss: float) -> dict[str, float]:
    figures = {"loss": loss, "accuracy/train": _accuracy(logits, y)}
    if task.name.startswith("A/"):
        weights = torch.cat([weight.detach().flatten() for weight in model.parameters()])
        figures |= {"weight_norm": float(weights.norm()), "logit_rms": logit_scale(logits, y).rms}
        figures |= {f"cosine/{name}": value for name, value in nlm_cosine(model).items()}
    if task.name.startswith("B/"):
        found = softmax_collapse(logits, y, _precision(task))
        figures |= {"collapsed": found.frac_sc, "zero_loss": found.frac_zero_loss}
    return figures


def _precision(task: _Task) -> Any:
    return task.name.partition("/")[2]


def _accuracy(logits: Tensor, y: Tensor) -> float:
    return float((logits.argmax(1) == y).float().mean())


def _keep(course: _Course, figures: dict[str, float], step: int) -> None:
    course.steps.append(step)
    for name, value in figures.items():
        course.figures.setdefault(name, []).append(value)


def _record(scope: Recorder, task: _Task, figures: dict[str, float], step: int) -> None:
    part, _, arm = task.name.partition("/")
    named = {
        f"{part}/{name}"
        if name.startswith("cosine")
        else f"{part}/{name}_{arm}"
        if "/" in name
        else f"{part}/{name}/{arm}": value
        for name, value in figures.items()
        if not (name.startswith("cosine") and arm != "adamw")
    }
    scope.scalars(named, step)


def _mark_onset(scope: Recorder, task: _Task, course: _Course) -> None:
    """Say when the softmax collapsed, if it did."""
    onset = course.onset("collapsed", 0.5) if task.name.startswith("B/") else float("inf")
    if onset < float("inf"):
        name = _precision(task)
        scope.scalar(f"B/onset/{name}", onset, int(onset))
        scope.event(f"softmax in {name}: more than half of the rows are collapsed", step=int(onset))


def _verdict(courses: dict[tuple[str, int], _Course], seeds: Sequence[int], steps: int) -> Verdict:
    def last(name: str, figure: str = "accuracy/test") -> list[float]:
        return [courses[name, seed].last(figure) for seed in seeds]

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    gains = [ours - theirs for ours, theirs in zip(last("C/stablemax"), last("C/softmax"), strict=True)]
    onsets = [courses["B/float16", seed].onset("collapsed", 0.5) for seed in seeds]
    spared = max(*last("B/float32", "collapsed"), *last("B/float64", "collapsed"))
    return Verdict(
        claim="Cross entropy that only scales logits up keeps nets from generalising until their softmax collapses; "
        "PerpGrad and StableMax undo it.",
        measured={
            "A: test accuracy with PerpGrad": mean(last("A/perpgrad")),
            "B: rows collapsed at the end in float16": mean(last("B/float16", "collapsed")),
            "B: loss at the end in float16": mean(last("B/float16", "loss")),
            "C: test accuracy with StableMax": mean(last("C/stablemax")),
            "A: weight norm with PerpGrad": mean(last("A/perpgrad", "weight_norm")),
        },
        baseline={
            "A: test accuracy with AdamW alone": mean(last("A/adamw")),
            "B: rows collapsed at the end in float32": mean(last("B/float32", "collapsed")),
            "B: rows collapsed at the end in float64": mean(last("B/float64", "collapsed")),
            "B: loss at the end in float64": mean(last("B/float64", "loss")),
            "C: test accuracy with softmax": mean(last("C/softmax")),
            "A: weight norm with AdamW alone": mean(last("A/adamw", "weight_norm")),
            "A: cosine of step and weights with AdamW alone": mean(last("A/adamw", "cosine/total")),
        },
        checks=(
            Check("A: smallest test accuracy with PerpGrad", min(last("A/perpgrad")), "at least", 0.95),
            Check("A: largest test accuracy with AdamW alone", max(last("A/adamw")), "at most", 0.05),
            Check(
                "B: step at which half of the rows are collapsed in float16, latest",
                max(onsets),
                "at most",
                steps / 2,
            ),
            Check("B: rows collapsed at the end in float32 or float64, most", spared, "at most", 0.5),
            Check(
                "C: smallest gain in test accuracy of StableMax over softmax", min(gains), "at least", 0.15
            ),
        ),
        caveats=(
            "small p; the paper has p = 113 and, for StableMax, tens of thousands of steps, after which it is near 1: "
            "here it is still going up",
            "the loss in float16 is computed in float32 and its gradient rounded to float16, as torch does on CPUs",
        ),
    )
