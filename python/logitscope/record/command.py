"""The commands ``logitscope export``, ``import``, ``migrate`` and ``compact``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from logitscope.record.compact import compact_run
from logitscope.record.export import FORMATS, export_run
from logitscope.record.migrate import migrate_run
from logitscope.record.reader import RunReader
from logitscope.record.schema import VERSION

if TYPE_CHECKING:
    import argparse

PICTURES = ("png", "svg")
FILMS = ("apng",)
EXPORT_EXAMPLES = """examples:
  logitscope export runs/my.scope                        my.csv: the scalars, a row a value
  logitscope export runs/my.scope --format tensorboard   a directory for TensorBoard
  logitscope export runs/my.scope --format svg           a picture of the dashboard
  logitscope export runs/my.scope --format apng          a film of it: an animated PNG that goes through the run"""
MIGRATE_EXAMPLES = """examples:
  logitscope migrate runs/*.scope                        files of earlier formats; others are left as they are"""
COMPACT_EXAMPLES = """examples:
  logitscope compact runs/my.scope                       of a killed run: one file, which can be copied alone"""
IMPORT_EXAMPLES = """examples:
  logitscope import lightning_logs                       a run file for each directory of event files
  logitscope import events.out.tfevents.1 --out runs
  logitscope import wandb                                a run file for each offline run of W&B"""


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``export``."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a run file")
    parser.add_argument(
        "--format", choices=(*FORMATS, *PICTURES, *FILMS), default="csv", help="(default: csv)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="PATH", help="what to make (default: beside the run file)"
    )


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``import``."""
    parser.add_argument(
        "source",
        type=Path,
        metavar="PATH",
        help="a TensorBoard event file, a W&B run-*.wandb, or a directory",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIRECTORY", help="where the run files go (default: runs)"
    )


def add_migrate_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``migrate``."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run files, changed in place")


def add_compact_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``compact``."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run files, changed in place")


def run_compact(arguments: argparse.Namespace) -> int:
    """Make one file of each run."""
    for run in arguments.runs:
        count = compact_run(run)
        print(f"{run}: one file" + (f", {count} rows taken over from its tail" if count else ""))
    return 0


def run_migrate(arguments: argparse.Namespace) -> int:
    """Bring run files to the newest format."""
    for run in arguments.runs:
        found = migrate_run(run)
        told = "has the newest format" if found == VERSION else f"format {found} -> {VERSION}"
        print(f"{run}: {told}")
    return 0


def target_of(arguments: argparse.Namespace) -> Path:
    """What ``export`` makes."""
    run: Path = arguments.run
    suffix = "-tensorboard" if arguments.format == "tensorboard" else f".{arguments.format}"
    target: Path = arguments.out or run.with_name(run.stem + suffix)
    return target


def run_export(arguments: argparse.Namespace) -> int:
    """Write values in another format."""
    target = target_of(arguments)
    with RunReader(arguments.run) as run:
        if run.info.status != "finished" and run.info.message:
            print(f"{arguments.run}: {run.info.message}", file=sys.stderr)
    counts = export_run(arguments.run, target, format=arguments.format)
    left = counts.pop("left out", 0)
    told = [f"{count} {kind}s" for kind, count in counts.items()]
    told += [f"{left} other values left out"] if left else []
    print(f"{target}: {', '.join(told) or 'the run holds nothing'}")
    return 0


def run_import(arguments: argparse.Namespace) -> int:
    """Make run files of TensorBoard's and W&B's."""
    from logitscope.record import tensorboard, wandb_import

    source: Path = arguments.source
    if source.suffix == ".wandb" or (source.is_dir() and any(source.rglob(wandb_import.FILES))):
        made = wandb_import.import_wandb(source, arguments.out)
        if source.is_dir() and any(source.rglob(tensorboard.FILES)):
            made += tensorboard.import_tensorboard(source, arguments.out)
    else:
        made = tensorboard.import_tensorboard(source, arguments.out)
    for path in made:
        print(path)
    return 0
