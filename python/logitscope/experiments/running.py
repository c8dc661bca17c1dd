"""Runs one experiment: its run file, its progress, its verdict."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitscope import __version__, record
from logitscope.errors import ArgumentError, LogitscopeError
from logitscope.experiments.progress import PROGRESS_TAG, VERDICT_TAG, ShownProgress, clock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from logitscope.experiments.paper import Paper
    from logitscope.experiments.verdict import Verdict

SEEDS = (0, 1, 2)
DATA_TAG = "verdict_data"
"""The text of a run file that holds the verdict as JSON."""
_FIXED = ("scope", "seeds", "progress")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run."""

    paper: Paper
    seeds: tuple[int, ...] | None = None
    """None for those of the experiment: its own in a smoke run, otherwise 0, 1, 2."""
    smoke: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of its ``run`` that are not the defaults."""
    path: Path | None = None
    """The run file to make."""
    device: str = "cpu"
    """Where operations run that can run there: ``"cpu"`` or ``"gpu"``."""

    @property
    def command(self) -> str:
        """What starts it again."""
        words = ["logitscope", "run", self.paper.slug, *(["--smoke"] if self.smoke else [])]
        if self.seeds is not None:
            words += ["--seeds", ",".join(map(str, self.seeds))]
        for name, value in self.options.items():
            words += ["--set", f"{name}={value!r}"]
        if self.device != "cpu":
            words += ["--device", self.device]
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict, and how it came about."""

    plan: Plan
    seeds: tuple[int, ...]
    verdict: Verdict
    seconds: float
    path: Path

    def as_dict(self) -> dict[str, Any]:
        """Give all of it as what JSON knows."""
        return {
            "slug": self.plan.paper.slug,
            "seeds": list(self.seeds),
            "smoke": self.plan.smoke,
            "options": {name: _plain(value) for name, value in self.plan.options.items()},
            "seconds": round(self.seconds, 1),
            "logitscope": __version__,
            "verdict": self.verdict.as_dict(),
        }


def execute(plan: Plan) -> Outcome:
    """Run an experiment into a run file of its own, and show how far it is."""
    arguments = arguments_of(plan)
    seeds = tuple(arguments["seeds"])
    meta = {
        "experiment": plan.paper.slug,
        "seeds": ", ".join(map(str, seeds)),
        "kind": "smoke" if plan.smoke else "full",
        "start again": plan.command,
        "logitscope": __version__,
        **({"device": plan.device} if plan.device != "cpu" else {}),
    }
    _tell_of_a_stopped_run(plan)
    start = time.monotonic()
    with record.start(plan.paper.slug, path=plan.path, meta=meta) as scope:
        print(f"{plan.paper.slug}: run file {_short(scope.path)}", file=sys.stderr)
        # The other two are for programs: named here so that they get no panels of their own.
        scope.panel("Verdict", "text", [VERDICT_TAG, DATA_TAG, PROGRESS_TAG], group="Text")
        try:
            with _sending(plan), _blaming_options(plan), ShownProgress(plan.paper.slug, scope) as progress:
                verdict: Verdict = plan.paper.experiment().run(scope, progress=progress, **arguments)
        except KeyboardInterrupt:
            print(f"{plan.paper.slug}: stopped; start it again with: {plan.command}", file=sys.stderr)
            raise
        scope.text(DATA_TAG, json.dumps(verdict.as_dict()), 0)
        scope.text(VERDICT_TAG, in_words(verdict, smoke=plan.smoke), 0)
    return Outcome(plan, seeds, verdict, time.monotonic() - start, scope.path)


def in_words(verdict: Verdict, *, smoke: bool = False) -> str:
    """Say a verdict in lines of text."""
    word = "reproduced" if verdict.reproduced else "NOT reproduced"
    lines = [
        verdict.claim,
        "a smoke run: it shows that this runs, and decides nothing" if smoke else word,
        "",
    ]
    lines += [f"  {check}" for check in verdict.checks]
    for head, figures in (("measured", verdict.measured), ("held against", verdict.baseline)):
        lines += ["", f"{head}:", *(f"  {name}: {value:.4g}" for name, value in figures.items())]
    if verdict.caveats:
        lines += ["", *(f"note: {caveat}" for caveat in verdict.caveats)]
    return "\n".join(lines)


