"""How a list's items of two lines are painted: what it is, and below it, quieter, how it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QColor, QFontMetrics, QPainter
from PySide6.QtWidgets import QListWidget, QStyle, QStyledItemDelegate, QStyleOptionViewItem

from logitscope_app.theme.style import base_font, small_font

if TYPE_CHECKING:
    from PySide6.QtCore import QModelIndex, QPersistentModelIndex

    from logitscope_app.theme.palette import Palette


class TwoLines(QStyledItemDelegate):
    """Ground, box and mark are the style's; each line ends in … where there is no room for it."""

    def __init__(self, view: QListWidget, palette: Palette) -> None:
        super().__init__(view)
        self._view, self._palette = view, palette

    def set_palette(self, palette: Palette) -> None:
        """Wear other colours."""
        self._palette = palette

    def paint(self, painter: QPainter, option: Any, index: QModelIndex | QPersistentModelIndex) -> None:
        """Draw an item."""
        item: Any = QStyleOptionViewItem(option)
        self.initStyleOption(item, index)
        style = self._view.style()
        words: QRect = style.subElementRect(QStyle.SubElement.SE_ItemViewItemText, item, self._view)
        words.setRight(option.rect.right() - 4)
        first, _, second = str(index.data()).partition("\n")
        item.text = ""
        style.drawControl(QStyle.ControlElement.CE_ItemViewItem, item, painter, self._view)
        painter.save()
        fonts = (base_font(), small_font())
        heights = [QFontMetrics(font).height() for font in fonts]
        top = words.center().y() - sum(heights) // 2
        for text, font, height, colour in zip(
            (first, second), fonts, heights, (self._palette.text, self._palette.muted), strict=True
        ):
            painter.setFont(font)
            painter.setPen(QColor(colour))
            shown = QFontMetrics(font).elidedText(text, Qt.TextElideMode.ElideRight, words.width())
            painter.drawText(
                QRect(words.left(), top, words.width(), height), Qt.AlignmentFlag.AlignLeft, shown
            )
            top += height
        painter.restore()
