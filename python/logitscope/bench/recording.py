"""What was measured as a run file: the dashboard shows it as bars, lines and facts."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from logitscope import __version__, record
from logitscope.bench import cpu_panels, gpu_panels, machine, report, suites
from logitscope.bench.plots import STEP
from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from logitscope.bench.results import CaseResult
    from logitscope.record import Recorder

FACTS = "Machine"


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
        panels = gpu_panels if gpu_panels.fits(members[0]) else cpu_panels
        panels.declare(scope, group, members)
    width = max(map(len, facts), default=0)
    scope.text("facts", "\n".join(f"{name:<{width}}  {fact}" for name, fact in facts.items()), STEP)
    scope.panel("What was measured on", "text", ["facts"], group=FACTS)
