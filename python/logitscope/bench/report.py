"""Results as tables for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from logitscope.bench.results import summarise
from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from logitscope.bench.results import CaseResult

_UNITS = {
    "read": "GB/s read",
    "copied": "GB/s copied",
    "written": "GB/s written",
    "exps": "Gexp/s",
    "flops": "GFLOP/s",
    "bf16_flops": "GFLOP/s of bfloat16",
}

_WIDE = 180


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A title, the names of the columns, and rows of texts."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def tables(results: Sequence[CaseResult]) -> list[Table]:
    """One table a group, and one of all groups if there are peers."""
    made = [_group(group, [r for r in results if r.group == group]) for group in _groups(results)]
    summary = _summary(results)
    return [*made, summary] if summary.rows else made


def _groups(results: Sequence[CaseResult]) -> list[str]:
    return list(dict.fromkeys(result.group for result in results))


def _group(group: str, results: Sequence[CaseResult]) -> Table:
    peers = sorted({peer for result in results for row in result.measured for peer in row.ratios})
    columns = ["shape", "who", "time", "quartiles", "of roofline", "of bandwidth", *peers, "best"]
    rows = []
    for result in results:
        shape = " x ".join(map(str, result.shape))
        for row in result.measured:
            ratios = [f"{row.ratios[peer].median:.2f}" if peer in row.ratios else "" for peer in peers]
            best = "" if row.best_ratio is None else f"{row.best_ratio:.2f}"
            low, high = _time(row.seconds.low), _time(row.seconds.high)
            shares = [f"{share:.0%}" if share else "" for share in (row.of_roofline, row.of_bandwidth)]
            rows.append(
                [shape, row.label, _time(row.seconds.median), f"{low} .. {high}", *shares, *ratios, best]
            )
            shape = ""
        limits = ", ".join(f"{rate / 1e9:.1f} {_UNITS[kind]}" for kind, rate in result.rates.items())
        rows.append(["", f"limits: {limits}", *[""] * (len(columns) - 2)])
    return Table(f"{group}, {results[0].dtype}: times of others over ours", columns, rows)


def _summary(results: Sequence[CaseResult]) -> Table:
    summaries = summarise(results)
    peers = sorted({peer for summary in summaries for peer in summary.ratio if peer != "best"})
    rows = []
    for summary in summaries:
        ratios = [f"{summary.ratio[p]:.2f}" if p in summary.ratio else "" for p in [*peers, "best"]]
        rows.append([summary.group, summary.label, str(summary.cases), *ratios, f"{summary.least:.2f}"])
    return Table(
        "geometric means of the ratios", ["group", "who", "cases", *peers, "best", "least of best"], rows
    )


def _time(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 0.9995:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def show(made: Sequence[Table]) -> None:
    """Print tables: drawn by rich if it is there, otherwise as Markdown."""
    if find_spec("rich") is None:
        print(markdown(made))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table as Drawn

    console = Console() if sys.stdout.isatty() else Console(width=_WIDE)
    for table in made:
        drawn = Drawn(title=table.title, title_justify="left", box=box.SIMPLE_HEAD)
        for index, name in enumerate(table.columns):
            drawn.add_column(name, justify="left" if index < 2 else "right")
        for row in table.rows:
            drawn.add_row(*row, style="dim" if row[1].startswith("limits") else None)
        console.print(drawn)


def markdown(made: Sequence[Table]) -> str:
    """Tables as a page."""
    lines = []
    for table in made:
        lines += [f"## {table.title}", "", _line(table.columns), _line(["---"] * len(table.columns))]
        lines += [*map(_line, table.rows), ""]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def require_writable(path: Path) -> None:
    """Raise before minutes of measuring if no file can be written there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        message = f"bench: {path} cannot be written ({error.strerror}); use the path of a file in a directory of yours"
        raise ArgumentError(message) from None


def write(path: Path, numbers: dict[str, Any], made: Sequence[Table]) -> None:
    """Write all numbers to a file, and the tables as a page beside it."""
    path.write_text(json.dumps({"format": 1, **numbers}, indent=1) + "\n", encoding="utf-8")
    machine, quick = numbers["machine"], "; a quick run" if numbers["quick"] else ""
    libraries = ", ".join(f"{name} {version}" for name, version in numbers["versions"].items())
    facts = f"{machine['cpu']}, {machine['isa']}, one thread; {numbers['date']}{quick}"
    if "device" in numbers:
        facts = f"{numbers['device']}; CPU {facts}"
    page = f"# logitscope bench {numbers['suite']}\n\n{facts}\n\n{libraries}\n\n{markdown(made)}"
    path.with_suffix(".md").write_text(page, encoding="utf-8")
