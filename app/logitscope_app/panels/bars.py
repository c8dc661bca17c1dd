"""Bars with parts beside or on each other; the pointer reads one bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyqtgraph as pg

from logitscope_app.models.states import BarsState
from logitscope_app.models.text import number
from logitscope_app.panels.legend import Entry
from logitscope_app.panels.plot_card import PlotCard

if TYPE_CHECKING:
    from logitscope_app.models.states import FloatArray
    from logitscope_app.theme.palette import Palette

_WIDTH = 0.76
"""Of a bar with all its parts, where neighbours are 1 apart."""


class BarsCard(PlotCard):
    """Bars at one step."""

    HEIGHT: ClassVar[int] = 132

    def __init__(self, palette: Palette) -> None:
        self._parts: list[pg.BarGraphItem] = []
        super().__init__(palette)

    def draw(self) -> None:
        """Give each part of the bars its place and height."""
        state = self.state
        assert isinstance(state, BarsState)
        self.plot.set_names(state.names)
        while len(self._parts) < len(state.parts):
            self._parts.append(pg.BarGraphItem(x=[0.0], height=[0.0], width=_WIDTH))
            self.plot.item.addItem(self._parts[-1])
        for index, (item, (x, floor, height)) in enumerate(zip(self._parts, _places(state), strict=False)):
            brush = pg.mkBrush(self.palette_.series_colour(index))
            width = _WIDTH if state.stacked else _WIDTH / len(state.parts)
            item.setOpts(x=x, y0=floor, height=height, width=width, brush=brush, pen=pg.mkPen(None))
        for index, item in enumerate(self._parts):
            item.setVisible(index < len(state.parts))
        self.guides.show(state.guides, self.palette_)
        self.read(None)

    def read(self, x: float | None) -> None:
        """Read the parts of the bar at an x."""
        state = self.state
        if not isinstance(state, BarsState) or state.message:
            return
        at = None if x is None else round(x)
        at = at if at is not None and 0 <= at < len(state.names) else None
        values = ["" if at is None else _value(part.heights[at]) for part in state.parts]
        colours = map(self.palette_.series_colour, range(len(values)))
        labels = [part.label for part in state.parts]
        entries = [Entry(*entry) for entry in zip(colours, labels, values, strict=True)]
        self.show_entries(entries, "" if at is None else state.names[at])


def _places(state: BarsState) -> list[tuple[FloatArray, FloatArray, FloatArray]]:
    """Middle, foot and height of each part's bars, those that there are."""
    places: list[tuple[FloatArray, FloatArray, FloatArray]] = []
    middles, feet = np.arange(float(len(state.names))), np.zeros(len(state.names))
    for index, part in enumerate(state.parts):
        there = np.isfinite(part.heights)
        aside = 0.0 if state.stacked else _WIDTH * ((index + 0.5) / len(state.parts) - 0.5)
        places.append((middles[there] + aside, feet[there], part.heights[there]))
        if state.stacked:
            feet = feet + np.where(there, part.heights, 0.0)
    return places


def _value(height: float) -> str:
    return "–" if np.isnan(height) else number(float(height), 3)
