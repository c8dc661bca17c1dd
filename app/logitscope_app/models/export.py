"""A panel's values as rows of a CSV file, and files written whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope_app.models.states import (
    BarsState,
    HeadsState,
    HeatmapState,
    HistogramState,
    ImageState,
    LinesState,
    PanelState,
    ScatterState,
    TableState,
    TextState,
    VerdictState,
    WhatIfState,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from logitscope_app.models.states import FloatArray

Row = tuple[Any, ...]


def rows(state: PanelState) -> Iterator[Row]:
    """A header and the values that the panel shows: whole curves, the map or histogram of its step."""
    match state:
        case LinesState():
            yield ("tag", "step", "value")
            for curve in state.curves:
                steps, values = curve.points.steps.tolist(), curve.points.values.tolist()
                yield from ((curve.tag, step, value) for step, value in zip(steps, values, strict=True))
        case HeadsState():
            yield ("step", "layer", "head", "row", "column", "value")
            for layer, heads in enumerate(state.maps):
                for head, values in enumerate(heads):
                    yield from ((state.step, layer, head, *cell) for cell in _cells(values))
        case HeatmapState():
            yield ("step", "row", "column", "value")
            yield from ((state.step, *cell) for cell in _cells(state.values))
        case ImageState():
            yield ("step", "row", "column", "red", "green", "blue", "opacity")
            for place in np.ndindex(state.pixels.shape[:2]):
                yield (state.step, *place, *state.pixels[place].tolist())
        case HistogramState():
            yield ("step", "from", "to", "count")
            edges = state.edges.tolist()
            for low, high, count in zip(edges, edges[1:], state.counts.tolist(), strict=False):
                yield (state.step, low, high, count)
        case ScatterState():
            yield ("tag", "step", "x", "y")
            for cloud in state.clouds:
                points = zip(cloud.x.tolist(), cloud.y.tolist(), strict=True)
                yield from ((cloud.tag, state.step, x, y) for x, y in points)
        case BarsState():
            yield ("tag", "step", "value")
            for part in state.parts:
                bars = zip(part.tags, part.heights.tolist(), strict=True)
                yield from ((tag, state.step, height) for tag, height in bars if tag)
        case TableState():
            yield ("tag", "step", "value", "min", "max", "points")
            for row in state.rows:
                yield (row.tag, state.step, row.at, row.low, row.high, row.count)
        case WhatIfState():
            yield ("step", "layer", "head", "what", "row", "column", "value")
            for what, array in (("query", state.query), ("key", state.key)):
                for layer, heads in enumerate(array):
                    for head, values in enumerate(heads):
                        yield from ((state.step, layer, head, what, *cell) for cell in _cells(values))
        case TextState():
            yield ("tag", "step", "text")
            yield (state.tag, state.step, state.text)
        case VerdictState():
            yield ("tag", "step", "text")
            yield (state.tag, state.step, state.words)
        case _:
            yield ("panel", "message")
            yield (state.panel.title, state.message)


def csv_bytes(table: Iterable[Row]) -> bytes:
    """The rows as UTF-8 CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue().encode()


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file so that nobody ever sees half of it: a neighbour takes its place in one step."""
    target = Path(path)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _cells(values: FloatArray) -> Iterator[tuple[int, int, float]]:
    for row, line in enumerate(values.tolist()):
        for column, value in enumerate(line):
            yield row, column, value
