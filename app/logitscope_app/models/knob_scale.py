"""Where a knob's value lies on a slider from 0 to 1, and back; logarithmic where the knob says so."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logitscope.record import KnobInfo


def _is_log(knob: KnobInfo) -> bool:
    return knob.log and 0 < knob.low < knob.high


def position(knob: KnobInfo, value: float) -> float:
    """The place of ``value`` on the slider."""
    if knob.high <= knob.low:
        return 0.0
    held = held_inside(knob, value)
    if _is_log(knob):
        return math.log(held / knob.low) / math.log(knob.high / knob.low)
    return (held - knob.low) / (knob.high - knob.low)


def value_at(knob: KnobInfo, place: float) -> float:
    """The value at a place of the slider, in three significant digits, as a person would have typed it."""
    reach = knob.high - knob.low
    value = knob.low * (knob.high / knob.low) ** place if _is_log(knob) else knob.low + reach * place
    return held_inside(knob, float(f"{value:.3g}"))


def held_inside(knob: KnobInfo, value: float) -> float:
    """``value``, or the end of the knob's range that it lies beyond."""
    return min(max(value, knob.low), knob.high)


def typed(knob: KnobInfo, text: str) -> float | None:
    """The value that a person typed, held inside the range; None when it is no number."""
    try:
        value = float(text.strip().replace(",", ".").replace("−", "-"))
    except ValueError:
        return None
    return None if math.isnan(value) else held_inside(knob, value)
