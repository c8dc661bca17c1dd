"""The command ``logitscope bench``."""

from __future__ import annotations

import argparse
import datetime
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitscope import __version__
from logitscope.bench import accuracy, machine, memory, report, statistics, suites
from logitscope.bench.cases import IN_CACHE, Settings
from logitscope.bench.peers import DTYPES, Peers, as_array
from logitscope.bench.progress import Progress
from logitscope.bench.results import CaseResult, evaluate, summarise
from logitscope.bench.roofline import Roofline
from logitscope.bench.timing import take_turns
from logitscope.errors import ArgumentError, DTypeError, LogitscopeError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from logitscope.bench.cases import Case, Contender
    from logitscope.record import Recorder

ACCURACY, MEMORY, STATISTICS = "accuracy", "memory", "statistics"
_UNTIMED = (ACCURACY, MEMORY)
_OWN = (*_UNTIMED, STATISTICS)
"""What has arrays of its own."""
RESULTS = Path("benches/results")
_IN_RUNS = Path()
"""``--record`` without a file."""
BUSY = 0.5
ROUNDING = {"float16": 2e-3, "bfloat16": 2e-2}
"""How far results in 16 bits may lie apart: peers round more often than once."""

EXAMPLES = """examples:
  logitscope bench softmax               the whole suite, some minutes; on a machine that does nothing else
  logitscope bench loss --quick          a first impression
  logitscope bench softmax --sizes 64x1000,1x1000000 --dtype float64
  logitscope bench softmax --save        keep the results in benches/results/<cpu>/
  logitscope bench softmax --record      for the dashboard, in ./runs
  logitscope bench accuracy              errors in units in the last place, ours beside torch's
  logitscope bench memory                peak memory of a linear layer with its loss, beside torch's
  logitscope bench statistics            what the statistics of attention cost in time and memory"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    names = [*suites.NAMES, *_OWN]
    parser.add_argument("suite", metavar="SUITE", choices=names, help=f"one of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="few rounds; the same cases")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", metavar="NAME", help=f"one of {', '.join(DTYPES)}"
    )
    parser.add_argument(
        "--sizes",
        type=_sizes,
        metavar="LIST",
        help="ROWSxCOLUMNS, or COLUMNS for rows of a million elements together; separated by commas",
    )
    parser.add_argument("--json", "--out", type=Path, metavar="FILE", help="write all numbers to this file")
    parser.add_argument(
        "--save",
        type=Path,
        nargs="?",
        const=RESULTS,
        metavar="DIR",
        help=f"keep numbers and tables below this directory (default: {RESULTS}), by the name of the CPU",
    )
    parser.add_argument(
        "--record",
        type=Path,
        nargs="?",
        const=_IN_RUNS,
        metavar="FILE",
        help="write a run file for the dashboard (default: runs/bench-SUITE-<time>.scope)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what the options say; returns the exit code."""
    files = [file for file in (arguments.json, _saved(arguments)) if file is not None]
    for file in files:
        report.require_writable(file)
    timed = arguments.suite not in _UNTIMED
    if arguments.suite in _OWN and arguments.sizes:
        message = f"{arguments.suite} has arrays of its own; use it without --sizes"
        raise ArgumentError(message)
    if arguments.suite in _OWN and arguments.suite != MEMORY and arguments.dtype != "float32":
        message = f"{arguments.suite} has arrays of its own, in float32; use it without --dtype"
        raise ArgumentError(message)
    if arguments.suite in _OWN and arguments.record:
        message = f"{arguments.suite} has a table alone, nothing to draw; use it without --record, or --json"
        raise ArgumentError(message)
    settings = Settings(dtype=arguments.dtype, sizes=arguments.sizes)
    if arguments.quick:
        settings = Settings(dtype=arguments.dtype, sizes=arguments.sizes, seconds=0.8, least_rounds=3)
    load = machine.load()
    with _recorder(arguments) as scope, machine.one_thread() as cpu:
        if load is not None and load > BUSY and timed:
            _say(f"{load:.1f} processes want a CPU on average; measure on a machine that does nothing else")
        machine.age_memory()
        peers = Peers.load() if timed else Peers.load(("torch",))
        for name, reason in peers.missing.items():
            _say(f"{name} is not measured: {reason}")
        head = {
            "suite": arguments.suite,
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": machine.describe(cpu),
            "load_before": load,
            "versions": {"logitscope": __version__, **peers.versions},
            "missing": peers.missing,
            "quick": arguments.quick,
        }
        numbers, tables, results = _measured(arguments.suite, settings, peers)
        device = suites.measured_on(arguments.suite)
        if device is not None:
            head["device"] = device
            _say(f"measured on {device}")
        if scope is not None:
            from logitscope.bench import recording

            recording.write(scope, results, recording.facts(head))
    report.show(tables)
    for file in files:
        report.write(file, head | numbers, tables)
        _say(f"wrote {file}")
    if scope is not None:
        _say(f"wrote {scope.path}; logitscope dashboard shows it")
    return 0


