"""The line of steps: the loss behind it, marks for pictures and events, a cursor to drag."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QLineF, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from logitscope_app.models.text import number, step_number
from logitscope_app.models.timeline import Timeline
from logitscope_app.theme.style import small_font

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtCore import QEvent
    from PySide6.QtGui import QMouseEvent, QPaintEvent

    from logitscope.record import Event
    from logitscope_app.models.alerts import Alert
    from logitscope_app.theme.palette import Palette

_EDGE = 10.0
_FILL_ALPHA = 46
_HANDLE = 5.0
_BELOW = _HANDLE + 2.0
"""From the line to the numbers below it: they keep clear of the handle."""


class Track(QWidget):
    """Paints a timeline; ``picked`` emits the recorded step nearest to the pressed pointer."""

    picked = Signal(int)

    def __init__(self, palette: Palette) -> None:
        super().__init__()
        self._palette = palette
        self._timeline = Timeline()
        self._events: Sequence[Event | Alert] = ()
        self._step: int | None = None
        self._hover: int | None = None
        self._outline = QPolygonF()
        self._outline_key: tuple[object, ...] = ()
        self.setFont(small_font())
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName("Timeline")

    def minimumSizeHint(self) -> QSize:
        """Room for curve and numbers."""
        return QSize(200, 52)

    def set_timeline(self, timeline: Timeline, events: Sequence[Event | Alert]) -> None:
        """Show another run or more of it."""
        self._timeline, self._events = timeline, events
        self.update()

    def set_step(self, step: int | None) -> None:
        """Move the cursor."""
        if step != self._step:
            self._step = step
            self.update()

    def restyle(self, palette: Palette) -> None:
        """Wear other colours."""
        self._palette = palette
        self.update()

    def place(self, step: int) -> float:
        """Where a step lies, in pixels."""
        first, last = self._timeline.first or 0, self._timeline.last or 0
        return _EDGE + (self.width() - 2 * _EDGE) * ((step - first) / max(last - first, 1))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Take the cursor."""
        if event.button() == Qt.MouseButton.LeftButton:
            self._pick(event.position().x())

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Drag the cursor, or read the step under the pointer."""
        self._hover = self._at(event.position().x())
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._pick(event.position().x())
        self.update()

    def leaveEvent(self, event: QEvent) -> None:
        """Nothing is under the pointer."""
        self._hover = None
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Outline, marks, numbers, cursor."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        p = self._palette
        metrics = QFontMetricsF(self.font())
        base = self.height() - metrics.height() - _BELOW
        if self._timeline.last is None:
            painter.setPen(QColor(p.muted))
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "No step recorded yet")
            painter.end()
            return
        self._paint_outline(painter, base)
        painter.setPen(QPen(QColor(p.border), 1))
        painter.drawLine(QLineF(_EDGE, base, self.width() - _EDGE, base))
        self._paint_marks(painter, base)
        self._paint_numbers(painter, base, metrics)
        self._paint_cursor(painter, base)
        painter.end()

    def _pick(self, x: float) -> None:
        step = self._at(x)
        if step is not None:
            self.picked.emit(step)

    def _at(self, x: float) -> int | None:
        first, last = self._timeline.first, self._timeline.last
        if first is None or last is None:
            return None
        share = (x - _EDGE) / max(self.width() - 2 * _EDGE, 1)
        return self._timeline.snapped(first + share * (last - first))

    def _paint_outline(self, painter: QPainter, base: float) -> None:
        points = self._timeline.outline
        key = (points, self.width(), base, self._timeline.first, self._timeline.last)
        if key != self._outline_key:
            self._outline_key = key
            self._outline = self._make_outline(base)
        if self._outline.size() < 2:
            return
        fill = QColor(self._palette.accent)
        fill.setAlpha(_FILL_ALPHA)
        area = QPolygonF(self._outline)
        area.append(QPointF(self._outline.last().x(), base))
        area.prepend(QPointF(self._outline.first().x(), base))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(fill)
        painter.drawPolygon(area)
        painter.setPen(QPen(QColor(self._palette.accent), 1.2))
        painter.drawPolyline(self._outline)

    def _make_outline(self, base: float) -> QPolygonF:
        """One point a pixel at most: the mean of what falls into it."""
        points = self._timeline.outline
        finite = np.isfinite(points.values)
        steps, values = points.steps[finite], points.values[finite]
        if len(values) < 2:
            return QPolygonF()
        first, last = self._timeline.first or 0, self._timeline.last or 0
        x = ((self.width() - 2 * _EDGE) * (steps - first) / max(last - first, 1)).astype(np.int64)
        columns, starts = np.unique(x, return_index=True)
        means = np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))
        low, high = float(means.min()), float(means.max())
        y = base - 3 - (means - low) / ((high - low) or 1.0) * (base - 8)
        return QPolygonF([QPointF(_EDGE + a, b) for a, b in zip(columns.tolist(), y.tolist(), strict=True)])

    def _paint_marks(self, painter: QPainter, base: float) -> None:
        p = self._palette
        painter.setPen(QPen(QColor(p.faint), 1))
        last = -2.0
        for step in self._timeline.pictures.tolist():
            x = self.place(step)
            if x - last >= 2.0:
                last = x
                painter.drawLine(QLineF(x, base, x, base + 4))
        colours = {"warning": p.warn, "error": p.bad}
        painter.setPen(Qt.PenStyle.NoPen)
        for event in self._events:
            if event.step is not None and event.level in colours:
                painter.setBrush(QColor(colours[event.level]))
                painter.drawEllipse(QPointF(self.place(event.step), base), 3, 3)

    def _paint_numbers(self, painter: QPainter, base: float, metrics: QFontMetricsF) -> None:
        first, last = self._timeline.first or 0, self._timeline.last or 0
        painter.setPen(QColor(self._palette.muted))
        count = max(1, int(self.width() // 160))
        for step in _round_steps(first, last, count):
            text = step_number(step)
            width = metrics.horizontalAdvance(text) + 2
            left = min(max(self.place(step) - width / 2, 0.0), self.width() - width)
            painter.drawText(
                QRectF(left, base + _BELOW, width, metrics.height()), Qt.AlignmentFlag.AlignCenter, text
            )

    def _paint_cursor(self, painter: QPainter, base: float) -> None:
        p = self._palette
        metrics = QFontMetricsF(self.font())
        if self._hover is not None and self._hover != self._step:
            painter.setPen(QPen(QColor(p.faint), 1, Qt.PenStyle.DashLine))
            x = self.place(self._hover)
            painter.drawLine(QLineF(x, 0, x, base))
            at = self._timeline.outline.at(self._hover)
            text = f"step {step_number(self._hover)}"
            if at is not None:
                text += f"   {self._timeline.outline_label} {number(at[1])}"
            width = metrics.horizontalAdvance(text) + 12
            left = min(max(x + 6, 0.0), self.width() - width)
            box = QRectF(left, 2, width, metrics.height() + 4)
            painter.setPen(QPen(QColor(p.border), 1))
            painter.setBrush(QColor(p.raised))
            painter.drawRoundedRect(box, 4, 4)
            painter.setPen(QColor(p.text))
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter, text)
        if self._step is None:
            return
        x = self.place(self._step)
        painter.setPen(QPen(QColor(p.text), 1.6))
        painter.drawLine(QLineF(x, 2, x, base))
        painter.setPen(QPen(QColor(p.surface), 1.5))
        painter.setBrush(QColor(p.accent if self.hasFocus() else p.text))
        painter.drawEllipse(QPointF(x, base), _HANDLE, _HANDLE)


def _round_steps(first: int, last: int, count: int) -> list[int]:
    """First, last and round numbers between them that keep clear of both."""
    span = last - first
    if span <= 0:
        return [first]
    rough = span / count
    size = 10 ** int(np.floor(np.log10(max(rough, 1))))
    distance = next((m * size for m in (1, 2, 5, 10) if m * size >= rough), 10 * size)
    start = -(-first // distance) * distance
    between = [
        s for s in range(start, last, distance) if s - first > distance / 2 and last - s > distance / 2
    ]
    return [first, *between, last]
