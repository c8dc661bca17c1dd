"""How far the making of a film has come, with a way to stop it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QProgressDialog

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

    from logitscope_app.services.filming import Filming


class FilmDialog(QProgressDialog):
    """Stands beside the window while it is filmed."""

    def __init__(self, parent: QWidget, filming: Filming) -> None:
        super().__init__("Filming the run …", "Stop", 0, 1, parent)
        self.setWindowTitle("Film")
        self.setWindowModality(Qt.WindowModality.NonModal)
        self.canceled.connect(filming.stop)
        filming.progressed.connect(self._on_progress)
        filming.done.connect(self._on_done)

    def _on_progress(self, at: int, count: int) -> None:
        self.setMaximum(count)
        self.setValue(at)

    def _on_done(self, _data: bytes) -> None:
        self.canceled.disconnect()
        self.close()
        self.deleteLater()
