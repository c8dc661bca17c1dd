"""What goes wrong in a run, found in its recorded figures: each alert names its step and the figures that show it."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from logitscope.record import Event
from logitscope_app.models.text import number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from logitscope.record.types import EventLevel
    from logitscope_app.models.series import Points

    Values: TypeAlias = NDArray[np.float64]
    Finding: TypeAlias = tuple[NDArray[np.bool_], Values]

WINDOW = 30
"""A spike is measured against so many points before it."""
MOST = 5
"""Of each kind and tag the first so many episodes are told; a run that fails at every step says so once in a while."""
ENTROPY_FLOOR = 0.05
LOGIT_CEILING = 50.0
SPIKE_DEVIATIONS = 8.0
SPIKE_SHARE = 0.25
GRADIENT_GROWTH = 10.0


@dataclass(frozen=True, slots=True)
class Rule:
    """Tags that it looks at, where it sees trouble, and the words for a value and what it is measured against."""

    pattern: str
    level: EventLevel
    trouble: Callable[[Values], Finding]
    words: str


def _not_finite(values: Values) -> Finding:
    return ~np.isfinite(values), np.zeros_like(values)


def _below(floor: float) -> Callable[[Values], Finding]:
    return lambda values: (values < floor, np.full_like(values, floor))


def _above(ceiling: float) -> Callable[[Values], Finding]:
    return lambda values: (values > ceiling, np.full_like(values, ceiling))


def _spike(values: Values) -> Finding:
    mean, deviation = _before(values)
    reach = np.maximum(SPIKE_DEVIATIONS * deviation, SPIKE_SHARE * np.abs(mean))
    return values > mean + reach, mean


def _growth(values: Values) -> Finding:
    mean, _ = _before(values)
    return values > GRADIENT_GROWTH * mean, mean


RULES = (
    Rule("*", "error", _not_finite, "{tag} is {value}"),
    Rule("loss*", "warning", _spike, "Loss spike: {tag} {value} after a mean of {against}"),
    Rule("grad_norm*", "warning", _growth, "Gradient spike: {tag} {value} after a mean of {against}"),
    Rule(
        "attention/entropy*",
        "warning",
        _below(ENTROPY_FLOOR),
        "Entropy collapse: {tag} {value} is below {against} of the maximum",
    ),
    Rule(
        "attention/max_logit*",
        "warning",
        _above(LOGIT_CEILING),
        "Logit drift: {tag} {value} is above {against}",
    ),
    Rule(
        "logits/lost_mass*",
        "warning",
        _above(0.0),
        "Softmax collapse: the share {value} of the classes rounds to probability 0",
    ),
)


class Watchman:
    """Looks at the curves that have changed and keeps what it found in the others."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Points, tuple[Event, ...]]] = {}

    def alerts(self, curves: Mapping[str, Points]) -> tuple[Event, ...]:
        """All alerts in the order of their steps."""
        for tag, points in curves.items():
            known = self._found.get(tag)
            if known is None or known[0] is not points:
                self._found[tag] = (points, tuple(look(tag, points)))
        found = [event for _, events in self._found.values() for event in events]
        return tuple(sorted(found, key=lambda event: event.step or 0))


def look(tag: str, points: Points) -> Iterator[Event]:
    """The alerts of one curve.

    Examples
    --------
    >>> from logitscope_app.models.series import Points
    >>> curve = Points(np.array([0, 1]), np.array([4.5, np.nan]))
    >>> [event.message for event in look("loss/train", curve)]
    ['loss/train is NaN']
    """
    for rule in RULES:
        if not fnmatchcase(tag, rule.pattern) or not len(points):
            continue
        with np.errstate(invalid="ignore", over="ignore"):
            trouble, against = rule.trouble(points.values)
        began = np.flatnonzero(trouble & ~np.concatenate([[False], trouble[:-1]]))
        for index in began[:MOST].tolist():
            words = rule.words.format(
                tag=tag, value=number(float(points.values[index])), against=number(float(against[index]), 3)
            )
            yield Event(0, int(points.steps[index]), 0.0, rule.level, words)


def _before(values: Values) -> tuple[Values, Values]:
    """Mean and standard deviation of the ``WINDOW`` values before each; infinite where there are fewer."""
    mean = np.full(len(values), np.inf)
    deviation = np.zeros(len(values))
    if len(values) > WINDOW:
        finite = np.isfinite(values)
        centre = float(np.median(values[finite])) if finite.any() else 0.0
        moved = np.where(finite, values - centre, 0.0)
        sums = np.concatenate([[0.0], np.cumsum(moved)])
        squares = np.concatenate([[0.0], np.cumsum(moved**2)])
        part = (sums[WINDOW:-1] - sums[: -WINDOW - 1]) / WINDOW
        spread = (squares[WINDOW:-1] - squares[: -WINDOW - 1]) / WINDOW - part**2
        mean[WINDOW:] = part + centre
        deviation[WINDOW:] = np.sqrt(np.maximum(spread, 0.0))
    return mean, deviation
