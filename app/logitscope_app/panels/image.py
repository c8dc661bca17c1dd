"""A picture, such as a sample that a model has made."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from PySide6.QtCore import QRectF, Signal
from PySide6.QtGui import QImage, QPainter
from PySide6.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from logitscope_app.models.states import ImageState
from logitscope_app.models.text import step_number
from logitscope_app.panels.card import Card

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PySide6.QtCore import QEvent
    from PySide6.QtGui import QMouseEvent, QPaintEvent

    from logitscope_app.theme.palette import Palette


class PictureView(QWidget):
    """Paints pixels, as large as fits; ``pointed`` says what is under the pointer."""

    pointed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._pixels: NDArray[np.uint8] = np.empty((0, 0, 4), np.uint8)
        self._image = QImage()
        self.setMouseTracking(True)
        self.setMinimumSize(60, 60)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName("Picture")

    def show_pixels(self, pixels: NDArray[np.uint8]) -> None:
        """Show another picture."""
        rows, columns, _ = pixels.shape
        # The image does not own its bytes.
        self._pixels = np.ascontiguousarray(pixels)
        self._image = QImage(
            self._pixels.data, columns, rows, 4 * columns, QImage.Format.Format_RGBA8888
        ).copy()
        self.update()

    def box(self) -> QRectF:
        """Where the picture lies, in its proportions."""
        factor = min(self.width() / self._image.width(), self.height() / self._image.height())
        width, height = factor * self._image.width(), factor * self._image.height()
        return QRectF((self.width() - width) / 2, (self.height() - height) / 2, width, height)

    def reading(self, x: float, y: float) -> str:
        """Place and colour of the pixel at a point; nothing beside the picture."""
        if self._image.isNull() or not self.box().contains(x, y):
            return ""
        box = self.box()
        row = min(int((y - box.top()) / box.height() * self._image.height()), self._image.height() - 1)
        column = min(int((x - box.left()) / box.width() * self._image.width()), self._image.width() - 1)
        red, green, blue, _ = self._pixels[row, column].tolist()
        return f"row {row} → column {column}: {red} {green} {blue}"

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Read the pixel under the pointer."""
        self.pointed.emit(self.reading(event.position().x(), event.position().y()))

    def leaveEvent(self, event: QEvent) -> None:
        """Read nothing."""
        self.pointed.emit("")

    def paintEvent(self, event: QPaintEvent) -> None:
        """The picture: its pixels as they are where it is enlarged, smooth where it is shrunk."""
        if self._image.isNull():
            return
        painter = QPainter(self)
        box = self.box()
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, box.width() < self._image.width())
        painter.drawImage(box, self._image)
        painter.end()


class ImageCard(Card):
    """A picture."""

    HEIGHT: ClassVar[int] = 160
    WEIGHT: ClassVar[float] = 1.6

    def __init__(self, palette: Palette) -> None:
        self.view = PictureView()
        super().__init__(palette)
        layout = QVBoxLayout(self.content)
        layout.setContentsMargins(0, 2, 0, 0)
        layout.addWidget(self.view)
        self.view.pointed.connect(self._tell)

    def draw(self) -> None:
        """Show the picture of the step."""
        state = self.state
        assert isinstance(state, ImageState)
        self.view.show_pixels(state.pixels)
        self._tell("")

    def _tell(self, reading: str) -> None:
        state = self.state
        self.aside.setText(reading or f"step {step_number(None if state is None else state.step)}")