def _recorder(arguments: argparse.Namespace) -> AbstractContextManager[Recorder | None]:
    if arguments.record is None:
        return nullcontext()
    from logitscope.bench import recording  # which imports what only a run file needs

    return recording.started(arguments.suite, None if arguments.record == _IN_RUNS else arguments.record)


def _measured(
    suite: str, settings: Settings, peers: Peers
) -> tuple[dict[str, Any], list[report.Table], list[CaseResult]]:
    if suite == ACCURACY:
        errors = accuracy.measure(peers.torch)
        return {"results": list(map(asdict, errors))}, [accuracy.table(errors)], []
    if suite == MEMORY:
        peaks = memory.measure(dtype=settings.dtype)
        return {"results": list(map(asdict, peaks))}, [memory.table(peaks, settings.dtype)], []
    if suite == STATISTICS:
        checks = statistics.measure(settings)
        numbers = [{**asdict(check), "met": check.met} for check in checks]
        return {"results": numbers}, [statistics.table(checks)], []
    results = measure(suite, settings, peers)
    summary = summarise(results)
    kept = {"summary": list(map(asdict, summary)), "results": list(map(asdict, results))}
    return kept, report.tables(results), results


def _saved(arguments: argparse.Namespace) -> Path | None:
    """Where ``--save`` keeps the numbers; the tables go beside them."""
    if arguments.save is None:
        return None
    name = arguments.suite if arguments.dtype == "float32" else f"{arguments.suite}-{arguments.dtype}"
    return Path(arguments.save / machine.slug() / f"{name}.json")


def _say(line: str) -> None:
    print(f"logitscope bench: {line}", file=sys.stderr)


def measure(suite: str, settings: Settings, peers: Peers) -> list[CaseResult]:
    """Measure the cases of a suite, one after the other."""
    cases = list(suites.cases(suite, settings, peers))
    results = []
    with Progress(len(cases)) as bar:
        for index, case in enumerate(cases):
            bar.begin(index, case.title)
            results.append(measure_case(case, settings, bar.tick))
    return results


def measure_case(
    case: Case, settings: Settings, tick: Callable[[float], None] = lambda _: None
) -> CaseResult:
    """Measure one case, after a look at whether all contenders give the same answer."""
    try:
        contenders = case.make()
        _compare(case, contenders)
    except DTypeError as error:
        message = f"bench: {case.title} cannot be measured: {error}"
        raise DTypeError(message) from None
    roofline = Roofline(case.work, contenders)
    runs = {contender.label: contender.run for contender in contenders}
    times = take_turns({**runs, **roofline.runs}, settings, tick)
    return evaluate(case, contenders, times, roofline.rates(times), roofline.own_rates(times))


class WrongAnswerError(LogitscopeError):
    """Contenders that do not compute the same."""


def _compare(case: Case, contenders: list[Contender]) -> None:
    first, *others = contenders
    wanted = as_array(first.answer(first.run()))
    largest = abs(wanted).max()
    tolerance = max(case.tolerance, ROUNDING.get(case.dtype, 0.0))
    for other in others:
        error = abs(as_array(other.answer(other.run())) - wanted).max() / largest
        if not error <= tolerance:
            message = (
                f"bench: {case.title}: {other.label} and {first.label} differ by {error:.1e} of the largest "
                f"element; use a version that computes the same (at most {tolerance:.0e})"
            )
            raise WrongAnswerError(message)


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Read ``--sizes``."""
    sizes = []
    for word in text.split(","):
        first, cross, second = word.strip().partition("x")
        columns = int(second if cross else first)
        rows = int(first) if cross else max(1, IN_CACHE // max(columns, 1))
        if rows < 1 or columns < 1:
            message = f"{word!r} has no elements; use 1 or more"
            raise argparse.ArgumentTypeError(message)
        sizes.append((rows, columns))
    return tuple(sizes)


_sizes.__name__ = "list of sizes"  # what argparse calls it in "invalid list of sizes value: 'x'"
