"""A run in memory with the tags of a watched GPT: what a reader gives, without a file."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from logitscope import record
from logitscope.record import Event, KnobInfo, Panel, RunInfo, Series, StepArray, StepText, TagInfo
from logitscope.record import panels as standard

LAYERS, HEADS, BINS = 4, 4, 64
TEXT = (
    "The with statement is used to wrap the execution of a block with methods defined by a context manager. "
    "This allows common try...except usage patterns."
)

PANELS = [
    *standard.TRAINING,
    *standard.ATTENTION,
    *standard.LOGITS,
    Panel("Temperature", "lines", ("temperature",), "Training"),
    Panel("Speed", "lines", ("tokens_per_second",), "Training", y_label="tokens/s"),
    Panel("Sample", "text", ("sample",), "Text"),
]


def maps_at(progress: float, seed: int = 0) -> np.ndarray:
    """Causal attention maps that grow from uniform to diagonals, stripes and sinks."""
    random = np.random.default_rng(seed)
    row, column = np.mgrid[0:BINS, 0:BINS]
    maps = np.zeros((LAYERS, HEADS, BINS, BINS), np.float32)
    for layer in range(LAYERS):
        for head in range(HEADS):
            kind = (layer + head) % 4
            if kind == 0:
                score = -((row - column - 1 - head) ** 2) / (2.0 + 6 * layer)
            elif kind == 1:
                score = np.where(column == 0, 4.0, 0.0) - (row - column) / 40.0
            elif kind == 2:
                score = 3.0 * np.cos(2 * np.pi * (row - column) / (5 + 3 * layer)) - (row - column) / 30.0
            else:
                score = 3.0 * random.random(BINS)[None, :] ** 4 * 2 + 0 * row
            score = progress * score + 0.4 * random.standard_normal((BINS, BINS))
            score = np.where(column <= row, score, -np.inf)
            weights = np.exp(score - score.max(axis=1, keepdims=True))
            maps[layer, head] = weights / weights.sum(axis=1, keepdims=True)
    return maps


def entropy_of(maps: np.ndarray) -> np.ndarray:
    """Mean row entropy as a share of the largest possible."""
    terms = np.where(maps > 0, -maps * np.log(np.maximum(maps, 1e-30)), 0).sum(axis=-1)[..., 1:]
    return (terms / np.log(np.arange(2, BINS + 1))).mean(axis=-1).astype(np.float32)


class FakeReader:
    """A reader over dictionaries; ``broken`` makes every read fail."""

    def __init__(
        self, path: Path | str = "demo.scope", steps: int = 0, *, status: str = "running", panels=PANELS
    ):
        self.path = Path(path)
        self._info = RunInfo(
            self.path,
            "run",
            "demo",
            status,
            time.time() - 300,
            time.time(),
            None,
            meta={"model": "GPT 4×4×128"},
        )
        self._scalars: dict[str, list[tuple[int, float]]] = {}
        self._arrays: dict[str, list[StepArray]] = {}
        self._texts: dict[str, list[StepText]] = {}
        self._events: list[Event] = []
        self._knobs = {
            "temperature": KnobInfo("temperature", 1.0, 0.25, 4.0, 1.0, 1.0, True, "Divides the logits."),
            "learning_rate": KnobInfo("learning_rate", 1e-3, 1e-5, 1e-1, 1e-3, 1e-3, True, "Peak step size."),
        }
        self._panels = list(panels)
        self._changed = True
        self.broken: Exception | None = None
        self.closed = False
        training = self.training
        for step in range(steps):
            record_step(training, step, steps)

    @property
    def info(self) -> RunInfo:
        return self._info

    def tags(self) -> list[TagInfo]:
        kinds = (("scalar", self._scalars), ("array", self._arrays), ("text", self._texts))
        return [TagInfo(name, kind, len(rows)) for kind, table in kinds for name, rows in table.items()]

    def scalars(self, tag: str, after_row: int = 0) -> Series:
        self._check()
        rows = self._scalars.get(tag, [])[after_row:]
        return Series(
            np.array([step for step, _ in rows], np.int64),
            np.array([value for _, value in rows], np.float64),
            np.zeros(len(rows)),
            after_row + len(rows),
        )

    def steps(self, tag: str) -> np.ndarray:
        rows = self._arrays.get(tag) or self._texts.get(tag) or []
        return np.array([row.step for row in rows], np.int64)

    def array(self, tag: str, step: int | None = None) -> StepArray | None:
        self._check()
        return _latest(self._arrays.get(tag, []), step)

    def text(self, tag: str, step: int | None = None) -> StepText | None:
        return _latest(self._texts.get(tag, []), step)

    def panels(self) -> list[Panel]:
        return self._panels

    def events(self, after_row: int = 0) -> list[Event]:
        return self._events[after_row:]

    def knobs(self) -> list[KnobInfo]:
        return list(self._knobs.values())

    def set_knob(self, name: str, value: float) -> None:
        self._knobs[name] = replace(self._knobs[name], value=value)
        self._changed = True

    def poll(self) -> bool:
        self._check()
        changed, self._changed = self._changed, False
        return changed

    def close(self) -> None:
        self.closed = True

    @property
    def training(self) -> FakeTraining:
        """The writing side."""
        return FakeTraining(self)

    def _check(self) -> None:
        if self.broken:
            raise self.broken


def _latest(rows, step):
    known = [row for row in rows if step is None or row.step <= step]
    return max(reversed(known), key=lambda row: row.step, default=None)


class FakeTraining:
    """What a training calls of a Recorder, into the dictionaries of a FakeReader."""

    def __init__(self, reader: FakeReader):
        self._reader = reader

    def scalars(self, values: dict[str, float], step: int) -> None:
        reader = self._reader
        for tag, value in values.items():
            reader._scalars.setdefault(tag, []).append((step, float(value)))
        reader._info = replace(
            reader._info, last_step=max(step, reader._info.last_step or 0), updated=time.time()
        )
        reader._changed = True

    def array(self, tag: str, array: np.ndarray, step: int) -> None:
        self._reader._arrays.setdefault(tag, []).append(StepArray(step, array))
        self._reader._changed = True

    def text(self, tag: str, text: str, step: int) -> None:
        self._reader._texts.setdefault(tag, []).append(StepText(step, text))
        self._reader._changed = True

    def event(self, message: str, *, step: int | None = None, level: str = "info") -> None:
        events = self._reader._events
        events.append(Event(len(events) + 1, step, time.time(), level, message))
        self._reader._changed = True

    def finish(self) -> None:
        self._reader._info = replace(self._reader._info, status="finished")
        self._reader._changed = True


def record_step(scope, step: int, steps: int = 600) -> None:
    """What a watched training records at a step, on a Recorder or a FakeTraining."""
    noise = np.random.default_rng([7, step]).standard_normal
    progress = 1 - np.exp(-4 * step / max(steps, 1))
    values = {
        "loss/train": 4.6 - 2.6 * progress + 0.05 * noise(),
        "grad_norm": np.exp(1.0 - 2.5 * progress + 0.15 * noise()),
        "weight_norm": 60 + 25 * progress,
        "learning_rate": 1e-3 * min(1, step / (0.1 * steps + 1)) * (1 - 0.9 * step / steps),
        "temperature": 1.0,
        "tokens_per_second": 21500 + 400 * noise(),
        "logits/max": 1 + 11 * progress + 0.3 * noise(),
        "logits/std": 0.4 + 2.8 * progress + 0.05 * noise(),
        "logits/lse_mean": 4.6 + 2.2 * progress + 0.05 * noise(),
        "logits/entropy": 4.5 - 2.5 * progress + 0.05 * noise(),
        "logits/saturation": 0.12 * progress**2 + 0.005 * abs(noise()),
        "logits/lost_mass": 0.0,
    }
    if step % 25 == 0:
        values["loss/validation"] = 4.6 - 2.45 * progress + 0.01 * noise()
    for layer in range(LAYERS):
        values[f"grad_norm/layer{layer}"] = np.exp(0.2 - 0.3 * layer - 2.5 * progress + 0.15 * noise())
        values[f"attention/max_logit/layer{layer}"] = 0.6 + (2 + 2.2 * layer) * progress + 0.15 * noise()
        values[f"attention/lse_mean/layer{layer}"] = 3.2 + (0.6 + 0.4 * layer) * progress + 0.05 * noise()
        values[f"attention/entropy/layer{layer}"] = 0.98 - (0.2 + 0.13 * layer) * progress
        values[f"attention/entropy_max/layer{layer}"] = 0.99 - 0.1 * layer * progress
        values[f"attention/entropy_min/layer{layer}"] = 0.97 - (0.4 + 0.15 * layer) * progress
        values[f"attention/sink/layer{layer}"] = 0.04 + 0.1 * layer * progress
    scope.scalars(values, step)
    if step % 50 == 0:
        maps = maps_at(progress)
        scope.array("attention/map", maps, step)
        scope.array("attention/entropy", entropy_of(maps), step)
        scope.array("attention/max_logit", (6 * progress + maps.max(axis=(2, 3))).astype(np.float32), step)
        scope.text("attention/tokens", json.dumps(list(TEXT[:128])), step)
    if step % 100 == 0:
        scope.text("sample", f"step {step}\n" + TEXT[: 40 + step // 4], step)
        scope.event(f"Sampled {40 + step // 4} characters.", step=step)
    if step == 1:
        scope.event("Watching 4 layers with 4 heads.", step=step)


def write_run(path: Path, steps: int, *, finish: bool = True):
    """A real run file with the same content; the Recorder."""
    scope = record.start("demo", path=path, meta={"model": "GPT 4×4×128"})
    for panel in PANELS:
        scope.panel(
            panel.title, panel.kind, panel.tags, group=panel.group, y_label=panel.y_label, **panel.options
        )
    scope.knob("temperature", 1.0, 0.25, 4.0, log=True, notes="Divides the logits.")
    scope.knob("learning_rate", 1e-3, 1e-5, 1e-1, log=True)
    for step in range(steps):
        record_step(scope, step, steps)
    if finish:
        scope.finish()
    return scope
