"""What goes wrong in a run, found in its recorded figures: each alert names its evidence and a remedy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from logitscope_app.models.text import number, step_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from logitscope.record import Event
    from logitscope.record.types import EventLevel
    from logitscope_app.models.series import Points

    Values: TypeAlias = NDArray[np.float64]
    Finding: TypeAlias = tuple[NDArray[np.bool_], Values]

WINDOW = 30
"""A spike is measured against so many points before it."""
MOST = 5
"""Of each kind and tag the first so many episodes are told; a run that fails at every step says so once in a while."""
ENTROPY_FLOOR = 0.05
ENTROPY_FALL = 0.5
LOGIT_GROWTH = 2.0
LOGIT_ALARMING, LOGIT_CEILING = 20.0, 50.0
CLASS_LOGIT_ALARMING, CLASS_LOGIT_CEILING = 40.0, 100.0
SPREAD_ALARMING, SPREAD_CEILING = 4.0, 12.0
SINK_CEILING = 0.8
FLAT, FLAT_POINTS = 0.99999, 20
SATURATION_CEILING = 0.9
SPIKE_DEVIATIONS = 8.0
SPIKE_SHARE = 0.25
GRADIENT_GROWTH = 10.0
DIVERGENCE = 1.5
LOOK_BACK = 12
"""A drift is measured against the value so many points before."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that goes wrong: where it began, what shows it, and what of the library helps."""

    rule: str
    step: int
    level: EventLevel
    tag: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Rule:
    """Tags that it looks at, where it sees trouble, and the words for a value and what it is measured against."""

    name: str
    pattern: str
    trouble: Callable[[Values], Finding]
    words: str
    remedy: str


def _below(floor: float) -> Callable[[Values], Finding]:
    return lambda values: (values < floor, np.full_like(values, floor))


def _above(ceiling: float) -> Callable[[Values], Finding]:
    return lambda values: (values > ceiling, np.full_like(values, ceiling))


def _fall(values: Values) -> Finding:
    """Low, or half of what it was some points ago and below what a healthy layer keeps."""
    earlier = _earlier(values)
    fallen = (values < ENTROPY_FALL * earlier) & (values < 0.35)
    return fallen | (values < ENTROPY_FLOOR), np.where(np.isfinite(earlier), earlier, values[0])


def _drift(alarming: float, ceiling: float) -> Callable[[Values], Finding]:
    """Above what training ever needs, or above ``alarming`` and doubled within some points."""

    def trouble(values: Values) -> Finding:
        earlier = _earlier(values)
        grown = (values > LOGIT_GROWTH * earlier) & (values > alarming)
        return grown | (values > ceiling), np.where(np.isfinite(earlier), earlier, values[0])

    return trouble


def _flat(values: Values) -> Finding:
    """As flat as can be for many points, after the beginning, when every head is."""
    flat = values > FLAT
    runs = np.convolve(flat, np.ones(FLAT_POINTS), "full")[: len(values)] == FLAT_POINTS
    runs[: 2 * FLAT_POINTS] = False
    return runs, np.full_like(values, FLAT)


def _spike(values: Values) -> Finding:
    mean, deviation = _before(values)
    reach = np.maximum(SPIKE_DEVIATIONS * deviation, SPIKE_SHARE * np.abs(mean))
    return values > mean + reach, mean


def _growth(values: Values) -> Finding:
    mean, _ = _before(values)
    return values > GRADIENT_GROWTH * mean, mean


def _above_start(values: Values) -> Finding:
    """A mean over many points above where the curve began."""
    mean, _ = _before(values)
    first = float(values[0]) if len(values) else 0.0
    with np.errstate(invalid="ignore"):
        return np.isfinite(mean) & (mean > DIVERGENCE * abs(first)), np.full_like(values, first)


