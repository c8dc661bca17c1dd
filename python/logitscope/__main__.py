"""The command ``logitscope``."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, NoReturn

from logitscope import __version__
from logitscope.errors import LogitscopeError

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE_ERROR = 2
INTERRUPTED = 130

_EXAMPLES = """examples:
  logitscope demo                    train a small language model and watch it live
  logitscope dashboard               show the runs in ./runs
  logitscope dashboard my.scope      show one run
  logitscope bench softmax           measure it beside torch, JAX and SciPy
  logitscope list                    the papers, and which can be run
  logitscope run polycom             run a paper's experiment and say what it found
  logitscope info                    what to put into a bug report

logitscope COMMAND --help says more of each."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    Examples
    --------
    >>> from logitscope.__main__ import main
    >>> main(["info"])  # doctest: +ELLIPSIS
    logitscope ...
    0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words[:1] == ["dashboard"]:
            return _dashboard(words[1:])
        arguments = _parser().parse_args(words)
        code: int = arguments.action(arguments)
    except LogitscopeError as error:
        print(f"logitscope {words[0]}: {' '.join(str(error).split())}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Who read the output has left, as `| head` does; nothing is to be said to them at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    return code


class _Parser(argparse.ArgumentParser):
    """Answers a wrong option in one line; the whole usage is what ``--help`` is for."""

    def error(self, message: str) -> NoReturn:
        """Print the line and leave."""
        self.exit(USAGE_ERROR, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    from logitscope.bench import command as bench
    from logitscope.demo import command as demo
    from logitscope.experiments import command as experiments
    from logitscope.record import command as files

    parser = _Parser(
        prog="logitscope",
        description="Fast softmax, attention and loss cores, and a live scope for what the logits do.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"logitscope {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, add_arguments, action, help_, description, examples in (
        (
            "demo",
            demo.add_arguments,
            _demo,
            "train a small language model and watch it live",
            "Train a small language model with the cores, record it, and watch it live.",
            demo.EXAMPLES,
        ),
        (
            "list",
            experiments.add_list_arguments,
            experiments.run_list,
            "the papers of the catalogue, and which can be run",
            "Show the papers of the catalogue, and which of them can be run.",
            experiments.LIST_EXAMPLES,
        ),
        (
            "run",
            experiments.add_run_arguments,
            experiments.run_experiments,
            "run the experiment of a paper and say what it found",
            "Run experiments: each measures what its paper claims, records it, and says what it found.",
            experiments.RUN_EXAMPLES,
        ),
        (
            "export",
            files.add_export_arguments,
            _export,
            "write a run as CSV, Parquet, TensorBoard files or a picture",
            "Write the values of a run in the format of another program, or a picture of it.",
            files.EXPORT_EXAMPLES,
        ),
        (
            "import",
            files.add_import_arguments,
            files.run_import,
            "make run files of TensorBoard's and W&B's files",
            "Make run files of TensorBoard's event files and W&B's offline runs: scalars, histograms and texts.",
            files.IMPORT_EXAMPLES,
        ),
        (
            "migrate",
            files.add_migrate_arguments,
            files.run_migrate,
            "bring run files of earlier versions to the newest format",
            "Change run files of earlier formats in place; they are read without that, too.",
            files.MIGRATE_EXAMPLES,
        ),
        (
            "compact",
            files.add_compact_arguments,
            files.run_compact,
            "make one file of a run whose process was killed",
            "Take over what a killed run has beside its file (-tail, -wal), so that the file alone can be copied.",
            files.COMPACT_EXAMPLES,
        ),
        (
            "bench",
            bench.add_arguments,
            bench.run,
            "measure operations beside torch, JAX, SciPy and what the machine can do",
            "Measure operations beside torch, JAX and SciPy, those that are installed, and beside what one "
            "thread of this machine can do at most.",
            bench.EXAMPLES,
        ),
    ):
        command = commands.add_parser(
            name,
            help=help_,
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_arguments(command)
        command.set_defaults(action=action)
    # Its arguments go to the dashboard as they are (see `main`); here it is for the list of commands.
    commands.add_parser("dashboard", help="show runs, live and finished")
    info = commands.add_parser("info", help="versions, instruction sets, threads, GPUs")
    info.set_defaults(action=lambda _: _info())
    return parser


def _demo(arguments: argparse.Namespace) -> int:
    from logitscope.demo import command

    if find_spec("torch") is None:
        print("logitscope demo: needs torch: pip install logitscope[torch]", file=sys.stderr)
        return USAGE_ERROR
    return command.run(arguments)


def _export(arguments: argparse.Namespace) -> int:
    from logitscope.record import command

    if arguments.format not in (*command.PICTURES, *command.FILMS):
        return command.run_export(arguments)
    is_film, target = arguments.format in command.FILMS, command.target_of(arguments)
    code = _dashboard([str(arguments.run), "--film" if is_film else "--screenshot", str(target)])
    if code == 0:
        print(f"{target}: {'a film' if is_film else 'a picture'} of the dashboard")
    return code


def _dashboard(words: Sequence[str]) -> int:
    if find_spec("logitscope_app") is None:
        print("logitscope dashboard: needs the dashboard: pip install logitscope[app]", file=sys.stderr)
        return USAGE_ERROR
    from logitscope_app.__main__ import main as dashboard

    return dashboard(words)


def _info() -> int:
    from logitscope import info

    facts = info()
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:{width}}  {fact}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
