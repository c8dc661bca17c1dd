"""What was measured as a run file: the dashboard shows it as bars, lines and facts."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope import __version__, record
from logitscope.bench import machine, report, suites
from logitscope.bench.peers import numpy_dtype
from logitscope.bench.suites.gpu import COPIED, LIMIT, ON_CPU, THERE
from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from logitscope.bench.results import CaseResult, Measured
    from logitscope.record import Recorder

FACTS = "Machine"
_UNITS = (("s", 1.0), ("ms", 1e3), ("us", 1e6))
_SPREAD = 10.0
"""Cases share an axis while the slowest contender of one takes at most so many times as long as that of another."""
_SIDES = {"linear_cross_entropy": "rows x width x classes", "attention": "heads x queries x size"}
"""What the numbers of a shape are, where they are not rows and columns."""
_STEP = 0


@contextmanager
def started(suite: str, path: Path | None) -> Iterator[Recorder]:
    """Begin the run file, before minutes of measuring; what goes wrong in them is said in it, too."""
    if path is not None and not path.exists():
        report.require_writable(path)
        path.unlink()
    meta = {"suite": suite, "CPU": machine.cpu_name(), "logitscope": __version__}
    with record.start(f"bench-{suite}", path=path, meta=meta) as scope:
        if not scope.path.is_file():
            message = (
                f"bench: {scope.path} cannot be written; use the path of a new file in a directory of yours"
            )
            raise ArgumentError(message)
        yield scope


def facts(head: Mapping[str, Any]) -> dict[str, str]:
    """Machine, device and versions in words; ``head`` is what the file of numbers begins with."""
    about = head["machine"]
    caches = ", ".join(f"{name} {size >> 10:,} KiB" for name, size in about["caches"].items())
    load = head["load_before"]
    return {
        "measured": f"{head['date']}{', quickly' if head['quick'] else ''}",
        **suites.facts(head["suite"]),
        "CPU": f"{about['cpu']}, {about['isa']}, one thread",
        "caches": caches or "unknown",
        "load before": "unknown" if load is None else f"{load:.1f} processes",
        "system": f"{about['platform']}, Python {about['python']}",
        "libraries": ", ".join(f"{name} {version}" for name, version in head["versions"].items()),
    }


def write(scope: Recorder, results: Sequence[CaseResult], facts: Mapping[str, str]) -> None:
    """Declare panels, a view a group, and record what they show; the first panels of a view get most room."""
    for group in dict.fromkeys(result.group for result in results):
        members = [result for result in results if result.group == group]
        if _is_sent(members[0]):
            _break_even(scope, group, members)
            _bandwidths(scope, group, members)
            _shares_of_limits(scope, group, members)
            _sent_times(scope, group, members)
        else:
            _ratios(scope, group, members)
            _shares_of_roofline(scope, group, members)
            _times(scope, group, members)
    width = max(map(len, facts), default=0)
    scope.text("facts", "\n".join(f"{name:<{width}}  {fact}" for name, fact in facts.items()), _STEP)
    scope.panel("What was measured on", "text", ["facts"], group=FACTS)


def _is_sent(result: CaseResult) -> bool:
    """Whether arrays were copied to a GPU and back."""
    return any(row.name == COPIED for row in result.measured)


def _times(scope: Recorder, group: str, results: Sequence[CaseResult]) -> None:
    for members in _alike(results):
        _bars_of_times(scope, group, members, "Medians of the rounds; all take turns.", _beside)


def _sent_times(scope: Recorder, group: str, results: Sequence[CaseResult]) -> None:
    notes = (
        "Medians of the rounds. The copies there and back lie on the time that the GPU computes, "
        "none where it is within the noise."
    )
    for result in results:
        _bars_of_times(scope, group, [result], notes, _parts, stacked=True)


def _bars_of_times(
    scope: Recorder,
    group: str,
    results: Sequence[CaseResult],
    notes: str,
    bars: Callable[[CaseResult], Iterator[tuple[str, float]]],
    **options: Any,
) -> None:
    longest = max(map(_slowest, results))
    unit, factor = next((each for each in _UNITS if longest * each[1] >= 1), _UNITS[-1])
    values = {
        f"time/{unit}/{group}/{_shape(result)}/{name}": factor * seconds
        for result in results
        for name, seconds in bars(result)
    }
    sizes = list(dict.fromkeys(map(_shape, results)))
    title = f"Time, {sizes[0]}" + (f" to {sizes[-1]}" if len(sizes) > 1 else "")
    _bars(scope, title, values, group, unit.replace("u", "µ"), notes, **options)


def _alike(results: Sequence[CaseResult]) -> list[list[CaseResult]]:
    """Cases that can be read on one axis; what is quick comes first."""
    made: list[list[CaseResult]] = []
    for result in sorted(results, key=_slowest):
        if made and _slowest(result) <= _SPREAD * _slowest(made[-1][0]):
            made[-1].append(result)
        else:
            made.append([result])
    return [sorted(members, key=results.index) for members in made]


def _slowest(result: CaseResult) -> float:
    return max(row.seconds.median for row in result.measured)


def _beside(result: CaseResult) -> Iterator[tuple[str, float]]:
    """A colour a contender."""
    for row in result.measured:
        yield row.label, row.seconds.median


def _parts(result: CaseResult) -> Iterator[tuple[str, float]]:
    """A bar a contender; the copies there and back as a part of the GPU's."""
    seconds = {row.name: row.seconds.median for row in result.measured}
    for name in seconds:
        if name != COPIED:
            yield f"{name}/computation", seconds[name]
    yield f"{THERE}/copies there and back", max(0.0, seconds[COPIED] - seconds[THERE])


