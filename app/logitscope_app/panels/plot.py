"""A pyqtgraph plot like the rest of the window: quiet axes, wheel left to the page, cursor, hover line."""

from __future__ import annotations

import math
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QEvent, QObject, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QGuiApplication

from logitscope_app.panels.axis import Axis
from logitscope_app.theme.style import small_font

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logitscope_app.theme.palette import Palette

LINE_WIDTH = 1.6
_AXIS_HEIGHT, _LABEL_HEIGHT = 18, 14
_NAME_WIDTH = 12
"""Letters from which on a name is broken into lines."""


class Plot(QObject):
    """Owns a PlotWidget. A click picks a step; Ctrl and the wheel zoom, a double click shows all."""

    picked = Signal(float)
    hovered = Signal(object)
    """The x under the pointer; None when it left."""

    def __init__(self, palette: Palette, *, cursor: bool = True) -> None:
        super().__init__()
        self.widget = pg.PlotWidget(
            background=None,
            axisItems={side: Axis(side) for side in ("left", "bottom")},
            enableMenu=False,  # whose making takes a quarter of the time
        )
        self.widget.setMinimumSize(60, 40)
        self.widget.setFrameShape(self.widget.Shape.NoFrame)
        self.widget.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.item = self.widget.getPlotItem()
        self.item.hideButtons()
        self.item.setContentsMargins(0, 2, 4, 0)
        self.item.setClipToView(True)
        self.item.setDownsampling(auto=True, mode="peak")
        self.view = self.item.getViewBox()
        self.view.setDefaultPadding(0.03)
        self.log_x = self.log_y = False
        self.item.getAxis("bottom").setHeight(_AXIS_HEIGHT)
        self._x_label = ""
        self._cursor = pg.InfiniteLine(angle=90, movable=False) if cursor else None
        self._hover = pg.InfiniteLine(angle=90, movable=False)
        for line in (self._cursor, self._hover):
            if line is not None:
                line.setZValue(-5)
                line.hide()
                self.item.addItem(line, ignoreBounds=True)
        self._span = Span()
        self.item.addItem(self._span)
        self.widget.viewport().installEventFilter(self)
        self.widget.scene().sigMouseMoved.connect(self._on_moved)
        self.widget.scene().sigMouseClicked.connect(self._on_clicked)
        self.restyle(palette)

    def restyle(self, palette: Palette) -> None:
        """Wear other colours."""
        self.widget.setBackground(palette.surface)
        for side in ("left", "bottom"):
            axis = self.item.getAxis(side)
            axis.setPen(pen(palette.border, 1.0))
            axis.setTextPen(pg.mkPen(palette.muted))
        if self._x_label:
            self._write_x_label(palette.muted)
        self.item.showGrid(x=False, y=True, alpha=0.16)
        if self._cursor is not None:
            self._cursor.setPen(pen(palette.accent, 1.0))
        self._hover.setPen(pen(palette.faint, 1.0, style=Qt.PenStyle.DashLine))

    def add_whole(self, item: pg.PlotDataItem) -> None:
        """Add what is drawn as it is: thinning out and cutting off need one y for each x, and xs that only grow."""
        self.item.addItem(item)
        item.setDownsampling(auto=False)
        item.setClipToView(False)

    def set_cursor(self, x: float | None) -> None:
        """Move the cursor; None hides it."""
        if self._cursor is not None:
            place = None if x is None else self.place(x, upright=True)
            self._cursor.setVisible(place is not None)
            if place is not None:
                self._cursor.setValue(place)

    def set_span(self, span: tuple[float, float] | None) -> None:
        """Have the horizontal axis reach from one x to another at least; None leaves it to what is plotted."""
        places = [self.place(x, upright=True) for x in span or ()]
        edges = [x for x in places if x is not None]
        self._span.reach(*((edges[0], edges[-1]) if edges else (math.nan, math.nan)))

    def set_log_x(self, on: bool) -> None:
        """A logarithmic horizontal axis; what is not positive is left out."""
        if on != self.log_x:
            self.log_x = on
            self.item.setLogMode(x=on, y=self.log_y)

    def set_log_y(self, on: bool) -> None:
        """A logarithmic vertical axis; values that are not positive are left out."""
        if on != self.log_y:
            self.log_y = on
            self.item.setLogMode(x=self.log_x, y=on)

    def set_x_label(self, text: str, colour: str) -> None:
        """Say below the axis what x is; nothing where it is the step, as everywhere."""
        text = "" if text == "step" else text
        if text != self._x_label:
            self._x_label = text
            axis = self.item.getAxis("bottom")
            axis.showLabel(bool(text))
            axis.setHeight(_AXIS_HEIGHT + _LABEL_HEIGHT if text else _AXIS_HEIGHT)
            self._write_x_label(colour)

    def set_names(self, names: Sequence[str]) -> None:
        """Write names below 0, 1, 2 ... in place of numbers."""
        lines = ["\n".join(wrap(name, _NAME_WIDTH, break_long_words=False)) for name in names]
        axis = self.item.getAxis("bottom")
        axis.setTicks([list(enumerate(lines))])
        most = max((line.count("\n") for line in lines), default=0)
        axis.setHeight(_AXIS_HEIGHT + most * _LABEL_HEIGHT)

    def place(self, value: float, *, upright: bool) -> float | None:
        """Where a value lies on an axis, the horizontal one if ``upright``; None for what has no logarithm."""
        if not (self.log_x if upright else self.log_y):
            return value
        return math.log10(value) if value > 0 else None

    def _write_x_label(self, colour: str) -> None:
        size = small_font().pixelSize()
        self.item.getAxis("bottom").setLabel(self._x_label, **{"color": colour, "font-size": f"{size}px"})

    def _x_at(self, position: Any) -> float:
        x = float(self.view.mapSceneToView(position).x())
        return 10.0**x if self.log_x else x

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Give the wheel to the page unless Ctrl is held; end the hover when the pointer leaves."""
        if event.type() == QEvent.Type.Wheel:
            if not event.modifiers() & Qt.KeyboardModifier.ControlModifier:  # type: ignore[attr-defined]
                event.ignore()
                return True
        elif event.type() == QEvent.Type.Leave:
            self._hover.hide()
            self.hovered.emit(None)
        return super().eventFilter(watched, event)

    def _on_moved(self, position: Any) -> None:
        inside = self.view.sceneBoundingRect().contains(position)
        self._hover.setVisible(inside)
        if inside:
            self._hover.setValue(self.view.mapSceneToView(position).x())
        self.hovered.emit(self._x_at(position) if inside else None)

    def _on_clicked(self, event: Any) -> None:
        if event.button() != Qt.MouseButton.LeftButton:
            return
        if event.double():
            self.item.enableAutoRange()
        elif self.view.sceneBoundingRect().contains(event.scenePos()):
            self.picked.emit(self._x_at(event.scenePos()))


class Span(pg.GraphicsObject):  # type: ignore[misc]
    """Draws nothing; an axis that fits itself to what is plotted reaches over it."""

    def __init__(self) -> None:
        super().__init__()
        self.setFlag(self.GraphicsItemFlag.ItemHasNoContents)
        self._edges = math.nan, math.nan

    def reach(self, low: float, high: float) -> None:
        """From one x to another; NaN for nowhere."""
        before, self._edges = self._edges, (low, high)
        if not np.array_equal(before, self._edges, equal_nan=True):
            self.informViewBoundsChanged()

    def dataBounds(self, axis: int, *_: Any, **__: Any) -> tuple[float, float] | None:
        """What pyqtgraph asks."""
        return self._edges if axis == 0 else None

    def boundingRect(self) -> QRectF:
        """Nothing is drawn."""
        return QRectF()


def pen(
    colour: str, width: float = LINE_WIDTH, alpha: int = 255, style: Qt.PenStyle = Qt.PenStyle.SolidLine
) -> Any:
    """The pen of a curve, as wide on a fine screen as on another: pens of plots count its points."""
    shade = QColor(colour)
    shade.setAlpha(alpha)
    return pg.mkPen(shade, width=width * _points_of_a_pixel(), style=style)


def _points_of_a_pixel() -> float:
    app = QGuiApplication.instance()
    return app.devicePixelRatio() if isinstance(app, QGuiApplication) else 1.0
