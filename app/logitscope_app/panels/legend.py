"""The names and values of a plot's lines in one line of text, as many as fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from logitscope_app.theme.palette import GAP
from logitscope_app.theme.style import small_font

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtGui import QPaintEvent

    from logitscope_app.theme.palette import Palette

_DOT = 7.0
_DASHES = 14.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the plot."""

    colour: str
    label: str
    value: str
    dashed: bool = False
    """Whether its line is."""


class Legend(QWidget):
    """Paints entries from left to right; what does not fit is counted at the end (``+3``)."""

    def __init__(self, palette: Palette) -> None:
        super().__init__()
        self._palette = palette
        self._entries: tuple[Entry, ...] = ()
        self.setFont(small_font())
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def set_entries(self, entries: Sequence[Entry]) -> None:
        """Show other entries."""
        if self._entries != (now := tuple(entries)):
            self._entries = now
            self.setToolTip("\n".join(f"{entry.label}  {entry.value}" for entry in now))
            self.update()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What is shown."""
        return self._entries

    def restyle(self, palette: Palette) -> None:
        """Wear other colours."""
        self._palette = palette
        self.update()

    def sizeHint(self) -> QSize:
        """One line of text."""
        return QSize(120, self.fontMetrics().height() + 2)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw dots, labels and values."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        metrics = QFontMetricsF(self.font())
        x, height = 0.0, float(self.height())
        for index, entry in enumerate(self._entries):
            label_width = metrics.horizontalAdvance(entry.label)
            value_width = metrics.horizontalAdvance(entry.value)
            mark = _DASHES if entry.dashed else _DOT
            width = mark + 5 + label_width + 5 + value_width
            rest = len(self._entries) - index
            counted = metrics.horizontalAdvance(f"+{rest}") + 2
            if x and x + width + (counted + 1.5 * GAP if rest > 1 else 0) > self.width():
                painter.setPen(QColor(self._palette.muted))
                painter.drawText(QRectF(x, 0, counted, height), Qt.AlignmentFlag.AlignVCenter, f"+{rest}")
                break
            self._mark(painter, entry, x, height / 2)
            x += mark + 5
            painter.setPen(QColor(self._palette.muted))
            painter.drawText(
                QRectF(x, 0, label_width + 2, height), Qt.AlignmentFlag.AlignVCenter, entry.label
            )
            x += label_width + 5
            painter.setPen(QColor(self._palette.text))
            painter.drawText(
                QRectF(x, 0, value_width + 2, height), Qt.AlignmentFlag.AlignVCenter, entry.value
            )
            x += value_width + 1.5 * GAP
        painter.end()

    @staticmethod
    def _mark(painter: QPainter, entry: Entry, x: float, middle: float) -> None:
        """A dot, or two dashes."""
        if entry.dashed:
            pen = QPen(QColor(entry.colour), 2.0, Qt.PenStyle.SolidLine, Qt.PenCapStyle.FlatCap)
            painter.setPen(pen)
            for left in (x, x + _DASHES / 2 + 1):
                painter.drawLine(QPointF(left, middle), QPointF(left + _DASHES / 2 - 1, middle))
        else:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(entry.colour))
            painter.drawEllipse(QPointF(x + _DOT / 2, middle), _DOT / 2, _DOT / 2)
