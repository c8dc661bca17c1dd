"""All keys at one glance, laid over the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QGridLayout, QLabel, QVBoxLayout, QWidget

from logitscope_app.panels.label import label, named
from logitscope_app.panels.overlay import Overlay
from logitscope_app.theme.palette import GAP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PySide6.QtGui import QKeyEvent, QMouseEvent


class HelpOverlay(Overlay):
    """Covers its parent; any key or click closes it."""

    def __init__(self, parent: QWidget, keys: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        super().__init__(parent)
        self.setAccessibleName("Keys")
        self.setStyleSheet("HelpOverlay { background: rgba(0, 0, 0, 150); }")
        card = named(QFrame(), "panel")
        layout = QVBoxLayout(card)
        layout.setContentsMargins(4 * GAP, 3 * GAP, 4 * GAP, 3 * GAP)
        layout.setSpacing(2 * GAP)
        layout.addWidget(label("large", "Keys"))
        table = QGridLayout()
        table.setHorizontalSpacing(3 * GAP)
        table.setVerticalSpacing(GAP // 2)
        half = (sum(len(entries) + 2 for entries in keys.values()) + 1) // 2
        row, column = 0, 0
        for group, entries in keys.items():
            if row >= half and column == 0:
                row, column = 0, 2
            table.addWidget(label("title", group), row, column, 1, 2)
            for index, (key, what) in enumerate(entries, row + 1):
                table.addWidget(label("readout", key), index, column)
                table.addWidget(QLabel(what), index, column + 1)
            row += len(entries) + 2
        layout.addLayout(table)
        layout.addWidget(label("small", "Any key closes this."))
        outer = QVBoxLayout(self)
        outer.addWidget(card, alignment=Qt.AlignmentFlag.AlignCenter)

    def toggle(self) -> None:
        """Open or close."""
        if self.isVisible():
            self.close()
        else:
            self.cover(self)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Close."""
        self.close()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Close."""
        self.close()
