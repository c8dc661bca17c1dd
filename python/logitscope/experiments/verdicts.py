"""The document of verdicts: one entry a paper, renewed entry by entry, so that no run need be done again."""

from __future__ import annotations

import datetime
import json
import os
from typing import TYPE_CHECKING, Any

from logitscope.bench.machine import cpu_name
from logitscope.errors import ArgumentError
from logitscope.experiments.catalog import PAPERS
from logitscope.experiments.progress import clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from logitscope.experiments.running import Outcome

_HEAD = """# Verdicts

What the experiments of this repository found, each in a full run on the day and machine that it names. To renew all:

```console
$ logitscope run all --verdicts docs/verdicts.md
```

With a slug for `all` it renews one. `{data}` beside it has every figure. A claim is *reproduced* if all its checks
hold, whose limits were set before the run. The margin is by what share of its limit the check that is met least is met.
Figures are means over the seeds unless they say otherwise.
"""


def renew(path: Path, outcome: Outcome) -> None:
    """Put a verdict into the document at ``path`` (``.md``) and the data beside it (``.json``)."""
    data = path.with_suffix(".json")
    entries = _read(data)
    machine = f"{cpu_name()}, {os.cpu_count()} cores"
    date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    entries[outcome.plan.paper.slug] = outcome.as_dict() | {"date": date, "machine": machine}
    _write(data, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")
    _write(path, render(entries, data.name))


def render(entries: dict[str, Any], data: str) -> str:
    """Write the document, papers in the order of the catalogue."""
    known = [(paper, entries[paper.slug]) for paper in PAPERS if paper.slug in entries]
    lines = [
        _HEAD.format(data=data),
        "| paper | reproduced | margin | time | seeds |",
        "|---|---|---|---|---|",
    ]
    for paper, entry in known:
        verdict = entry["verdict"]
        lines.append(
            f"| [{paper.slug}](#{paper.slug}) | {_yes(verdict['reproduced'])} | {_margin(verdict['margin'])} "
            f"| {clock(entry['seconds'])} | {', '.join(map(str, entry['seeds']))} |"
        )
    lines += ["", f"`logitscope list` says which of the {len(PAPERS)} papers of the catalogue are built."]
    for paper, entry in known:
        lines += [
            "",
            f"## {paper.slug}",
            "",
            f"[{paper.title}]({paper.url}), {paper.authors}, {paper.year}. "
            f"[What it is and how to use it](papers/{paper.slug}.md).",
            "",
        ]
        lines += [*_entry(entry["verdict"]), "", f"Run on {entry['date']}, {entry['machine']}."]
    return "\n".join(lines) + "\n"


def _entry(verdict: dict[str, Any]) -> Iterator[str]:
    yield f"{verdict['claim']} **{'Reproduced' if verdict['reproduced'] else 'Not reproduced'}.**"
    yield from ("", "| check | measured | limit | holds |", "|---|---|---|---|")
    for check in verdict["checks"]:
        value, limit = _figure(check["value"]), f"{check['sense']} {_figure(check['limit'])}"
        yield f"| {check['name']} | {value} | {limit} | {_yes(check['holds'])} |"
    yield from ("", "| figure | measured | held against |", "|---|---|---|")
    yield from (f"| {name} | {_figure(value)} | |" for name, value in verdict["measured"].items())
    yield from (f"| {name} | | {_figure(value)} |" for name, value in verdict["baseline"].items())
    if verdict["caveats"]:
        yield from ("", *(f"- {caveat}" for caveat in verdict["caveats"]))


def _figure(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


def _margin(value: float | None) -> str:
    return "not finite" if value is None else f"{100 * value:+.0f} %"


def _yes(value: bool) -> str:
    return "yes" if value else "**no**"


def _read(data: Path) -> dict[str, Any]:
    """Read the entries that there are; refuse what is none of ours rather than write over it."""
    try:
        entries: dict[str, Any] = json.loads(data.read_text(encoding="utf-8")) if data.exists() else {}
    except (OSError, ValueError) as error:
        message = f"--verdicts: {data} cannot be read ({error}); use another name, or remove it"
        raise ArgumentError(message) from None
    return entries


def _write(path: Path, text: str) -> None:
    """Write a file whole, or leave the one that there is."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(path.name + ".part")
        half.write_text(text, encoding="utf-8")
        half.replace(path)
    except OSError as error:
        message = (
            f"--verdicts: {path} cannot be written ({error.strerror}); use a path in a directory of yours"
        )
        raise ArgumentError(message) from None
