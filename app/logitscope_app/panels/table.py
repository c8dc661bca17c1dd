"""Tags in figures: now, lowest, highest."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem, QVBoxLayout

from logitscope_app.models.glossary import tooltip
from logitscope_app.models.states import TableState
from logitscope_app.models.text import number
from logitscope_app.panels.card import Card

if TYPE_CHECKING:
    from logitscope_app.theme.palette import Palette

_COLUMNS = ("", "now", "lowest", "highest", "points")


class TableCard(Card):
    """A table."""

    HEIGHT: ClassVar[int] = 150

    def __init__(self, palette: Palette) -> None:
        self.table = QTableWidget(0, len(_COLUMNS))
        super().__init__(palette)
        self.table.setHorizontalHeaderLabels(_COLUMNS)
        self.table.verticalHeader().hide()
        self.table.setShowGrid(False)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        header.setHighlightSections(False)
        layout = QVBoxLayout(self.content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)

    def draw(self) -> None:
        """Write the figures of the step."""
        state = self.state
        assert isinstance(state, TableState)
        self.table.setRowCount(len(state.rows))
        for index, row in enumerate(state.rows):
            figures = ("–" if value is None else number(value) for value in (row.at, row.low, row.high))
            for column, text in enumerate((row.label, *figures, f"{row.count:,}")):
                item = self.table.item(index, column)
                if item is None:
                    item = QTableWidgetItem()
                    if column:
                        item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                    self.table.setItem(index, column, item)
                item.setText(text)
                item.setToolTip(tooltip(row.tag))
