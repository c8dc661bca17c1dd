"""What the options of a panel say of marks and limits: read from a run file, so nothing in them is trusted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from logitscope_app.models.states import Guides, Mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from logitscope.record import Panel
    from logitscope_app.models.series import Points


def guides_of(panel: Panel, points: Callable[[str], Points], step: int | None) -> Guides:
    """The marks and the band of a panel; a mark given by a scalar tag lies at its value at ``step``.

    Examples
    --------
    >>> from logitscope.record import Panel
    >>> panel = Panel("z", "histogram", ("z",), options={"x_marks": {"b": 5.0}, "y_band": [0.5, 2]})
    >>> guides_of(panel, {}.get, None)
    Guides(marks=(Mark(label='b', value=5.0, upright=True),), band=(0.5, 2.0))
    """
    marks = []
    for label, value, upright in _marks(panel):
        if isinstance(value, str):
            at = points(value).at(step)
            value = at[1] if at else math.nan
        if _is_number(value):
            marks.append(Mark(label, float(value), upright))
    return Guides(tuple(marks), limits_of(panel, "y_band"))


def limits_of(panel: Panel, option: str) -> tuple[float, float] | None:
    """An option that is a pair of numbers, the lower one first."""
    pair = panel.options.get(option)
    if isinstance(pair, list | tuple) and len(pair) == 2 and all(map(_is_number, pair)) and pair[0] < pair[1]:
        return float(pair[0]), float(pair[1])
    return None


def further_tags(panel: Panel) -> tuple[str, ...]:
    """Tags that a panel shows beside those that it names: of its marks and of the curve over a histogram."""
    tags = [value for _, value, _ in _marks(panel) if isinstance(value, str)]
    curve = panel.options.get("curve_tag")
    return (*tags, *([curve] if isinstance(curve, str) else []))


def _marks(panel: Panel) -> Iterator[tuple[str, Any, bool]]:
    for option, upright in (("x_marks", True), ("y_marks", False)):
        given = panel.options.get(option)
        if isinstance(given, dict):
            yield from ((str(label), value, upright) for label, value in given.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
