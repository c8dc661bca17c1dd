"""Counts between edges, as filled steps; the pointer reads one bin."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyqtgraph as pg
from PySide6.QtGui import QColor

from logitscope_app.models.colour import scale_of
from logitscope_app.models.states import HistogramState
from logitscope_app.models.text import number, step_number
from logitscope_app.panels.map_view import MapView
from logitscope_app.panels.plot import pen
from logitscope_app.panels.plot_card import PlotCard

if TYPE_CHECKING:
    from logitscope_app.models.states import FloatArray
    from logitscope_app.theme.palette import Palette

_FILL_ALPHA = 90


class HistogramCard(PlotCard):
    """A histogram at one step; ``H`` shows how it has moved up to there, a column a step."""

    HEIGHT: ClassVar[int] = 118

    def __init__(self, palette: Palette) -> None:
        super().__init__(palette)
        self.time_action = self.add_action("Over time", "H", checkable=True)
        self.time_action.toggled.connect(self._on_time)

    def furnish(self) -> None:
        """Make the plot, and the map that takes its place."""
        super().furnish()
        self.legend.hide()  # there is one thing to see
        self._bars = pg.PlotDataItem(stepMode="center", fillLevel=0)
        self._curve = pg.PlotDataItem(connect="finite")
        for item in (self._bars, self._curve):
            self.plot.add_whole(item)
        self.map = MapView(self.palette_)
        self.inside.addWidget(self.map, 1)
        self.map.pointed.connect(self._read)
        self._choose()

    def restyle(self) -> None:
        """Repaint the axes; the bars follow with the next draw."""
        super().restyle()
        if self._is_furnished:
            self.map.restyle(self.palette_)

    def draw(self) -> None:
        """Show the counts of the step."""
        state = self.state
        assert isinstance(state, HistogramState)
        colour = self.palette_.series_colour(0)
        fill = QColor(colour)
        fill.setAlpha(_FILL_ALPHA)
        self._bars.setData(state.edges, state.counts)
        self._bars.setPen(pen(colour, 1.2))
        self._bars.setFillBrush(pg.mkBrush(fill))
        self._curve.setPen(pen(self.palette_.series_colour(1)))
        self._curve.setData(*_over(state))
        self.plot.set_x_label(state.panel.x_label, self.palette_.muted)
        self.guides.show(state.guides, self.palette_)
        if self.time_action.isChecked():
            self._draw_time(state)

    def _draw_time(self, state: HistogramState) -> None:
        history = state.history
        middles = (history.edges[:-1] + history.edges[1:]) / 2
        self.map.show_map(
            history.shares,
            scale_of(history.shares),
            tuple(number(float(middle), 3) for middle in middles),
            tuple(step_number(step) for step in history.steps),
            blank_zeros=True,
        )

    def _on_time(self, _on: bool) -> None:
        self.aside.clear()
        if self._is_furnished:
            self._choose()
        self.redraw()

    def _choose(self) -> None:
        self.plot.widget.setVisible(not self.time_action.isChecked())
        self.map.setVisible(self.time_action.isChecked())

    def _read(self, reading: str) -> None:
        if self.time_action.isChecked():
            self.aside.setText(reading)

    def read(self, x: float | None) -> None:
        """Read the bin at an x."""
        state = self.state
        if not isinstance(state, HistogramState) or state.message or x is None:
            self.aside.clear()
            return
        index = int(np.searchsorted(state.edges, x, side="right")) - 1
        if 0 <= index < len(state.counts):
            low, high = state.edges[index : index + 2]
            count = number(float(state.counts[index]))
            self.aside.setText(f"{number(float(low), 3)} … {number(float(high), 3)}: {count}")
        else:
            self.aside.clear()


def _over(state: HistogramState) -> FloatArray:
    """The curve where there are bars, as high as they are."""
    x, y = state.curve
    seen = (x >= state.edges[0]) & (x <= state.edges[-1]) & np.isfinite(y)
    if not seen.any():
        return np.empty((2, 0))
    highest = float(np.abs(y[seen]).max()) or 1.0
    return np.stack([x[seen], y[seen] * (float(state.counts.max()) / highest)])