def _ratios(scope: Recorder, group: str, results: Sequence[CaseResult]) -> None:
    values = {
        f"ratio/{group}/{_shape(result)}/{row.label}": row.best_ratio
        for result in results
        for row in result.measured
        if row.best_ratio is not None
    }
    notes = "The time of the fastest of the others over ours: above 1 we are faster."
    _bars(scope, "Against the best peer", values, group, "times as fast", notes, y_marks={"as fast": 1.0})


def _shares_of_roofline(scope: Recorder, group: str, results: Sequence[CaseResult]) -> None:
    values = {
        f"roofline/{group}/{_shape(result)}/{row.label}": 100 * row.of_roofline
        for result in results
        for row in result.measured
    }
    notes = "The least time that memory and arithmetic of this machine allow, over the time taken."
    _bars(scope, "Share of the roofline", values, group, "%", notes, y_marks={"limit": 100.0})


def _shares_of_limits(scope: Recorder, group: str, results: Sequence[CaseResult]) -> None:
    there = {_shape(result): _row(result, THERE).ratios for result in results}
    notes = (
        "The time that the card takes for it alone over that of the computation, its arrays there already."
    )
    for limit in sorted({peer for ratios in there.values() for peer in ratios if peer.startswith(LIMIT)}):
        values = {
            f"limit/{group}/{shape}/{limit}": 100 * ratios[limit].median
            for shape, ratios in there.items()
            if limit in ratios
        }
        _bars(scope, f"Share of the {limit}", values, group, "%", notes, y_marks={"limit": 100.0})


def _break_even(scope: Recorder, group: str, results: Sequence[CaseResult]) -> None:
    length, count = Counter(result.shape[-1] for result in results).most_common(1)[0]
    # A line through rows of several lengths would go up and down without a reason that is seen.
    drawn = [result for result in results if result.shape[-1] == length or count == 1]
    ordered = sorted(drawn, key=lambda result: math.prod(result.shape))
    values = {
        words: [(math.prod(r.shape), _row(r, name).ratios[ON_CPU].median) for r in ordered]
        for words, name in (("arrays there already", THERE), ("with copies there and back", COPIED))
    }
    notes = "The CPU's time over the GPU's. Sending pays where the line with copies is above the break-even."
    sides = _SIDES.get(results[0].name, "rows x columns")
    marks = {"break-even": 1.0}
    _curves(
        scope, "GPU against CPU", "break_even", values, group, sides, "times as fast", notes, y_marks=marks,
        log_y=True,
    )  # fmt: skip


def _bandwidths(scope: Recorder, group: str, results: Sequence[CaseResult]) -> None:
    """Of what is limited by memory: an array is read and one written."""
    by_length: dict[int, CaseResult] = {}
    for result in sorted(results, key=lambda result: math.prod(result.shape)):
        if result.rates.get("copied") and len(result.shape) == 2:
            by_length[result.shape[-1]] = result
    if not by_length:
        return
    values: dict[str, list[tuple[float, float]]] = {}
    for length, result in sorted(by_length.items()):
        moved = 2e-9 * math.prod(result.shape) * numpy_dtype(result.dtype).itemsize
        for row in result.measured:
            values.setdefault(row.label, []).append((length, moved / row.seconds.median))
    notes = "Bytes read and written in a second, in the largest array of each row length."
    _curves(scope, "Bandwidth", "bandwidth", values, group, "numbers in a row", "GB/s", notes, log_y=True)


def _bars(
    scope: Recorder,
    title: str,
    values: Mapping[str, float],
    group: str,
    unit: str,
    notes: str,
    **options: Any,
) -> None:
    if values:
        scope.scalars(values, _STEP)
        scope.panel(title, "bars", list(values), group=_view(group), y_label=unit, notes=notes, **options)


def _curves(
    scope: Recorder,
    title: str,
    folder: str,
    values: Mapping[str, Iterable[tuple[float, float]]],
    group: str,
    x_label: str,
    unit: str,
    notes: str,
    **options: Any,
) -> None:
    arrays = {f"{folder}/{group}/{name}": np.array(points).T for name, points in values.items()}
    scope.arrays(arrays, _STEP)
    scope.panel(
        title, "scatter", list(arrays), group=_view(group), x_label=x_label, y_label=unit, notes=notes,
        joined=True, log_x=True, **options,
    )  # fmt: skip


def _row(result: CaseResult, name: str) -> Measured:
    return next(row for row in result.measured if row.name == name)


def _shape(result: CaseResult) -> str:
    """As ``--sizes`` takes it."""
    return "x".join(map(str, result.shape))


def _view(group: str) -> str:
    """The name of a view, as the dashboard writes the others."""
    words = group.replace("_", " ")
    return words[:1].upper() + words[1:]
