"""Makes a film of a run: the window goes through the steps, a picture of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtGui import QImage

from logitscope_app.models.film import Film
from logitscope_app.panels.map_view import is_preparing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PySide6.QtWidgets import QWidget

    from logitscope_app.main_window import MainWindow
    from logitscope_app.models.states import Frame

FRAMES = 60
SECONDS = 6.0
_LAST_MS = 1500
"""How long the last picture stays before the film begins again."""
_SETTLE_MS = 60


class Filming(QObject):
    """Films a window; ``done`` gives the file's bytes, empty when it was stopped.

    The cursor is put back where it was.
    """

    done = Signal(object)
    progressed = Signal(int, int)

    def __init__(self, window: MainWindow, *, frames: int = FRAMES, seconds: float = SECONDS) -> None:
        super().__init__(window)
        self._window = window
        self._seconds = seconds
        steps = window.frame.timeline.steps if window.frame is not None else np.empty(0, np.int64)
        self._steps = chosen(steps, frames)
        self._film = Film()
        self._before = window.timeline.wish
        self._waiting = False
        self._ended = False

    def start(self) -> None:
        """Begin."""
        self._window.session.framed.connect(self._on_frame)
        self._next()

    def stop(self) -> None:
        """Give up."""
        self._end(b"")

    def _next(self) -> None:
        if len(self._film) == len(self._steps):
            self._end(self._film.data() if self._steps else b"")
            return
        self._waiting = True
        step = self._steps[len(self._film)]
        if (
            self._window.frame is not None
            and self._window.frame.step == step
            and self._window.timeline.wish == step
        ):
            self._on_frame(self._window.frame)
        self._window.timeline.go(step)

    def _on_frame(self, frame: Frame) -> None:
        if self._waiting and frame.step == self._steps[len(self._film)]:
            self._waiting = False
            QTimer.singleShot(_SETTLE_MS, self, self._take)

    def _take(self) -> None:
        if self._ended:
            return
        self._window.docks.finish()
        if is_preparing(self._window):
            QTimer.singleShot(_SETTLE_MS, self, self._take)
            return
        last = len(self._film) + 1 == len(self._steps)
        length = _LAST_MS if last else round(1000 * self._seconds / max(len(self._steps) - 1, 1))
        self._film.add(picture_of(self._window), length)
        self.progressed.emit(len(self._film), len(self._steps))
        self._next()

    def _end(self, data: bytes) -> None:
        if not self._ended:
            self._ended = True
            self._window.session.framed.disconnect(self._on_frame)
            if self._before is None:
                self._window.timeline.live()
            else:
                self._window.timeline.go(self._before)
            self.done.emit(data)
            self.deleteLater()


def chosen(steps: NDArray[np.int64], frames: int) -> Sequence[int]:
    """Steps at equal distances, the first and the last among them.

    Examples
    --------
    >>> chosen(np.array([0, 1, 2, 50, 100]), 3)
    [0, 50, 100]
    """
    if not len(steps):
        return []
    wished = np.linspace(steps[0], steps[-1], max(frames, 2))
    places = np.minimum(np.searchsorted(steps, wished), len(steps) - 1)
    return list(dict.fromkeys(steps[places].tolist()))


def picture_of(widget: QWidget) -> NDArray[np.uint8]:
    """What a widget looks like now, (rows, columns, 3)."""
    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    picture: NDArray[np.uint8] = rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()
    return picture
