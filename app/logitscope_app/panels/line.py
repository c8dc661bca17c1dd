"""One curve on a plot: its points, faint behind a running mean where noisy, and a mark at the cursor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QPen
from PySide6.QtWidgets import QGraphicsEllipseItem, QGraphicsItem

from logitscope_app.models.envelope import LONG, Envelope
from logitscope_app.models.series import latest_index
from logitscope_app.models.smooth import smoothed
from logitscope_app.panels.plot import pen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitscope_app.models.series import Points
    from logitscope_app.panels.plot import Plot

_MARK_SIZE = 7
_FAINT_ALPHA = 80
_POINTS_PER_PIXEL = 2


class Line:
    """The three items that draw a curve; points and colour that have not changed are not drawn again."""

    def __init__(self, plot: Plot) -> None:
        self._plot = plot
        self._faint, self._strong = pg.PlotDataItem(connect="finite"), pg.PlotDataItem(connect="finite")
        half = _MARK_SIZE / 2
        self._mark = QGraphicsEllipseItem(-half, -half, _MARK_SIZE, _MARK_SIZE)
        self._mark.setFlag(QGraphicsItem.GraphicsItemFlag.ItemIgnoresTransformations)
        self._mark.setPen(QPen(Qt.PenStyle.NoPen))
        self._key: tuple[Any, ...] = ()
        self._heights: NDArray[np.float64] = np.empty(0)
        self._long: list[tuple[Any, Envelope]] = []
        plot.view.sigXRangeChanged.connect(self._draw_window)
        for z, item in enumerate((self._faint, self._strong, self._mark)):
            item.setZValue(z)
            plot.item.addItem(item, ignoreBounds=item is self._mark)
        for item in (self._faint, self._strong):
            # What the cursor passes over is not drawn again.
            item.curve.setCacheMode(QGraphicsItem.CacheMode.DeviceCoordinateCache)

    def show(
        self,
        points: Points,
        step: int | None,
        colour: str,
        *,
        dashed: bool = False,
        behind: int | None = None,
    ) -> None:
        """Draw ``points`` in ``colour`` and mark what is true at ``step``.

        With ``behind`` the line is the upper edge of an area, which that many others lie in front of.
        """
        key = (points, colour, self._plot.log_x, self._plot.log_y, dashed, behind)
        if key != self._key:
            self._key = key
            self._strong.setFillLevel(None if behind is None else 0.0)
            self._strong.setFillBrush(None if behind is None else colour)
            self._strong.setZValue(1 if behind is None else 1 / (2 + behind))
            self._draw(
                points,
                None if behind is not None else smoothed(points.values),
                colour,
                Qt.PenStyle.DashLine if dashed else Qt.PenStyle.SolidLine,
            )
        index = latest_index(points.steps, step)
        x = y = None
        if index is not None:
            x = self._plot.place(float(points.steps[index]), upright=True)
            y = self._plot.place(float(self._heights[index]), upright=False)
        if x is None or y is None or not np.isfinite(y):
            self._mark.hide()
            return
        self._mark.setPos(x, y)
        self._mark.setBrush(QColor(colour))
        self._mark.show()

    def clear(self) -> None:
        """Draw nothing."""
        self._key, self._long = (), []
        self._faint.setData([], [])
        self._strong.setData([], [])
        self._mark.hide()

    def _draw(
        self, points: Points, smooth: NDArray[np.float64] | None, colour: str, style: Qt.PenStyle
    ) -> None:
        steps = points.steps.astype(np.float64)
        self._heights = points.values if smooth is None else smooth
        self._faint.setPen(pen(colour, 1.0, _FAINT_ALPHA))
        self._strong.setPen(pen(colour, style=style))
        if len(points) > LONG:
            curves = [
                (self._strong, self._heights),
                *([(self._faint, points.values)] if smooth is not None else []),
            ]
            self._long = [(item, Envelope(steps, heights)) for item, heights in curves]
            self._draw_window()
            return
        self._long = []
        if smooth is None:
            self._faint.setData([], [])
        else:
            self._faint.setData(steps, points.values)
        # A line through a single point would be invisible.
        symbol = "o" if len(points) == 1 and self._can_be_seen(self._heights[0]) else None
        self._strong.setData(
            steps, self._heights, symbol=symbol, symbolBrush=colour, symbolPen=None, symbolSize=_MARK_SIZE - 1
        )

    def _can_be_seen(self, height: float) -> bool:
        place = self._plot.place(float(height), upright=False)
        return place is not None and math.isfinite(place)

    def _draw_window(self, *_: Any) -> None:
        """Of a long curve draw what is seen, from about as many points as there are pixels."""
        if not self._long:
            return
        view = self._plot.view
        whole = view.autoRangeEnabled()[0]
        low, high = (-np.inf, np.inf) if whole else view.viewRange()[0]
        if self._plot.log_x and not whole:
            low, high = 10.0**low, 10.0**high
        count = _POINTS_PER_PIXEL * max(round(view.width()), 100)
        for item, envelope in self._long:
            item.setData(*envelope.window(low, high, count))
