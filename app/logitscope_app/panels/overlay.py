"""What is laid over the whole window: it keeps covering it, and gives the keyboard back when it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtWidgets import QWidget
from shiboken6 import isValid

if TYPE_CHECKING:
    from PySide6.QtGui import QHideEvent


class Overlay(QWidget):
    """Covers its parent between `cover` and `hide`."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._before: QWidget | None = None
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        parent.installEventFilter(self)
        self.hide()

    def cover(self, focus: QWidget) -> None:
        """Show, above all else, with the keyboard at ``focus``."""
        self._fit()
        self._before = self.window().focusWidget()
        self.show()
        self.raise_()
        focus.setFocus()

    def hideEvent(self, event: QHideEvent) -> None:
        """Give the keyboard back, unless the whole window is put aside for a while."""
        super().hideEvent(event)
        if event.spontaneous():
            return
        before, self._before = self._before, None
        if before is not None and isValid(before):  # it may have gone with its run
            before.setFocus()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Keep covering a window that changes its size."""
        if event.type() == QEvent.Type.Resize and self.isVisible():
            self._fit()
        return False

    def _fit(self) -> None:
        parent = self.parentWidget()
        if parent is not None:
            self.setGeometry(parent.rect())
