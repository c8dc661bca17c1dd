"""All heads small: a row a layer, a column a head, one of them chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFontMetricsF, QImage, QPainter, QPen
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from logitscope_app.models.pyramid import sketch
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
_EDGE = 3.0
"""For the frame of the chosen head."""
_CAPTION_NEEDS = 34.0
_STRETCH = 1.33
"""So much may tiles be out of square, so that the grid fills its place."""
_WORTH = 1.3
"""A layer is broken into several rows where its tiles get larger by so much."""
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
                map_image(sketch(values), scale_of_head(layer, head), palette, blank_zeros=True)
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
        across = self._across()
        row, column = divmod(self._number(layer, head), across)
        left, top, wide, high, caption = self._measures(across)
        name = top if self._are_named(across) else 0.0
        return QRectF(
            left + column * (wide + _SPACE), top + row * (high + _SPACE + caption + name), wide, high
        )

    def _number(self, layer: int, head: int) -> int:
        """A head's place in the row of all."""
        return self._order.index((layer, head)) if self._order else layer * self._maps.shape[1] + head

    def _are_named(self, across: int) -> bool:
        """Whether each tile has its own name above it, not a layer's and a head's beside all."""
        return bool(self._order) or across < self._maps.shape[1]

    def _across(self) -> int:
        """How many tiles stand in a row: the heads of a layer, or a part of them if that makes tiles larger."""
        heads = self._maps.shape[1]
        areas = {
            across: (sizes := self._measures(across))[2] * sizes[3]
            for across in range(1, heads + 1)
            if heads % across == 0
        }
        best = max(areas, key=lambda across: areas[across])
        return best if areas[best] > _WORTH * areas[heads] else heads

    def _measures(self, across: int) -> tuple[float, float, float, float, float]:
        """Left and top of the first tile, width and height of each, and the height of what is written below."""
        layers, heads = self._maps.shape[:2]
        rows = layers * heads // across
        metrics = QFontMetricsF(self.font())
        line = metrics.height() + 2
        named = self._are_named(across)
        left = _EDGE if named else metrics.horizontalAdvance(f"L{layers - 1}") + 6
        caption = metrics.height() if self._figure is not None else 0.0
        above = line * rows if named else line
        wide = (self.width() - left - _EDGE - _SPACE * (across - 1)) / across
        free = self.height() - above - _EDGE - _SPACE * (rows - 1)
        high = (free - caption * rows) / rows
        if high < _CAPTION_NEEDS and caption:
            caption, high = 0.0, free / rows
        wide, high = max(4.0, min(wide, high * _STRETCH)), max(4.0, min(high, wide * _STRETCH))
        return left, line, wide, high, caption

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
        across, heads = self._across(), self._maps.shape[1]
        row, column = divmod(self._number(*self._selected), across)
        row, column = row + down, column + right
        if 0 <= row < self._maps.shape[0] * heads // across and 0 <= column < across:
            number_of_tile = row * across + column
            self.chosen.emit(*(self._order[number_of_tile] if self._order else divmod(number_of_tile, heads)))

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
        named = self._are_named(self._across())
        for layer, images in enumerate(self._images):
            for head, image in enumerate(images):
                box = self.tile(layer, head)
                painter.drawImage(box, image)
                chosen = (layer, head) == self._selected
                if chosen:
                    painter.setPen(QPen(QColor(self._palette.accent), 2))
                    painter.drawRect(box.adjusted(-1.5, -1.5, 1.5, 1.5))
                painter.setPen(text if chosen else muted)
                if named:
                    name = QRectF(box.left(), box.top() - metrics.height() - 2, box.width(), metrics.height())
                    painter.drawText(name, Qt.AlignmentFlag.AlignCenter, f"L{layer} H{head}")
                elif layer == 0:
                    name = QRectF(box.left(), 0, box.width(), metrics.height())
                    painter.drawText(name, Qt.AlignmentFlag.AlignCenter, f"H{head}")
                if head == 0 and not named:
                    name = QRectF(0, box.top(), box.left() - 6, box.height())
                    painter.drawText(
                        name, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, f"L{layer}"
                    )
                if self._figure is not None and box.height() >= _CAPTION_NEEDS:
                    below = QRectF(box.left(), box.bottom() + 2, box.width(), metrics.height())
                    value = number(float(self._figure[layer, head]), 2)
                    painter.drawText(below, Qt.AlignmentFlag.AlignCenter, value)
        painter.end()

    def _at(self, x: float, y: float) -> tuple[int, int] | None:
        layers, heads = self._maps.shape[:2]
        for layer in range(layers):
            for head in range(heads):
                if self.tile(layer, head).contains(x, y):
                    return layer, head
        return None