_COOLER = "Bound the scores: softcap= of logitscope.attention, or lower the learning rate of queries and keys"
_TIE_DOWN = "Tie the logits down: lse_square_scale= or softcap= of nn.CrossEntropyLoss, or more weight decay"
RULES = (
    Rule(
        "loss spike",
        "loss*",
        _spike,
        "Loss spike: {tag} {value} after a mean of {against}",
        "Lower the learning rate or clip gradients, and look at the batch of this step; lse_square_scale= of "
        "nn.CrossEntropyLoss keeps class logits where spikes are rare",
    ),
    Rule(
        "divergence",
        "loss*",
        _above_start,
        "Divergence: {tag} stays above {against}, where it began; now {value}",
        "Start again with a learning rate ten times lower and some steps of warm-up",
    ),
    Rule(
        "gradient spike",
        "grad_norm*",
        _growth,
        "Gradient spike: {tag} {value} after a mean of {against}",
        "Clip gradients (torch.nn.utils.clip_grad_norm_) or lower the learning rate",
    ),
    Rule(
        "entropy collapse",
        "attention/entropy/*",
        _fall,
        "Entropy collapse: {tag} fell to {value} of the maximum from {against}: {where} looks at single tokens",
        _COOLER + "",
    ),
    Rule(
        "logit drift",
        "attention/max_logit/*",
        _drift(LOGIT_ALARMING, LOGIT_CEILING),
        "Logit drift: {tag} grew to {value} from {against}: the attention of {where} is about to become one-hot",
        _COOLER,
    ),
    Rule(
        "logit drift",
        "logits/max",
        _drift(CLASS_LOGIT_ALARMING, CLASS_LOGIT_CEILING),
        "Logit drift: {tag} grew to {value} from {against}",
        _TIE_DOWN,
    ),
    Rule(
        "logit drift",
        "logits/std",
        _drift(SPREAD_ALARMING, SPREAD_CEILING),
        "Logit drift: {tag}, the spread of the class logits, grew to {value} from {against}",
        _TIE_DOWN,
    ),
    Rule(
        "softmax collapse",
        "logits/lost_mass",
        _above(0.0),
        "Softmax collapse: {tag} {value}: that share of the classes rounds to probability 0 and learns nothing",
        "nn.StableMaxCrossEntropy keeps every class alive; lse_square_scale= of nn.CrossEntropyLoss stops the growth",
    ),
    Rule(
        "saturation",
        "logits/saturation",
        _above(SATURATION_CEILING),
        "Saturation: {tag} {value}: nearly every prediction is certain, so gradients vanish",
        "label_smoothing= or entropy_weight= of nn.CrossEntropyLoss, or more regularisation",
    ),
    Rule(
        "sink takeover",
        "attention/sink/*",
        _above(SINK_CEILING),
        "Sink takeover: {tag} {value}: {where} gives nearly all its weight to the first token",
        "Give heads another place to rest: sinks= of logitscope.attention, or sigmoid weighting (kind='sigmoid')",
    ),
    Rule(
        "dead head",
        "attention/entropy_max/*",
        _flat,
        "Dead head: {tag} stays at {value}: a head of {where} only averages",
        "Look at its tile among the attention maps; fewer heads, or a higher learning rate for its queries and keys",
    ),
)
NAN_REMEDY = (
    "Go back to a checkpoint before this step; keep scores in range with softcap=, and see first_nan of "
    "logitscope.attention's result for head and row"
)
TOLD = "First NaN at step "
"""How the event begins by which ``watch`` tells module, head and row."""
_LEFT_OUT = ("attention/sink/", "attention/logit_std/", "gradient_noise")
"""Figures that come with maps, recorded so rarely that they tell nothing of an order, as others of the same layer do;
and one of which infinity is an answer: a batch without a signal."""
_FORWARD = ("attention/", "logits/", "loss", "grad_norm", "weight_norm")
"""The order in which a NaN travels."""