def summary(outcome: Outcome) -> str:
    """Say how a run ended, for the terminal."""
    head = f"{outcome.plan.paper.slug} ({clock(outcome.seconds)} minutes, seeds {', '.join(map(str, outcome.seeds))})"
    words = in_words(outcome.verdict, smoke=outcome.plan.smoke)
    return "\n".join([head, *(f"  {line}".rstrip() for line in words.splitlines())])


def arguments_of(plan: Plan) -> dict[str, Any]:
    """Give the keyword arguments of the experiment's ``run``; raises for options that it does not take."""
    experiment = plan.paper.experiment()
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(experiment.run).parameters.items()
        if name not in _FIXED
    }
    options = {}
    for name, value in plan.options.items():
        if name not in defaults:
            message = f"{plan.paper.slug} has no {name!r} to set; use {', '.join(defaults) or 'no --set'}"
            raise ArgumentError(message)
        options[name] = _like(defaults[name], value)
        if options[name] is None:
            message = f"{plan.paper.slug}: {name} is {value!r}; use what is like {defaults[name]!r}"
            raise ArgumentError(message)
    arguments = {"seeds": SEEDS, **(experiment.SMOKE if plan.smoke else {}), **options}
    if plan.seeds is not None:
        arguments["seeds"] = plan.seeds
    return arguments


def _like(default: Any, value: Any) -> Any:
    """A value of the kind of a default, a number where it has several as several; None for another kind."""
    if isinstance(default, tuple | list | range):
        values = tuple(value) if isinstance(value, tuple | list) else (value,)
        # Numbers of several kinds have a place each.
        is_mixed = len({type(one) for one in default}) > 1
        models = default if is_mixed else [default[0]] * len(values)
        if len(models) != len(values):
            return None
        found = [_like(model, value) for model, value in zip(models, values, strict=True)]
        return None if not found or None in found else tuple(found)
    number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    fits = number and (isinstance(default, float) or isinstance(value, int))
    return value if fits else None


@contextmanager
def _blaming_options(plan: Plan) -> Iterator[None]:
    """What goes wrong with other numbers than its own is no fault of the experiment: it is told in a line."""
    try:
        yield
    except LogitscopeError:
        raise
    except Exception as error:
        if not plan.options:
            raise
        given = ", ".join(f"{name}={value!r}" for name, value in plan.options.items())
        message = (
            f"{plan.paper.slug} cannot be run with {given} ({type(error).__name__}: {error}); use others"
        )
        raise ArgumentError(message) from error


@contextmanager
def _sending(plan: Plan) -> Iterator[None]:
    """Send operations to the GPU if the plan says so, and tell at the end which went there."""
    if plan.device == "cpu":
        yield
        return
    from logitscope import gpu

    with gpu.sending() as sent:
        yield
    calls = ", ".join(f"{count} of {operation}" for operation, count in sorted(sent.items()))
    told = (
        f"calls on {gpu.default_device().info.name}: {calls}"
        if calls
        else "none of its operations has a way to a GPU"
    )
    print(f"{plan.paper.slug}: {told}; the rest ran on the CPU", file=sys.stderr)


def _tell_of_a_stopped_run(plan: Plan) -> None:
    """Say so if the last run of this experiment was killed: it cannot be continued, its file can be looked at."""
    directory = Path(os.environ.get("LOGITSCOPE_RUNS") or "runs")
    runs = record.list_runs(directory) if directory.is_dir() else []
    last = next((run for run in runs if run.meta.get("experiment") == plan.paper.slug), None)
    if last is not None and last.status == "stopped":
        line = f"the last run was stopped ({_short(last.path)} has what it recorded); this one starts anew"
        print(f"{plan.paper.slug}: {line}", file=sys.stderr)


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | bool | None) else repr(value)


def _short(path: Path) -> Path:
    """Show a path from here, if it is below here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
