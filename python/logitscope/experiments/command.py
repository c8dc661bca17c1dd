"""The commands ``logitscope list`` and ``logitscope run``."""

from __future__ import annotations

import argparse
import ast
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitscope.errors import ArgumentError
from logitscope.experiments import running, verdicts
from logitscope.experiments.catalog import PAPERS
from logitscope.experiments.paper import AREAS, built_slugs, find_paper
from logitscope.experiments.running import Plan

if TYPE_CHECKING:
    from logitscope.experiments.paper import Paper
    from logitscope.experiments.running import Outcome

ALL = "all"

LIST_EXAMPLES = """examples:
  logitscope list                       the fifty papers, and which are built
  logitscope list --built               those that can be run
  logitscope list attention --json      those about attention, for a program"""

RUN_EXAMPLES = """examples:
  logitscope run polycom                the whole experiment, some minutes
  logitscope run polycom --smoke        a look at whether it runs, some seconds
  logitscope run z-loss --seed 7        one seed of your own
  logitscope run polycom --set steps=300
  logitscope run z-loss --device gpu    losses and attention on a GPU
  logitscope run all --verdicts docs/verdicts.md"""


def add_list_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``list``."""
    parser.add_argument(
        "word", nargs="*", metavar="WORD", help="only papers that have all these words somewhere"
    )
    parser.add_argument("--area", choices=AREAS, metavar="AREA", help=f"one of {', '.join(AREAS)}")
    parser.add_argument("--built", action="store_true", help="only those that can be run")
    parser.add_argument("--json", action="store_true", help="everything that is known of them, as JSON")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``run``."""
    parser.add_argument("slug", nargs="+", metavar="SLUG", help="papers by name, or all that are built: all")
    parser.add_argument("--smoke", action="store_true", help="seconds instead of minutes; decides nothing")
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=_seed, metavar="N", help="one seed only")
    seeds.add_argument(
        "--seeds", type=_seeds, metavar="LIST", help="seeds, separated by commas (default: 0,1,2)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_setting,
        metavar="NAME=VALUE",
        help="another value for an argument of the experiment, such as steps=300",
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "gpu"),
        default="cpu",
        help="where softmax, attention, losses and their like run that can run there (default: cpu)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write what was found to this file, as JSON")
    parser.add_argument("--run", type=Path, metavar="FILE", help="the run file to make (one SLUG only)")
    parser.add_argument(
        "--verdicts", type=Path, metavar="FILE", help="put the verdicts into this Markdown document, too"
    )


def run_list(arguments: argparse.Namespace) -> int:
    """Show the papers."""
    papers = [paper for paper in PAPERS if _is_wanted(paper, arguments)]
    if arguments.json:
        print(json.dumps([_facts(paper) for paper in papers], indent=1, ensure_ascii=False))
        return 0
    width = max((len(paper.slug) for paper in papers), default=0)
    for paper in papers:
        state = "built    " if paper.built else "not built"
        print(f"{paper.slug:{width}}  {state}  {paper.area:14}  {paper.year}  {paper.title}")
    built = sum(paper.built for paper in papers)
    told = f"{len(papers)} papers, {built} built: logitscope run SLUG"
    print(told if papers else "no paper is like that; logitscope list shows all", file=sys.stderr)
    return 0


def run_experiments(arguments: argparse.Namespace) -> int:
    """Run the experiments one after the other and print their verdicts."""
    # See `logitscope demo`: waiting threads of torch's pool shall sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    slugs = built_slugs() if ALL in arguments.slug else arguments.slug
    plans = [_plan(find_paper(slug), arguments) for slug in dict.fromkeys(slugs)]
    _check(plans, arguments)
    outcomes: list[Outcome] = []
    for index, plan in enumerate(plans):
        try:
            outcome = running.execute(plan)
        except KeyboardInterrupt:
            if len(plans) > 1:
                print(f"logitscope run: the rest: {_rest(plans[index:], arguments)}", file=sys.stderr)
            raise
        outcomes.append(outcome)
        print(running.summary(outcome), end="\n\n", flush=True)
        if arguments.out:
            _write(arguments.out, outcomes)
        if arguments.verdicts:
            verdicts.renew(arguments.verdicts, outcome)
    if len(outcomes) > 1:
        _tell_all(outcomes)
    return 0


def _plan(paper: Paper, arguments: argparse.Namespace) -> Plan:
    seeds = arguments.seeds if arguments.seed is None else (arguments.seed,)
    return Plan(paper, seeds, arguments.smoke, dict(arguments.set), arguments.run, arguments.device)


def _check(plans: list[Plan], arguments: argparse.Namespace) -> None:
    """Raise before the first minute for what cannot be done."""
    for plan in plans:
        running.arguments_of(plan)
    if arguments.run is not None and len(plans) > 1:
        message = f"--run: {len(plans)} experiments make as many run files; use it with one SLUG"
        raise ArgumentError(message)
    if arguments.verdicts and (arguments.smoke or arguments.set or arguments.seed is not None):
        message = "--verdicts: the document is for full runs; use it without --smoke, --set and --seed"
        raise ArgumentError(message)
    if arguments.out:
        _write(arguments.out, [])


def _is_wanted(paper: Paper, arguments: argparse.Namespace) -> bool:
    text = " ".join((paper.slug, paper.title, paper.authors, paper.area, paper.claim)).lower()
    return (
        all(word.lower() in text for word in arguments.word)
        and (arguments.area is None or paper.area == arguments.area)
        and (paper.built or not arguments.built)
    )


def _facts(paper: Paper) -> dict[str, Any]:
    fields = {name: getattr(paper, name) for name in paper.__dataclass_fields__}
    command = [sys.executable, "-m", "logitscope", "run", paper.slug] if paper.built else None
    return fields | {"url": paper.url, "built": paper.built, "command": command}


def _write(path: Path, outcomes: list[Outcome]) -> None:
    try:
        path.write_text(
            json.dumps([outcome.as_dict() for outcome in outcomes], indent=1) + "\n", encoding="utf-8"
        )
    except OSError as error:
        message = f"--out: {path} cannot be written ({error.strerror}); use a file in a directory of yours"
        raise ArgumentError(message) from None


def _rest(plans: list[Plan], arguments: argparse.Namespace) -> str:
    """Name the command for what was not done."""
    words = plans[0].command.split()
    words[2:3] = [plan.paper.slug for plan in plans]
    if arguments.verdicts:
        words += ["--verdicts", shlex.quote(str(arguments.verdicts))]
    return " ".join(words)


def _tell_all(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        word = "reproduced" if outcome.verdict.reproduced else "NOT reproduced"
        print(f"{outcome.plan.paper.slug}: {'runs' if outcome.plan.smoke else word}")


def _seed(text: str) -> int:
    """Read ``--seed``."""
    seed = int(text)
    if not 0 <= seed < 1 << 32:
        raise ValueError
    return seed


_seed.__name__ = "seed"


def _seeds(text: str) -> tuple[int, ...]:
    """Read ``--seeds``."""
    return tuple(dict.fromkeys(_seed(word) for word in text.split(",")))


_seeds.__name__ = "list of seeds"  # what argparse calls it in "invalid list of seeds value: 'x'"


def _setting(text: str) -> tuple[str, Any]:
    """Read ``--set``."""
    name, equals, value = text.partition("=")
    if not equals:
        msg = f"{text!r} sets nothing; use NAME=VALUE"
        raise argparse.ArgumentTypeError(msg)
    try:
        return name.strip(), ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name.strip(), value