class Watchman:
    """Looks at the curves that have changed and keeps what it found in the others."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Points, tuple[Alert, ...]]] = {}

    def alerts(self, curves: Mapping[str, Points], events: Sequence[Event] = ()) -> tuple[Alert, ...]:
        """All alerts in the order of their steps; what a watch has found out of a NaN counts for more than curves."""
        for tag, points in curves.items():
            known = self._found.get(tag)
            if known is None or known[0] is not points:
                self._found[tag] = (points, tuple(look(tag, points)))
        found = [alert for _, alerts in self._found.values() for alert in alerts]
        origin = told_origin(events) or nan_origin(curves)
        return tuple(sorted([*found, *([origin] if origin else [])], key=lambda alert: alert.step))


def told_once(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    """Of what a rule has seen again and again in a curve, the newest alone; in the order given."""
    newest = {(alert.rule, alert.tag): alert for alert in alerts}
    return tuple(newest.values())


def look(tag: str, points: Points) -> Iterator[Alert]:
    """The alerts of one curve.

    Examples
    --------
    >>> from logitscope_app.models.series import Points
    >>> curve = Points(np.array([0, 1]), np.array([0.0, 0.25]))
    >>> [(alert.rule, alert.step) for alert in look("logits/lost_mass", curve)]
    [('softmax collapse', 1)]
    """
    for rule in RULES:
        if not fnmatchcase(tag, rule.pattern) or not len(points):
            continue
        with np.errstate(invalid="ignore", over="ignore"):
            trouble, against = rule.trouble(points.values)
            trouble &= np.isfinite(points.values)  # of the others nan_origin tells
        began = np.flatnonzero(trouble & ~np.concatenate([[False], trouble[:-1]]))
        for index in began[:MOST].tolist():
            value, other = float(points.values[index]), float(against[index])
            words = rule.words.format(
                tag=tag, value=number(value), against=number(other, 3), where=_where(tag)
            )
            yield Alert(rule.name, int(points.steps[index]), "warning", tag, words, f"{rule.remedy}.")


def told_origin(events: Sequence[Event]) -> Alert | None:
    """The event in which a watch says where the first NaN came from, as an alert."""
    for event in events:
        if event.message.startswith(TOLD) and event.step is not None:
            return Alert(
                "nan origin", event.step, "error", "", f"NaN origin: {event.message}", f"{NAN_REMEDY}."
            )
    return None


def nan_origin(curves: Mapping[str, Points]) -> Alert | None:
    """Where the first NaN or infinity came from, among figures that are recorded at different steps.

    A figure recorded at every fifth step can show at step 205 what happened at 201. So all that turned bad within
    one interval of the slowest of them count, and of these the first on the way forward through the model is named.
    """
    bad: dict[str, tuple[int, int, float]] = {}
    for tag, points in curves.items():
        index = np.flatnonzero(~np.isfinite(points.values))
        if index.size and not tag.startswith(_LEFT_OUT):
            first = int(index[0])
            good = int(points.steps[first - 1]) if first else -1
            bad[tag] = (int(points.steps[first]), good, float(points.values[first]))
    if not bad:
        return None
    earliest = min(step for step, _, _ in bad.values())
    together = [tag for tag, (step, good, _) in bad.items() if good < earliest or step == earliest]
    origin = min(together, key=lambda tag: (_stage(tag), _layer(tag), bad[tag][0]))
    step, _, value = bad[origin]
    others = [tag for tag in sorted(together, key=lambda tag: (_stage(tag), _layer(tag))) if tag != origin]
    after = (
        f"; then {', '.join(others[:3])}{f' and {len(others) - 3} more' if len(others) > 3 else ''}"
        if others
        else ""
    )
    seen = f" (seen first at step {step_number(earliest)})" if earliest < step else ""
    message = f"NaN origin: {origin} is {number(value)} at step {step_number(step)}{seen}{after}"
    return Alert("nan origin", earliest, "error", origin, message, f"{NAN_REMEDY}.")


def _stage(tag: str) -> int:
    return next((index for index, prefix in enumerate(_FORWARD) if tag.startswith(prefix)), len(_FORWARD))


def _layer(tag: str) -> int:
    found = re.search(r"(\d+)$", tag)
    return int(found[1]) if found else -1


def _where(tag: str) -> str:
    found = re.search(r"layer(\d+)$", tag)
    return f"layer {found[1]}" if found else tag


def _earlier(values: Values) -> Values:
    """The median of the three values around the one ``LOOK_BACK`` points before; NaN where there is none."""
    earlier = np.full(len(values), np.nan)
    if len(values) > LOOK_BACK + 1:
        around = np.stack([values[:-2], values[1:-1], values[2:]])
        earlier[LOOK_BACK + 1 :] = np.median(around, axis=0)[: len(values) - LOOK_BACK - 1]
    return earlier


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
