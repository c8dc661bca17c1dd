"""Marks and a shaded stretch on a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor

from logitscope_app.panels.plot import pen
from logitscope_app.theme.style import small_font

if TYPE_CHECKING:
    from logitscope_app.models.states import Guides
    from logitscope_app.panels.plot import Plot
    from logitscope_app.theme.palette import Palette

_BAND_ALPHA = 28
_LABEL_PLACES = (0.95, 0.84, 0.73)
"""How far up or along their lines labels lie, in turns: those of neighbours would lie on each other."""

_ANCHORS = {True: ((0, 0.5), (1, 0.5)), False: ((1, 1), (1, 0))}
"""On which side of its line, upright or not, a label lies: the second where the line is near the far edge."""
_FAR = 0.75
"""The share of an axis from which on it is near."""


class GuideLines:
    """Draws what a state says of marks and limits; what has not changed is not drawn again."""

    def __init__(self, plot: Plot) -> None:
        self._plot = plot
        self._items: list[pg.GraphicsObject] = []
        self._key: tuple[object, ...] = ()
        plot.view.sigRangeChanged.connect(self._turn_labels)

    @property
    def lines(self) -> list[pg.InfiniteLine]:
        """The lines that are drawn, those of the band included."""
        return [item for item in self._items if isinstance(item, pg.InfiniteLine)]

    def show(self, guides: Guides, palette: Palette) -> None:
        """Draw ``guides`` and nothing else."""
        key = (guides, palette.name, self._plot.log_x, self._plot.log_y)
        if key == self._key:
            return
        self._key = key
        for item in self._items:
            self._plot.item.removeItem(item)
        self._items = []
        if guides.band is not None:
            self._shade(guides.band, palette)
        for index, mark in enumerate(guides.marks):
            place = self._plot.place(mark.value, upright=mark.upright)
            if place is not None:
                self._rule(place, mark.upright, palette.muted, mark.label, _LABEL_PLACES[index % 3])
        self._turn_labels()

    def _turn_labels(self) -> None:
        """Put each label on the side of its line where there is room, once it is known what is seen."""
        across, up = self._plot.view.viewRange()
        for line in self.lines:
            if hasattr(line, "label"):
                low, high = across if line.angle else up
                far = line.value() > low + _FAR * (high - low)
                line.label.anchors = [_ANCHORS[bool(line.angle)][far]] * 2
                line.label.setAnchor(line.label.anchors[0])

    def _rule(self, place: float, upright: bool, colour: str, label: str = "", at: float = 0.5) -> None:
        line = pg.InfiniteLine(
            place,
            angle=90 if upright else 0,
            pen=pen(colour, 1.0, style=Qt.PenStyle.DotLine),
            label=label or None,
            labelOpts={
                "position": at,
                "color": colour,
                "anchors": [(0, 0.5)] * 2 if upright else [(1, 1)] * 2,
            },
        )
        if label:
            line.label.setFont(small_font())
        line.setZValue(-4)
        # Within bounds: a limit that nothing reaches is worth seeing, too.
        self._plot.item.addItem(line)
        self._items.append(line)

    def _shade(self, band: tuple[float, float], palette: Palette) -> None:
        low, high = (self._plot.place(edge, upright=False) for edge in band)
        if low is None or high is None:
            return
        fill = QColor(palette.good)
        fill.setAlpha(_BAND_ALPHA)
        region = pg.LinearRegionItem(
            (low, high), orientation="horizontal", movable=False, brush=pg.mkBrush(fill), pen=pg.mkPen(None)
        )
        region.setZValue(-6)
        self._plot.item.addItem(region, ignoreBounds=True)
        self._items.append(region)
        for edge in (low, high):
            self._rule(edge, upright=False, colour=palette.good)
