"""The command ``logitscope demo``."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from logitscope.demo.settings import Settings
from logitscope.methods import find_method, method_names

if TYPE_CHECKING:
    from logitscope.data import TextData
    from logitscope.methods import Kind

PICTURE = Path("demo.png")
INTERRUPTED = 130
CHOICES: tuple[Kind, ...] = ("attention", "activation", "loss", "optimizer")
FINAL_WINDOWS = 256
FINAL_CHARACTERS = 400

EXAMPLES = """examples:
  logitscope demo                        train on Python's own documentation and open the dashboard
  logitscope demo --text my-novel.txt    train on your own text
  logitscope demo --activation polynorm --loss stablemax --optimizer perpgrad
  logitscope demo --device gpu           run attention and cross entropy on a GPU
  logitscope demo --compare              also train with torch's attention, and print both step times
  logitscope demo --no-window            draw the dashboard into demo.png at the end instead"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    default = Settings()
    parser.add_argument("--text", type=Path, metavar="FILE", help="train on this UTF-8 text instead")
    parser.add_argument(
        "--steps", type=_positive, default=default.steps, metavar="N", help="updates (default: %(default)s)"
    )
    for kind in CHOICES:
        names = ", ".join(method_names(kind))
        parser.add_argument(
            f"--{kind}",
            default=getattr(default, kind),
            metavar="NAME",
            help=f"one of {names} (default: %(default)s)",
        )
    parser.add_argument(
        "--device",
        choices=("cpu", "gpu"),
        default=default.device,
        help="where attention and cross entropy, with any link, run (default: %(default)s)",
    )
    parser.add_argument(
        "--compare",
        action="store_true",
        help="do the first steps with torch's attention and cross entropy too; print both step times",
    )
    parser.add_argument(
        "--no-window", action="store_true", help="open no window; draw the dashboard into demo.png at the end"
    )
    parser.add_argument(
        "--run",
        "--out",
        type=Path,
        metavar="FILE",
        help="the run file to make (default: runs/demo-<time>.scope, or below LOGITSCOPE_RUNS)",
    )
    parser.add_argument("--seed", type=int, default=default.seed, metavar="N", help="(default: %(default)s)")
    for name in ("layers", "heads", "width", "context", "batch"):
        parser.add_argument(
            f"--{name}",
            type=_positive,
            default=getattr(default, name),
            metavar="N",
            help="of the model (default: %(default)s)",
        )


def run(arguments: argparse.Namespace) -> int:
    """Do what the options say; returns the exit code."""
    # Waiting threads of torch's pool shall sleep. By default they spin, which takes the cores from the kernels
    # here and from the dashboard; with other programs running, training was measured to be four times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from logitscope.data import text_file, topics
    from logitscope.demo.learner import model_config
    from logitscope.errors import ArgumentError

    if arguments.compare and arguments.attention == "torch":
        message = "--compare: --attention is torch already; use another, such as softmax"
        raise ArgumentError(message)
    if arguments.compare and arguments.loss != "cross_entropy":
        message = f"--compare: torch has no {arguments.loss!r}; use --loss cross_entropy"
        raise ArgumentError(message)
    for kind in CHOICES:
        find_method(kind, getattr(arguments, kind))
    settings = Settings(
        steps=arguments.steps,
        seed=arguments.seed,
        **{kind: getattr(arguments, kind) for kind in CHOICES},
        device=arguments.device,
        compare=arguments.compare,
        layers=arguments.layers,
        heads=arguments.heads,
        width=arguments.width,
        context=arguments.context,
        batch=arguments.batch,
    )
    if settings.device == "gpu":
        from logitscope import gpu

        gpu.default_device()  # which raises before the training if there is none
    text = topics() if arguments.text is None else text_file(arguments.text)
    text.require(settings.context)
    model_config(settings, text, settings.attention)
    check_run_path(arguments.run)
    return _train(settings, text, arguments)


def check_run_path(path: Path | None) -> None:
    """Raise before an hour of training if no run file can be made there."""
    from logitscope.errors import ArgumentError

    file = path or Path(os.environ.get("LOGITSCOPE_RUNS") or "runs") / "demo.scope"
    problem = None
    if path is not None and path.is_dir():
        problem = f"{path} is a directory"
    elif path is not None and path.exists():
        problem = f"{path} exists already"
    else:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=file.parent).close()
        except OSError as error:
            # A full disk stops no training: the recorder waits for room.
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                problem = f"{file.parent} cannot be written to ({error.strerror})"
    if problem:
        message = f"--run: {problem}; give the path of a new file in a directory of yours"
        raise ArgumentError(message)


def _train(settings: Settings, text: TextData, arguments: argparse.Namespace) -> int:
    import numpy as np
    import torch

    import logitscope
    from logitscope import record
    from logitscope.demo.dashboard import Dashboard
    from logitscope.demo.progress import progress
    from logitscope.demo.training import Training

    meta: dict[str, object] = {
        "text": text.name,
        "characters": len(text.train) + len(text.validation),
        "model": f"GPT, {settings.layers} layers, {settings.heads} heads, width {settings.width}, "
        f"context {settings.context}",
        **{kind: getattr(settings, kind) for kind in CHOICES},
        "seed": settings.seed,
        "logitscope": logitscope.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    start = time.monotonic()
    training = None
    with progress(settings.steps) as bar:
        try:
            with record.start("demo", path=arguments.run, meta=meta) as scope:
                dashboard = Dashboard(scope.path, window=not arguments.no_window)
                bar.say(f"{meta['model']}; text: {text.name}, {meta['characters']:,} characters")
                bar.say(f"run: {_short(scope.path)}; {dashboard.open()}")
                training = Training(settings, text, scope, bar)
                training.run()
        except KeyboardInterrupt:  # the recorder has marked the run as stopped
            if training is None:
                raise
    interrupted = training.steps_done < settings.steps
    loss = training.learner.validate(FINAL_WINDOWS)
    sample = training.learner.write(FINAL_CHARACTERS)
    seconds = int(time.monotonic() - start)
    print(f"{training.steps_done} steps in {seconds // 60}:{seconds % 60:02d} minutes", file=sys.stderr)
    if scope.dropped:
        lost = ", ".join(f"{count} of kind {kind}" for kind, count in scope.dropped.items())
        print(f"not recorded, since the run file could not be written: {lost}", file=sys.stderr)
    picture = None if interrupted else dashboard.finish(PICTURE)
    if picture:
        print(picture, file=sys.stderr)
    print(f"the model writes:\n{sample.strip()}\n")
    unit = "nats/char" if settings.loss == "cross_entropy" else f"of {settings.loss}"
    print(f"validation loss: {loss:.3f} {unit}, run: {_short(scope.path)}")
    return INTERRUPTED if interrupted else 0


def _short(path: Path) -> Path:
    """Show a path from here, if it is below here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        message = f"{number} is too small; use 1 or more"
        raise argparse.ArgumentTypeError(message)
    return number


_positive.__name__ = "whole number"  # what argparse calls it in "invalid whole number value: 'x'"
