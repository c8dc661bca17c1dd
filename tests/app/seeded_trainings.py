"""Trainings that go wrong on purpose and trainings that do not, to measure the dashboard's alerts.

``python tests/app/seeded_trainings.py`` trains all of them (32 small models and 6 twins, some five minutes), prints
what was told of each, and the share of failures found, the healthy runs with a false alarm, and how many steps before
the loss the warnings of drift and collapse came. The loss shows a failure at the first step at which its mean over
ten steps is a tenth above that of the twin, the same training without the failure. ``--seed`` moves all seeds: the
thresholds of the rules were chosen on seed 0, so another one is the honest measurement.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from logitscope import record
from logitscope.data import topics
from logitscope.nn import GPT, CrossEntropyLoss, GPTConfig
from logitscope_app.models.alerts import Alert, Watchman
from logitscope_app.models.series import Points

STEPS, BEGIN = 400, 120
"""Updates of each training; when a failure begins."""
Sabotage = Callable[[GPT, int], None]


def _nothing(model: GPT, step: int) -> None:
    """Leave the training alone."""


@dataclass(frozen=True)
class Case:
    """One training: its choices, how it is made to fail, and the alerts that would tell so."""

    name: str
    seed: int
    expected: tuple[str, ...] = ()
    sabotage: Sabotage = _nothing
    early: bool = False
    """Whether the warning is to come before the loss shows the failure."""
    layers: int = 2
    heads: int = 4
    width: int = 64
    batch: int = 8
    rate: float = 2e-3
    warm_up: int = 30
    clip: float = 1.0
    rate_at: Callable[[int], float] = field(default=lambda step: 1.0)
    logits_at: Callable[[torch.Tensor, int], torch.Tensor] = field(default=lambda logits, step: logits)


def grown(part: str, factor: float, layers: tuple[int, ...] = (0, 1)) -> Sabotage:
    """Multiply the projections of queries (``q``) or of queries and keys (``qk``) at each step."""

    @torch.no_grad()
    def act(model: GPT, step: int) -> None:
        if step >= BEGIN:
            for layer in layers:
                qkv = model.blocks[layer].attention.qkv
                rows = qkv.weight.shape[1] * len(part)
                qkv.weight[:rows] *= factor
                qkv.bias[:rows] *= factor

    return act


@torch.no_grad()
def fade_a_head(model: GPT, step: int) -> None:
    """Let the queries of one head be dead."""
    if step >= BEGIN:
        attention = model.blocks[1].attention
        size = attention.qkv.weight.shape[1] // attention.num_heads
        attention.qkv.weight[size : 2 * size] = 0.0
        attention.qkv.bias[size : 2 * size] = 0.0


@torch.no_grad()
def cool(model: GPT, step: int) -> None:
    """Let the temperature of attention fall."""
    model.set_temperature(0.98 ** max(0, step - BEGIN))


@torch.no_grad()
def swell(model: GPT, step: int) -> None:
    """Let the gain before the output layer grow."""
    if step >= BEGIN:
        model.norm.weight *= 1.03


@torch.no_grad()
def poison(model: GPT, step: int) -> None:
    """Put a NaN into a weight of the second block."""
    if step == BEGIN + 80:
        model.blocks[1].attention.qkv.weight[0, 0] = float("nan")


@torch.no_grad()
def pull_to_the_first(model: GPT, step: int) -> None:
    """Have every query of the first layer like the first key more and more."""
    attention = model.blocks[0].attention
    if step == BEGIN:
        project = attention.project

        def pulled(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            query, key, value = project(x)
            pull = torch.zeros_like(key)
            pull[:, :, 0] = attention.pull
            return query + attention.pull, key + pull, value

        attention.pull, attention.project = 0.0, pulled
    if step > BEGIN:
        attention.pull += 0.02


def failing(seed: int) -> list[Case]:
    """Twelve trainings that fail, each in its own way."""
    drift, collapse = ("logit drift",), ("entropy collapse", "logit drift")
    return [
        Case("growing queries", seed + 100, collapse, grown("q", 1.025), early=True),
        Case("growing queries and keys", seed + 101, collapse, grown("qk", 1.02), early=True),
        Case("drift in one layer", seed + 102, drift, grown("qk", 1.012, (1,)), early=True),
        Case("falling temperature", seed + 103, collapse, cool, early=True),
        Case("growing gain of the output", seed + 104, drift, swell, early=True),
        Case(
            "overflow in float16",
            seed + 105,
            ("nan origin",),
            logits_at=lambda logits, step: (logits * 1.06 ** max(0, step - BEGIN)).half().float(),
        ),
        Case("a NaN in a weight", seed + 106, ("nan origin",), poison),
        Case(
            "a learning rate far too high",
            seed + 107,
            ("divergence", "loss spike", "gradient spike", "logit drift"),
            rate=0.5,
            warm_up=1,
            clip=1e9,
        ),
        Case(
            "a jump of the learning rate",
            seed + 108,
            ("loss spike",),
            rate_at=lambda step: 100.0 if BEGIN + 80 <= step < BEGIN + 84 else 1.0,
        ),
        Case(
            "logits that lose classes to rounding",
            seed + 109,
            ("softmax collapse", "logit drift"),
            logits_at=lambda logits, step: logits * 1.03 ** max(0, step - BEGIN),
            early=True,
        ),
        Case("attention drawn to the first token", seed + 110, ("sink takeover",), pull_to_the_first),
        Case("a head that dies", seed + 111, ("dead head",), fade_a_head),
    ]


def healthy(seed: int) -> list[Case]:
    """Twenty trainings of several sizes and rates that go well, noisy ones among them."""
    choices = np.random.default_rng([seed, 20])
    cases = []
    for index in range(20):
        heads = int(choices.choice([2, 4]))
        cases.append(
            Case(
                f"healthy {index}",
                seed + 200 + index,
                layers=int(choices.choice([1, 2, 3])),
                heads=heads,
                width=16 * heads,
                batch=int(choices.choice([2, 4, 8, 16])),
                rate=float(choices.choice([3e-4, 1e-3, 2e-3, 4e-3])),
                warm_up=int(choices.choice([10, 30, 60])),
            )
        )
    return cases


def train(case: Case, path: Path, *, steps: int = STEPS) -> None:
    """Train and record, as a user would with the normal schedule of ``watch``."""
    torch.manual_seed(case.seed)
    text = topics()
    model = GPT(GPTConfig(len(text.vocabulary), 64, case.layers, case.heads, case.width))
    optimizer = torch.optim.AdamW(model.parameters(), lr=case.rate, betas=(0.9, 0.95), weight_decay=0.1)
    criterion = CrossEntropyLoss()
    chance = np.random.default_rng(case.seed)
    batches = text.batches(case.batch, 64, chance)
    shown = torch.nn.Identity()  # where the logits are as the loss gets them
    model.add_module("shown", shown)
    with record.start(case.name, path=path) as scope, scope.watch(model, logits="shown") as watch:
        for step in range(steps):
            case.sabotage(model, step)
            watch.step(step)
            inputs, targets = (torch.from_numpy(part) for part in next(batches))
            for group in optimizer.param_groups:
                group["lr"] = case.rate * min(1.0, (step + 1) / case.warm_up) * case.rate_at(step)
            logits = shown(case.logits_at(model(inputs), step))
            loss = criterion(logits.flatten(0, 1), targets.flatten())
            optimizer.zero_grad()
            loss.backward()
            watch.gradients(step)
            torch.nn.utils.clip_grad_norm_(model.parameters(), case.clip)
            optimizer.step()
            scope.scalar("loss/train", loss, step)


def alerts_of(path: Path) -> tuple[tuple[Alert, ...], np.ndarray]:
    """What the dashboard tells of a run, and its loss."""
    with record.RunReader(path) as run:
        curves = {}
        for tag in run.tags():
            if tag.kind == "scalar":
                series = run.scalars(tag.name)
                curves[tag.name] = Points(series.steps, series.values)
    return Watchman().alerts(curves), curves["loss/train"].values


def shown_at(loss: np.ndarray, twin: np.ndarray) -> int | None:
    """The step at which the loss, meant over ten steps, is a tenth above that of the twin."""
    kernel = np.ones(10) / 10
    above = np.convolve(loss, kernel, "valid") > 1.1 * np.convolve(twin, kernel, "valid")
    above |= ~np.isfinite(np.convolve(loss, kernel, "valid"))
    hits = np.flatnonzero(above[BEGIN:])
    return int(hits[0]) + BEGIN + 9 if hits.size else None


def main() -> int:
    """Train all and report."""
    parser = argparse.ArgumentParser(description="Measure the alerts on seeded trainings.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--keep", type=Path, help="a directory for the run files, read again when they are there"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    directory = arguments.keep or Path(tempfile.mkdtemp())
    directory.mkdir(parents=True, exist_ok=True)

    def result(case: Case) -> tuple[tuple[Alert, ...], np.ndarray]:
        path = directory / f"{case.seed}-{case.name.replace(' ', '-')}.scope"
        if not path.exists():
            train(case, path)
        return alerts_of(path)

    found, leads = 0, {}
    bad = failing(arguments.seed)
    for case in bad:
        alerts, loss = result(case)
        hits = [alert for alert in alerts if alert.rule in case.expected]
        found += bool(hits)
        line = f"{'found ' if hits else 'MISSED'} {case.name}: " + (
            f"{hits[0].rule} at step {hits[0].step}: {hits[0].message}"
            if hits
            else str([a.rule for a in alerts])
        )
        if case.early:
            twin = replace(
                case, name=f"twin of {case.name}", sabotage=_nothing, logits_at=lambda logits, step: logits
            )
            shown = shown_at(loss, result(twin)[1])
            leads[case.name] = None if not hits else (shown or STEPS) - hits[0].step
            line += f"; the loss shows it at {shown}"
        print(line, flush=True)
    false = 0
    good = healthy(arguments.seed)
    for case in good:
        alerts, _ = result(case)
        false += bool(alerts)
        for alert in alerts:
            print(f"FALSE  {case.name}: {alert.rule} at step {alert.step}: {alert.message}", flush=True)
    print(
        f"recall {found}/{len(bad)}, healthy runs with an alarm {false}/{len(good)}, steps before the loss {leads}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
