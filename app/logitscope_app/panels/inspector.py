"""The inspector: every tag in figures at the step that is seen, to sort, sift and copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import (
    QAbstractTableModel,
    QModelIndex,
    QPersistentModelIndex,
    QSortFilterProxyModel,
    Qt,
    Signal,
)
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QHeaderView,
    QLineEdit,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from logitscope_app.models.glossary import tooltip
from logitscope_app.models.inspect import COLUMNS, Inspected, as_table
from logitscope_app.panels.label import label, named
from logitscope_app.theme.palette import GAP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtGui import QKeyEvent, QResizeEvent

_SORTED = Qt.ItemDataRole.UserRole
_HINTS = (
    "Double-click a heading's edge to fit its column.",
    "Value at the step that is seen",
    "Difference to the value before",
    "Lowest of all finite values",
    "Mean of all finite values",
    "Highest of all finite values",
    "Values recorded",
    "Step of the value that is seen",
    "What is recorded under the tag",
)
_WIDTHS = (230, *(84,) * (len(COLUMNS) - 1))
"""Of the columns where there is no more room."""
_Index = QModelIndex | QPersistentModelIndex


class InspectorModel(QAbstractTableModel):
    """The rows as Qt asks for them."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: Sequence[Inspected] = ()
        self._texts: list[tuple[str, ...] | None] = []

    def set_rows(self, rows: Sequence[Inspected]) -> None:
        """Show other rows; the same tags keep their places, and with them the selection."""
        same = [row.tag for row in rows] == [row.tag for row in self.rows]
        if not same:
            self.beginResetModel()
        self.rows, self._texts = rows, [None] * len(rows)
        if not same:
            self.endResetModel()
        elif rows:
            self.dataChanged.emit(self.index(0, 1), self.index(len(rows) - 1, len(COLUMNS) - 1))

    def rowCount(self, parent: _Index = QModelIndex()) -> int:  # noqa: B008 -- Qt's own signature
        """How many rows there are."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: _Index = QModelIndex()) -> int:  # noqa: B008 -- Qt's own signature
        """How many columns there are."""
        return len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:
        """A heading, or what it means."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return COLUMNS[section]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(section)
        return _HINTS[section] if role == Qt.ItemDataRole.ToolTipRole else None

    def data(self, index: _Index, role: int = 0) -> Any:
        """A cell."""
        row, column = self.rows[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            texts = self._texts[index.row()]
            if texts is None:
                texts = self._texts[index.row()] = row.texts()
            return texts[column]
        if role == _SORTED:
            return row.cells()[column]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(column)
        return tooltip(row.tag) if role == Qt.ItemDataRole.ToolTipRole else None


class _Sorted(QSortFilterProxyModel):
    """Sorts figures as figures, those that are missing last, and sifts by every word."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.setSortRole(_SORTED)

    def sift(self, text: str) -> None:
        """Leave the rows whose tag or kind has all these words."""
        self.words = text.lower().split()
        self.invalidate()

    def filterAcceptsRow(self, row: int, parent: _Index) -> bool:
        """Whether a row is left."""
        model = self.sourceModel()
        assert isinstance(model, InspectorModel)
        text = f"{model.rows[row].tag} {model.rows[row].kind}".lower()
        return all(word in text for word in self.words)

    def lessThan(self, left: _Index, right: _Index) -> bool:
        """Order of two cells of a column."""
        first, second = left.data(_SORTED), right.data(_SORTED)
        if (
            first != first or second != second
        ):  # NaN: below all others one way, so that turned round it is last
            descending = self.sortOrder() == Qt.SortOrder.DescendingOrder
            return bool(first == first) if not descending else bool(second == second)
        return bool(first < second)


class _Table(QTableView):
    """A table whose copy takes rows, not the cell that the cursor is on.

    Its columns fill it, each by its share, until one of them is drawn wider or narrower.
    """

    copied = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._fits = True
        self._is_fitting = False

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Give every column its share of the room."""
        super().resizeEvent(event)
        header = self.horizontalHeader()
        if self._fits and header.count() == len(_WIDTHS):
            self._is_fitting = True
            share = max(1.0, self.viewport().width() / sum(_WIDTHS))
            for column, width in enumerate(_WIDTHS):
                header.resizeSection(column, int(width * share))
            self._is_fitting = False

    def keep_widths(self) -> None:
        """Leave the columns as wide as they are, if it was not for the room that one has changed."""
        self._fits = self._fits and self._is_fitting

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Take the key for copying."""
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copied.emit()
        else:
            super().keyPressEvent(event)


class InspectorPanel(QWidget):
    """A table with a filter above; Ctrl+C copies the rows that are chosen, or all that are seen."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("dockBody")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.filter = QLineEdit(placeholderText="Filter tags: loss, attention layer3, histogram …")
        self.filter.setClearButtonEnabled(True)
        self.filter.setAccessibleName("Filter of the inspector")
        self.count = label("small")
        self.model = InspectorModel()
        self._sorted = _Sorted()
        self._sorted.setSourceModel(self.model)
        self.table = named(_Table(), "inspector")
        self.table.copied.connect(self.copy)
        self.table.setModel(self._sorted)
        self.table.setSortingEnabled(True)
        self.table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setAlternatingRowColors(False)
        self.table.setShowGrid(False)
        self.table.setWordWrap(False)
        self.table.setAccessibleName("Inspector")
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(24)
        header = self.table.horizontalHeader()
        header.setHighlightSections(False)
        header.setSectionsMovable(True)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        for column, width in enumerate(_WIDTHS):
            header.resizeSection(column, width)
        header.sectionResized.connect(self.table.keep_widths)
        copy = QAction("Copy rows", self.table)
        copy.triggered.connect(self.copy)
        self.table.addAction(copy)
        self.table.setContextMenuPolicy(Qt.ContextMenuPolicy.ActionsContextMenu)
        self.filter.textChanged.connect(self._sift)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(GAP - 2, GAP - 2, GAP - 4, GAP - 2)
        layout.addWidget(self.filter)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.count)

    def set_rows(self, rows: Sequence[Inspected]) -> None:
        """Show the figures of another step, or of more tags."""
        if rows is not self.model.rows:
            self.model.set_rows(rows)
            self._tell()

    def seen(self) -> list[Inspected]:
        """The rows that the filter leaves, in their order."""
        places = (self._sorted.index(row, 0) for row in range(self._sorted.rowCount()))
        return [self.model.rows[self._sorted.mapToSource(place).row()] for place in places]

    def copy(self) -> None:
        """Put the rows that are chosen, or all that are seen, on the clipboard as a table."""
        chosen = sorted({index.row() for index in self.table.selectionModel().selectedRows()})
        seen = self.seen()
        QApplication.clipboard().setText(as_table([seen[row] for row in chosen] if chosen else seen))

    def _sift(self, text: str) -> None:
        self._sorted.sift(text)
        self._tell()

    def _tell(self) -> None:
        seen, there = self._sorted.rowCount(), len(self.model.rows)
        self.count.setText(f"{seen} of {there} tags" if seen < there else f"{there} tags")


def _alignment(column: int) -> Qt.AlignmentFlag:
    right = 0 < column < len(COLUMNS) - 1
    side = Qt.AlignmentFlag.AlignRight if right else Qt.AlignmentFlag.AlignLeft
    return side | Qt.AlignmentFlag.AlignVCenter
