"""All heads small: a row a layer, a column a head, one of them chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFontMetricsF, QImage, QPainter, QPen
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from logitscope_app.models.text import number
from logitscope_app.panels.map_image import map_image
from logitscope_app.theme.style import small_font

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PySide6.QtGui import QHelpEvent, QKeyEvent, QMouseEvent, QPaintEvent

    from logitscope_app.models.colour import Scale
    from logitscope_app.models.states import FloatArray
    from logitscope_app.theme.palette import Palette

_SPACE = 5.0
_CAPTION_NEEDS = 34.0
_KEYS = {Qt.Key.Key_Left: (0, -1), Qt.Key.Key_Right: (0, 1), Qt.Key.Key_Up: (-1, 0), Qt.Key.Key_Down: (1, 0)}


class HeadGrid(QWidget):
    """Paints the thumbnails; ``chosen`` emits layer and head that were picked with mouse or arrow keys."""

    chosen = Signal(int, int)

    def __init__(self, palette: Palette) -> None:
        super().__init__()
        self._palette = palette
        self._maps: FloatArray = np.empty((0, 0, 0, 0))
        self._images: list[list[QImage]] = []
        self._figure: FloatArray | None = None
        self._selected = (0, 0)
        self._order: Sequence[tuple[int, int]] = ()
        self.setFont(small_font())
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(120, 100)
        self.setAccessibleName("Heads")

    def sizeHint(self) -> QSize:
        """Room for four by four."""
        return QSize(320, 340)

    def show_maps(
        self,
        maps: FloatArray,
        scale_of_head: Callable[[int, int], Scale],
        figure: FloatArray | None,
        palette: Palette,
        selected: tuple[int, int],
        order: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Show other maps; ``figure`` (layers, heads) is written under the tiles.

        With an ``order``, which names every head once, the tiles stand in it, row after row, each with its name.
        """
        self._order = order
        self._maps, self._figure, self._palette, self._selected = maps, figure, palette, selected
        self._images = [
            [
                map_image(values, scale_of_head(layer, head), palette, blank_zeros=True)
                for head, values in enumerate(heads)
            ]
            for layer, heads in enumerate(maps)
        ]
        self.update()

    def select(self, layer: int, head: int) -> None:
        """Mark another head."""
        self._selected = (layer, head)
        self.update()

    def tile(self, layer: int, head: int) -> QRectF:
        """Where a head is painted."""
        if self._order:
            layer, head = divmod(self._order.index((layer, head)), self._maps.shape[1])
        layers, heads = self._maps.shape[:2]
        metrics = QFontMetricsF(self.font())
        left, top = metrics.horizontalAdvance(f"L{layers - 1}") + 6, metrics.height() + 2
        caption = metrics.height() if self._figure is not None else 0.0
        wide = (self.width() - left - _SPACE * (heads - 1)) / heads
        high = (self.height() - top - (_SPACE + caption) * (layers - 1) - caption) / layers
        if high < _CAPTION_NEEDS and caption:
            caption = 0.0
            high = (self.height() - top - _SPACE * (layers - 1)) / layers
        # Tiles may be out of square by a third, so that the grid fills its place.
        wide, high = max(4.0, min(wide, high * 1.33)), max(4.0, min(high, wide * 1.33))
        return QRectF(left + head * (wide + _SPACE), top + layer * (high + _SPACE + caption), wide, high)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Choose the head that was pressed."""
        found = self._at(event.position().x(), event.position().y())
        if found is not None:
            self.setFocus()
            self.chosen.emit(*found)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Choose a neighbour with the arrow keys."""
        if event.key() not in _KEYS or not self._maps.size:
            super().keyPressEvent(event)
            return
        down, right = _KEYS[Qt.Key(event.key())]
        layer, head = self._place(self._selected)
        layer, head = layer + down, head + right
        if 0 <= layer < self._maps.shape[0] and 0 <= head < self._maps.shape[1]:
            self.chosen.emit(
                *(self._order[layer * self._maps.shape[1] + head] if self._order else (layer, head))
            )

    def event(self, event: QHelpEvent) -> bool:  # type: ignore[override]
        """Name the head under the pointer."""
        if event.type() == event.Type.ToolTip:
            found = self._at(event.pos().x(), event.pos().y())
            if found is None:
                QToolTip.hideText()
            else:
                figure = f", {number(float(self._figure[found]), 3)}" if self._figure is not None else ""
                QToolTip.showText(event.globalPos(), f"layer {found[0]}, head {found[1]}{figure}", self)
            return True
        return super().event(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Tiles, their names and figures."""
        if not self._images:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        metrics = QFontMetricsF(self.font())
        text, muted = QColor(self._palette.text), QColor(self._palette.muted)
        for layer, images in enumerate(self._images):
            for head, image in enumerate(images):
                box = self.tile(layer, head)
                painter.drawImage(box, image)
                chosen = (layer, head) == self._selected
                if chosen:
                    painter.setPen(QPen(QColor(self._palette.accent), 2))
                    painter.drawRect(box.adjusted(-1.5, -1.5, 1.5, 1.5))
                painter.setPen(text if chosen else muted)
                if self._order:
                    name = box.adjusted(2, 1, 0, 0)
                    painter.drawText(name, Qt.AlignmentFlag.AlignLeft, f"L{layer} H{head}")
                elif layer == 0:
                    name = QRectF(box.left(), 0, box.width(), metrics.height())
                    painter.drawText(name, Qt.AlignmentFlag.AlignCenter, f"H{head}")
                if head == 0 and not self._order:
                    name = QRectF(0, box.top(), box.left() - 6, box.height())
                    painter.drawText(
                        name, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, f"L{layer}"
                    )
                if self._figure is not None and box.height() >= _CAPTION_NEEDS:
                    below = QRectF(box.left(), box.bottom() + 2, box.width(), metrics.height())
                    value = number(float(self._figure[layer, head]), 2)
                    painter.drawText(below, Qt.AlignmentFlag.AlignCenter, value)
        painter.end()

    def _place(self, head: tuple[int, int]) -> tuple[int, int]:
        """Row and column of a head's tile."""
        return divmod(self._order.index(head), self._maps.shape[1]) if self._order else head

    def _at(self, x: float, y: float) -> tuple[int, int] | None:
        layers, heads = self._maps.shape[:2]
        for layer in range(layers):
            for head in range(heads):
                if self.tile(layer, head).contains(x, y):
                    return layer, head
        return None
