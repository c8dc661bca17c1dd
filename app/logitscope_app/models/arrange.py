"""Where the cards of a view go: rows that fill the width, as many columns as look right, nothing empty."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NARROWEST = 230
"""No card is made narrower than this where there is a choice."""
_BEST_ASPECT = 2.1
_LEADING_WEIGHT = 1.35
"""The first card is the important one (the loss): its row is higher, and wider where a row cannot be full."""
_HALVINGS = 40
_ROUNDING = 1e-3

Box = tuple[int, int, int, int]
"""Left, top, width, height."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one card asks for."""

    height: int
    weight: float = 1.0
    wide: bool = False
    tallest: float = 0.0
    """The height beyond which it gains nothing, as a share of its width; 0 for none."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A box for each card, and the height that all of them take."""

    boxes: tuple[Box, ...]
    height: int


def arrange(needs: Sequence[Need], width: int, height: int, gap: int) -> Arrangement:
    """Boxes for the cards in order; higher than ``height`` only when there is no arrangement that fits."""
    narrow = sum(not need.wide for need in needs)
    most = max(1, min(narrow, (width + gap) // (NARROWEST + gap)))
    tries = [_with_columns(needs, columns, width, height, gap) for columns in range(1, most + 1)]
    fitting = [each for each in tries if each.height <= height]
    if not fitting:
        return tries[-1]
    return min(fitting, key=lambda each: _ugliness(each, needs))


def _ugliness(arrangement: Arrangement, needs: Sequence[Need]) -> float:
    return sum(
        abs(math.log(box[2] / max(box[3], 1) / _BEST_ASPECT))
        for box, need in zip(arrangement.boxes, needs, strict=True)
        if not need.wide
    )


def _with_columns(needs: Sequence[Need], columns: int, width: int, height: int, gap: int) -> Arrangement:
    rows = _rows(needs, columns)
    least = [max(needs[index].height for index in row) for row in rows]
    weights = [_row_weight(needs, row) for row in rows]
    free = max(0, height - sum(least) - gap * (len(rows) - 1))
    most = [_row_limit(needs, row, width) for row in rows]
    heights = _shared(least, weights, most, sum(least) + free)
    boxes: list[Box] = []
    top = 0
    for row, high in zip(rows, heights, strict=True):
        for place in range(len(row)):
            left = place * (width + gap) // len(row)
            right = (place + 1) * (width + gap) // len(row) - gap
            boxes.append((left, top, right - left, high))
        top += high + gap
    return Arrangement(tuple(boxes), max(0, top - gap))


def _row_weight(needs: Sequence[Need], row: Sequence[int]) -> float:
    weight = max(needs[index].weight for index in row)
    return weight * _LEADING_WEIGHT if row[0] == 0 and not needs[0].wide else weight


def _row_limit(needs: Sequence[Need], row: Sequence[int], width: int) -> float:
    shares = [needs[index].tallest for index in row]
    return max(shares) * width / len(row) if all(shares) else math.inf


def _shared(least: Sequence[int], weights: Sequence[float], most: Sequence[float], total: int) -> list[int]:
    """Heights that sum up to ``total`` in proportion to the weights, inside their limits where possible."""
    if sum(most) < total:
        most = [math.inf] * len(least)

    def heights(unit: float) -> list[float]:
        return [
            max(low, min(unit * weight, high)) for low, weight, high in zip(least, weights, most, strict=True)
        ]

    # The sum grows with the unit, so halving finds the unit at which it is the total.
    low, high = 0.0, total / min(weights, default=1.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(heights(middle)) <= total else (low, middle)
    return [int(height + _ROUNDING) for height in heights(low)]


def _rows(needs: Sequence[Need], columns: int) -> list[list[int]]:
    """Wide cards alone; the others in full rows, with the incomplete row first."""
    rows: list[list[int]] = []
    stretch: list[int] = []

    def flush() -> None:
        first = len(stretch) % columns
        if first:
            rows.append(stretch[:first])
        rows.extend(stretch[at : at + columns] for at in range(first, len(stretch), columns))
        stretch.clear()

    for index, need in enumerate(needs):
        if need.wide:
            flush()
            rows.append([index])
        else:
            stretch.append(index)
    flush()
    return rows
