"""How an event or an alert is painted: its mark, what it is, where it was, the evidence, the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QPointF, QRect, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter
from PySide6.QtWidgets import QListWidget, QStyledItemDelegate

from logitscope_app.theme.palette import GAP, RADIUS
from logitscope_app.theme.style import base_font, small_font

if TYPE_CHECKING:
    from PySide6.QtCore import QModelIndex, QPersistentModelIndex

    from logitscope_app.theme.palette import Palette

STEP, TITLE, WHERE, BODY, REMEDY, COLOUR = (Qt.ItemDataRole.UserRole + number for number in range(6))
"""What an item holds: the step it leads to, then words, then the colour of its mark."""

_MARGIN = GAP - 2
_MARK = 7.0
_INDENT = 2 * GAP
_WRAP = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop | Qt.TextFlag.TextWordWrap


class EventRow(QStyledItemDelegate):
    """Paints the items of a list, as high as their words need at its width."""

    def __init__(self, view: QListWidget, palette: Palette) -> None:
        super().__init__(view)
        self._view, self._palette = view, palette

    def set_palette(self, palette: Palette) -> None:
        """Wear other colours."""
        self._palette = palette

    def sizeHint(self, option: Any, index: QModelIndex | QPersistentModelIndex) -> QSize:
        """The height of the words."""
        width = self._view.viewport().width() - 2 * self._view.spacing()
        return QSize(width, self._lay(None, QRect(0, 0, width, 0), index))

    def paint(self, painter: QPainter, option: Any, index: QModelIndex | QPersistentModelIndex) -> None:
        """Draw it; a chosen one lies on a raised ground."""
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if option.state & option.state.State_Selected:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(self._palette.raised))
            painter.drawRoundedRect(option.rect, RADIUS, RADIUS)
        self._lay(painter, option.rect, index)
        painter.restore()

    def _lay(self, painter: QPainter | None, box: QRect, index: QModelIndex | QPersistentModelIndex) -> int:
        """Put the words below each other, and draw them with a painter; the height that they take."""
        title, where, body, remedy = (index.data(role) or "" for role in (TITLE, WHERE, BODY, REMEDY))
        bold = base_font()
        bold.setWeight(QFont.Weight.DemiBold)
        left, width = box.left() + _MARGIN + _INDENT, box.width() - 2 * _MARGIN - _INDENT
        line = QFontMetrics(bold).height()
        aside = QFontMetrics(small_font()).horizontalAdvance(where)
        top = box.top() + _MARGIN
        if painter is not None:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(index.data(COLOUR)))
            painter.drawEllipse(
                QPointF(box.left() + _MARGIN + _MARK / 2, top + line / 2), _MARK / 2, _MARK / 2
            )
            painter.setFont(small_font())
            painter.setPen(QColor(self._palette.muted))
            painter.drawText(QRect(left, top, width, line), Qt.AlignmentFlag.AlignRight, where)
        # What has no title begins in the first line itself, beside the step.
        parts = [
            (title, bold, self._palette.text, width - aside - GAP),
            (body, base_font(), self._palette.text, width - (0 if title else aside + GAP)),
            (remedy, base_font(), self._palette.muted, width),
        ]
        for text, font, colour, room in parts:
            if not text:
                continue
            needed = QFontMetrics(font).boundingRect(QRect(0, 0, max(room, 40), 1 << 16), int(_WRAP), text)
            if painter is not None:
                painter.setFont(font)
                painter.setPen(QColor(colour))
                painter.drawText(QRect(left, top, max(room, 40), needed.height()), int(_WRAP), text)
            top += needed.height() + 2
        return top - box.top() + _MARGIN - 2
