"""What an experiment found, as its run file holds it, and the page that shows it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from logitscope_app.models.text import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TAG = "verdict_data"
"""The text of a run that is a verdict, as JSON."""
SMOKE = "a smoke run"
"""How the words of a verdict begin their second line where the run was too short to decide."""
_MOST = 200
"""Figures, checks and notes beyond so many are left out: a run file may come from a stranger."""


@dataclass(frozen=True, slots=True)
class Check:
    """One criterion and how it came out."""

    name: str
    value: float
    sense: str
    limit: float
    holds: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim, figures, what they are held against, and what decided."""

    claim: str
    reproduced: bool
    checks: tuple[Check, ...]
    measured: tuple[tuple[str, float], ...]
    baseline: tuple[tuple[str, float], ...]
    notes: tuple[str, ...]
    smoke: bool = False
    """Whether the run only showed that it runs."""


def verdict_of(text: str, words: str = "") -> Verdict | None:
    """The verdict that a text holds; None for a text that is none. ``words`` is what the run says of it.

    Examples
    --------
    >>> verdict_of("[]") is None
    True
    """
    try:
        found = json.loads(text)
        checks = [
            Check(
                str(one["name"]),
                _figure(one["value"]),
                str(one["sense"]),
                _figure(one["limit"]),
                bool(one["holds"]),
            )
            for one in found["checks"][:_MOST]
        ]
        return Verdict(
            str(found["claim"]),
            bool(found["reproduced"]),
            tuple(checks),
            _figures(found["measured"]),
            _figures(found["baseline"]),
            tuple(str(note) for note in found["caveats"][:_MOST]),
            smoke=any(line.startswith(SMOKE) for line in words.splitlines()[:2]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def as_page(verdict: Verdict, colours: Mapping[str, str], width: int) -> str:
    """The verdict as HTML of that width; ``colours`` names good, bad, warn and muted. All words are escaped."""
    word, colour = _judgement(verdict, colours)
    good, bad, muted = colours["good"], colours["bad"], colours["muted"]
    decided = [
        (
            _span("✓ ", good) if check.holds else _span("✗ ", bad),
            escape(check.name),
            f"<b>{number(check.value)}</b>",
            _span(f"{escape(check.sense)} {number(check.limit)}", muted),
        )
        for check in verdict.checks
    ]
    parts = [
        f'<p style="color:{colour}; font-weight:600; font-size:16px">{word}</p>',
        f"<p>{escape(verdict.claim)}</p>",
        _table(("", "what decides", "measured", "limit"), decided, muted, width),
    ]
    for heading, figures in (("measured", verdict.measured), ("held against", verdict.baseline)):
        if figures:
            cells = [(escape(name), number(value)) for name, value in figures]
            parts.append(_table((heading, ""), cells, muted, width))
    parts += [f'<p style="color:{muted}">{escape(note)}</p>' for note in verdict.notes]
    return "".join(parts)


def _judgement(verdict: Verdict, colours: Mapping[str, str]) -> tuple[str, str]:
    if verdict.smoke:
        return "It runs. A look this short decides nothing.", colours["muted"]
    if verdict.reproduced:
        return "Reproduced", colours["good"]
    return "Not reproduced", colours["warn"]


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], muted: str, width: int) -> str:
    """A table of words and, at the right, figures: two columns of them where a mark stands before the words."""
    words = 1 if len(headings) == 2 else 2
    lines = [[_span(heading, muted) for heading in headings], *rows]
    body = "".join(
        "<tr>"
        + "".join(
            f'<td align="{"left" if place < words else "right"}" style="padding:1px 0 1px {12 * (place >= words)}px">'
            f"{cell}</td>"
            for place, cell in enumerate(line)
        )
        + "</tr>"
        for line in lines
    )
    return f'<table cellspacing="0" width="{width}" style="margin-top:8px">{body}</table>'


def _span(text: str, colour: str) -> str:
    return f'<span style="color:{colour}">{text}</span>'


def _figures(found: Any) -> tuple[tuple[str, float], ...]:
    return tuple((str(name), _figure(value)) for name, value in list(found.items())[:_MOST])


def _figure(value: Any) -> float:
    """A number; None stands for what is not finite."""
    return math.nan if value is None else float(value)
