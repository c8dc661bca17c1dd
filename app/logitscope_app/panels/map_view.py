"""One matrix large: cells, labels, colour bar, and the exact value under the pointer or the key cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QPointF, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFontMetricsF, QImage, QLinearGradient, QPainter, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from logitscope_app.models.colour import Scale
from logitscope_app.models.pyramid import Pyramid
from logitscope_app.models.text import number
from logitscope_app.panels.map_image import map_image
from logitscope_app.services.preparer import Preparer
from logitscope_app.theme.colormaps import sample
from logitscope_app.theme.palette import GAP
from logitscope_app.theme.style import small_font

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtCore import QEvent
    from PySide6.QtGui import QKeyEvent, QMouseEvent, QPaintEvent, QWheelEvent

    from logitscope_app.models.states import FloatArray
    from logitscope_app.theme.palette import Palette

_BAR = 10
_BAR_LABELS = (0.0, 0.5, 1.0)
_LABEL_PIXELS = 10
_WIDEST_LABEL = 84.0
_ZOOM = 1.25
_FEWEST = 4
"""Rows and columns that are seen at the largest zoom."""
_AT_ONCE = 1 << 22
"""Cells up to which a map is halved at once, some 10 ms; a larger one is made ready on another thread."""
_KEYS = {Qt.Key.Key_Left: (0, -1), Qt.Key.Key_Right: (0, 1), Qt.Key.Key_Up: (-1, 0), Qt.Key.Key_Down: (1, 0)}


class MapView(QWidget):
    """Paints a matrix. ``pointed`` says what the cursor reads, or nothing when there is no cursor.

    A large one is shown roughly, one cell for many, until it is halved as far as the pixels need; where that fails, it
    stays so, and says why.
    Ctrl and the wheel, or ``Z`` and ``Shift+Z``, zoom; dragging moves a map that is zoomed; a double click shows all.
    """

    pointed = Signal(str)

    def __init__(self, palette: Palette, *, square: bool = False) -> None:
        super().__init__()
        self._palette = palette
        self._square = square
        self._values: FloatArray = np.empty((0, 0))
        self._scale = Scale(0.0, 1.0)
        self._rows: Sequence[str] = ()
        self._columns: Sequence[str] = ()
        self._blank_zeros = False
        self._pyramid = Pyramid(self._values)
        self._preparer = Preparer()
        self._preparer.done.connect(self._prepared)
        self._preparer.failed.connect(self._unprepared)
        self._asked: Pyramid | None = None
        self._given_up: Pyramid | None = None
        self._note = ""
        self._is_rough = False
        self._view = QRect(0, 0, 0, 0)
        self._drawn: tuple[object, ...] = ()
        self._image = QImage()
        self._covered = QRectF()
        self._grip: tuple[QPointF, QRect] | None = None
        self._cell: tuple[int, int] | None = None
        self.setFont(small_font())
        self._label_font = small_font()
        self._label_font.setPixelSize(_LABEL_PIXELS)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(120, 100)
        self.setAccessibleName("Map")

    def sizeHint(self) -> QSize:
        """Large enough to read a map of 64 cells."""
        return QSize(360, 340)

    def show_map(
        self,
        values: FloatArray,
        scale: Scale,
        rows: Sequence[str] = (),
        columns: Sequence[str] = (),
        *,
        blank_zeros: bool = False,
    ) -> None:
        """Show another matrix; the cursor stays on its cell."""
        if values.shape != self._values.shape:
            self._view = QRect(0, 0, values.shape[1], values.shape[0])
        if values is not self._values:
            self._pyramid = Pyramid(values)
        self._values, self._scale, self._rows, self._columns = values, scale, rows, columns
        self._blank_zeros = blank_zeros
        if self._cell is not None and not self._has(self._cell):
            self._cell = None
        self._say()
        self.update()

    def restyle(self, palette: Palette) -> None:
        """Wear other colours."""
        self._palette = palette
        self.update()

    @property
    def preparing(self) -> bool:
        """Whether what was painted is only a rough look, soon to be replaced."""
        return self._asked is self._pyramid

    @property
    def view(self) -> QRect:
        """The cells that are seen: columns from left to right, rows from top to bottom."""
        return self._view

    def zoom(self, factor: float, at: QPointF | None = None) -> None:
        """See ``factor`` times more of the matrix, keeping in place what is at a point of the widget."""
        if not self._values.size:
            return
        area, view = self._area(), self._view
        at = at if at is not None and area.contains(at) else area.center()
        across, down = (at.x() - area.left()) / area.width(), (at.y() - area.top()) / area.height()
        rows, columns = self._values.shape
        height = min(max(round(view.height() * factor), min(_FEWEST, rows)), rows)
        width = min(max(round(view.width() * factor), min(_FEWEST, columns)), columns)
        left = view.left() + across * (view.width() - width)
        top = view.top() + down * (view.height() - height)
        self._look_at(QRect(round(left), round(top), width, height))

    def show_all(self) -> None:
        """See the whole matrix."""
        rows, columns = self._values.shape
        self._look_at(QRect(0, 0, columns, rows))

    def _look_at(self, view: QRect) -> None:
        rows, columns = self._values.shape
        view.moveLeft(min(max(view.left(), 0), columns - view.width()))
        view.moveTop(min(max(view.top(), 0), rows - view.height()))
        self._view = view
        self.update()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Zoom with Ctrl; without it the page scrolls."""
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.zoom(_ZOOM if event.angleDelta().y() < 0 else 1 / _ZOOM, event.position())
            event.accept()
        else:
            event.ignore()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Take hold of a map that is zoomed."""
        super().mousePressEvent(event)
        if self._is_zoomed() and self._area().contains(event.position()):
            self._grip = event.position(), QRect(self._view)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Let go."""
        super().mouseReleaseEvent(event)
        self._grip = None

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """See the whole matrix."""
        if self._is_zoomed():
            self.show_all()
        else:
            super().mouseDoubleClickEvent(event)

    def _is_zoomed(self) -> bool:
        return bool(self._values.size) and self._view.size() != QSize(*self._values.shape[::-1])

    def point_at(self, cell: tuple[int, int] | None) -> None:
        """Put the cursor on a cell; None takes it away."""
        cell = cell if cell is not None and self._has(cell) else None
        if cell != self._cell:
            self._cell = cell
            self._say()
            self.update()

    def reading(self) -> str:
        """What the cursor reads: row, column and value."""
        if self._cell is None:
            return ""
        row, column = self._cell
        names = [f"row {row}", f"column {column}"]
        for index, (labels, at) in enumerate(((self._rows, row), (self._columns, column))):
            if labels:
                names[index] += f" “{labels[at]}”"
        return f"{names[0]} → {names[1]}: {number(float(self._values[row, column]))}"

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Read the cell under the pointer."""
        area, at, view = self._area(), event.position(), self._view
        if self._grip is not None:
            start, held = self._grip
            across = round((start.x() - at.x()) / area.width() * view.width())
            down = round((start.y() - at.y()) / area.height() * view.height())
            self._look_at(held.translated(across, down))
        elif self._values.size and area.contains(at):
            row = int((at.y() - area.top()) / area.height() * view.height())
            column = int((at.x() - area.left()) / area.width() * view.width())
            self.point_at(
                (view.top() + min(row, view.height() - 1), view.left() + min(column, view.width() - 1))
            )
        else:
            self.point_at(None)

    def leaveEvent(self, event: QEvent) -> None:
        """Take the cursor away with the pointer, unless the keyboard holds it."""
        if not self.hasFocus():
            self.point_at(None)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Move the cursor with the arrow keys; Escape takes it away."""
        if event.key() == Qt.Key.Key_Escape and self._cell is not None:
            self.point_at(None)
        elif event.key() == Qt.Key.Key_Z:
            outwards = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
            self.zoom(_ZOOM if outwards else 1 / _ZOOM, self._middle_of_cursor())
        elif event.key() in _KEYS and self._values.size:
            down, right = _KEYS[Qt.Key(event.key())]
            row, column = self._cell or (0, 0)
            moved = (row + down, column + right) if self._cell else (row, column)
            if self._has(moved):
                self.point_at(moved)
                self._follow(moved)
        else:
            super().keyPressEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Cells, labels, bar, cursor."""
        if not self._values.size:
            return
        painter = QPainter(self)
        area = self._area()
        self._make_image(area)
        shrunk = area.width() < self._image.width() or area.height() < self._image.height()
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, shrunk)
        painter.save()
        painter.setClipRect(area)
        painter.drawImage(self._box(area, self._covered), self._image)
        painter.restore()
        self._paint_rows(painter, area)
        self._paint_columns(painter, area)
        self._paint_bar(painter, area)
        if self._is_rough:
            self._paint_note(painter, area)
        if self._cell is not None:
            painter.setClipRect(area.adjusted(-2, -2, 2, 2))
            self._paint_cursor(painter, area)
        painter.end()

    def _make_image(self, area: QRectF) -> None:
        """Colour the cells that are seen, as many as there are pixels; kept until something changes."""
        view, pixels, pyramid = self._view, (area.height(), area.width()), self._pyramid
        rough = self._values.size > _AT_ONCE and not pyramid.is_ready(view.height(), view.width(), pixels)
        key = (pyramid, rough, self._scale, self._palette, self._blank_zeros, view.getRect(), pixels)
        if key == self._drawn:
            return
        self._drawn, self._is_rough = key, rough
        if rough and pyramid not in (self._asked, self._given_up):
            self._asked, self._note = pyramid, "preparing …"
            self._preparer.ask(pyramid.build)
        cells, (top, left, rows, columns) = pyramid.window(
            view.top(), view.left(), view.height(), view.width(), pixels, rough=rough
        )
        self._image = map_image(cells, self._scale, self._palette, blank_zeros=self._blank_zeros)
        self._covered = QRectF(left, top, columns, rows)

    def _prepared(self) -> None:
        """Paint anew if it was the map asked for last that became ready."""
        if self._asked is not None and self._asked.is_built:
            self._asked = None
            self.update()

    def _unprepared(self, work: object, reason: str) -> None:
        """Stay with the rough look if it was the map asked for last that cannot be made ready."""
        if self._asked is not None and work == self._asked.build:
            self._asked, self._given_up = None, self._asked
            self._note = f"one cell for many: {reason}"
            self.update()

    def _box(self, area: QRectF, cells: QRectF) -> QRectF:
        """Where cells lie in the widget."""
        across, down = area.width() / self._view.width(), area.height() / self._view.height()
        return QRectF(
            area.left() + (cells.left() - self._view.left()) * across,
            area.top() + (cells.top() - self._view.top()) * down,
            cells.width() * across,
            cells.height() * down,
        )

    def _middle_of_cursor(self) -> QPointF | None:
        if self._cell is None:
            return None
        return self._box(self._area(), QRectF(self._cell[1], self._cell[0], 1, 1)).center()

    def _follow(self, cell: tuple[int, int]) -> None:
        """Move a zoomed view so that the cursor stays in it."""
        view = QRect(self._view)
        view.moveTop(min(max(view.top(), cell[0] - view.height() + 1), cell[0]))
        view.moveLeft(min(max(view.left(), cell[1] - view.width() + 1), cell[1]))
        if view != self._view:
            self._look_at(view)

    def _has(self, cell: tuple[int, int]) -> bool:
        rows, columns = self._values.shape
        return bool(0 <= cell[0] < rows and 0 <= cell[1] < columns)

    def _say(self) -> None:
        self.pointed.emit(self.reading())

    def _area(self) -> QRectF:
        """Where the cells lie."""
        metrics = QFontMetricsF(self._label_font)
        left = self._label_space(metrics, self._rows, self._values.shape[0]) + 5
        bottom = metrics.height() + 3
        if self._turned(metrics, self.width() - left - self._bar_space()):
            bottom = self._label_space(metrics, self._columns, self._values.shape[1]) + 5
        width = max(20.0, self.width() - left - self._bar_space())
        top = metrics.height() / 2
        height = max(20.0, self.height() - bottom - top)
        if self._square and self._values.size:
            rows, columns = self._view.height(), self._view.width()
            cell = min(width / columns, height / rows)
            # More than a quarter out of square is not worth empty space: stretch up to that.
            width, height = min(width, cell * columns * 1.25), min(height, cell * rows * 1.25)
            left += (self.width() - left - self._bar_space() - width) / 2
        return QRectF(left, top, width, height)

    def _bar_space(self) -> float:
        metrics = QFontMetricsF(self.font())
        texts = [number(self._scale.value(position), 2) for position in _BAR_LABELS]
        return GAP + _BAR + 4 + max(map(metrics.horizontalAdvance, texts)) + 2

    @staticmethod
    def _label_space(metrics: QFontMetricsF, labels: Sequence[str], count: int) -> float:
        names = labels or [str(max(count - 1, 0))]
        return min(_WIDEST_LABEL, max(metrics.horizontalAdvance(name) for name in names))

    def _turned(self, metrics: QFontMetricsF, width: float) -> bool:
        """Whether column labels must stand upright to be readable."""
        if not self._columns or not self._values.size:
            return False
        widest = max(metrics.horizontalAdvance(name) for name in self._columns)
        return widest > 3 * width / len(self._columns) and widest > metrics.height()

    def _paint_rows(self, painter: QPainter, area: QRectF) -> None:
        metrics = QFontMetricsF(self._label_font)
        first, rows = self._view.top(), self._view.height()
        cell = area.height() / rows
        every = max(1, int(np.ceil(metrics.height() * 0.95 / cell)))
        for row in _shown(first, rows, every, named=bool(self._rows)):
            box = QRectF(0, area.top() + (row - first) * cell, area.left() - 5, cell)
            self._paint_label(
                painter, box, self._rows[row] if self._rows else str(row), Qt.AlignmentFlag.AlignRight
            )

    def _paint_columns(self, painter: QPainter, area: QRectF) -> None:
        metrics = QFontMetricsF(self._label_font)
        first, columns = self._view.left(), self._view.width()
        cell = area.width() / columns
        turned = self._turned(metrics, area.width())
        names = self._columns or [str(first + columns - 1)]
        room = (
            metrics.height() * 0.95 if turned else max(metrics.horizontalAdvance(name) for name in names) + 3
        )
        every = max(1, int(np.ceil(room / cell)))
        for column in _shown(first, columns, every, named=bool(self._columns)):
            name = self._columns[column] if self._columns else str(column)
            middle = area.left() + (column - first + 0.5) * cell
            if turned:
                painter.save()
                painter.translate(middle, area.bottom() + 4)
                painter.rotate(-90)
                box = QRectF(-_WIDEST_LABEL, -metrics.height() / 2, _WIDEST_LABEL, metrics.height())
                self._paint_label(painter, box, name, Qt.AlignmentFlag.AlignRight)
                painter.restore()
            else:
                box = QRectF(middle - 50, area.bottom() + 2, 100, metrics.height())
                self._paint_label(painter, box, name, Qt.AlignmentFlag.AlignHCenter)

    def _paint_label(self, painter: QPainter, box: QRectF, text: str, alignment: Qt.AlignmentFlag) -> None:
        painter.setFont(self._label_font)
        painter.setPen(QColor(self._palette.muted))
        flags = alignment | Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextDontClip
        painter.drawText(box, int(flags), text)

    def _paint_bar(self, painter: QPainter, area: QRectF) -> None:
        bar = QRectF(area.right() + GAP, area.top(), _BAR, area.height())
        fill = QLinearGradient(bar.bottomLeft(), bar.topLeft())
        name = self._palette.signed if self._scale.signed else self._palette.amounts
        for position in np.linspace(0.0, 1.0, 17).tolist():
            fill.setColorAt(position, QColor(sample(name, position)))
        painter.fillRect(bar, fill)
        painter.setFont(self._label_font)
        painter.setPen(QColor(self._palette.muted))
        metrics = QFontMetricsF(self._label_font)
        for position in _BAR_LABELS:
            text = number(self._scale.value(position), 2)
            y = bar.bottom() - position * (bar.height() - metrics.height()) - metrics.height()
            painter.drawText(QPointF(bar.right() + 4, y + metrics.ascent()), text)

    def _paint_note(self, painter: QPainter, area: QRectF) -> None:
        """Say that this is a rough look."""
        metrics = QFontMetricsF(self._label_font)
        box = QRectF(
            area.left() + 4, area.top() + 4, metrics.horizontalAdvance(self._note) + GAP, metrics.height() + 4
        )
        painter.setPen(QPen(QColor(self._palette.border), 1))
        painter.setBrush(QColor(self._palette.raised))
        painter.drawRoundedRect(box, 4, 4)
        painter.setFont(self._label_font)
        painter.setPen(QColor(self._palette.text))
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, self._note)
        painter.setBrush(Qt.BrushStyle.NoBrush)

    def _paint_cursor(self, painter: QPainter, area: QRectF) -> None:
        assert self._cell is not None
        cell = self._box(area, QRectF(self._cell[1], self._cell[0], 1, 1))
        line = QColor(self._palette.accent)
        line.setAlpha(70)
        painter.fillRect(QRectF(area.left(), cell.top(), area.width(), cell.height()), line)
        painter.fillRect(QRectF(cell.left(), area.top(), cell.width(), area.height()), line)
        painter.setPen(QPen(QColor(self._palette.text), 1.5))
        painter.drawRect(cell.adjusted(-1, -1, 1, 1))


def is_preparing(widget: QWidget) -> bool:
    """Whether a map in a widget is shown roughly, since it is still made ready."""
    return any(view.preparing for view in widget.findChildren(MapView))


def _shown(first: int, count: int, every: int, *, named: bool) -> range:
    """Which labels are written: evenly spaced ones; plain numbers in round distances."""
    if not named and every > 1:
        every = next(
            (step for step in (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if step >= every), every
        )
    return range(-(-first // every) * every, first + count, every)
