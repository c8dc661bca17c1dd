"""Every command by name: type some letters, press Return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtWidgets import (
    QDialog,
    QHeaderView,
    QLineEdit,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from logitscope_app.panels.label import named
from logitscope_app.theme.palette import GAP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PySide6.QtGui import QKeyEvent

_WIDTH, _HEIGHT = 560, 380
_MOVES = (Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_PageUp, Qt.Key.Key_PageDown)


@dataclass(frozen=True, slots=True)
class Choice:
    """Something that can be done."""

    text: str
    keys: str
    do: Callable[[], None]


def matches(text: str, wanted: str) -> bool:
    """Whether the letters of each word of ``wanted`` stand in ``text`` in their order.

    Examples
    --------
    >>> matches("View: Light or dark", "dark"), matches("View: Light or dark", "vlod"), matches("Quit", "x")
    (True, True, False)
    """
    letters = iter(text.lower())
    return all(letter in letters for letter in wanted.lower().replace(" ", ""))


class CommandPalette(QDialog):
    """A field and a list below it, over the window; Esc closes."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowFlag(Qt.WindowType.Popup)
        self.setAccessibleName("Commands")
        self._choices: Sequence[Choice] = ()
        self.field = QLineEdit(placeholderText="What do you want to do?")
        self.field.setAccessibleName("Command")
        self.field.textChanged.connect(self._sift)
        self.field.returnPressed.connect(self._do)
        self.field.installEventFilter(self)
        self.list = named(QTreeWidget(), "commands")
        self.list.setAccessibleName("Commands")
        self.list.setColumnCount(2)
        self.list.setHeaderHidden(True)
        self.list.setRootIsDecorated(False)
        self.list.header().setStretchLastSection(False)
        self.list.header().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.list.header().setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.list.itemClicked.connect(self._do)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(GAP, GAP, GAP, GAP)
        layout.addWidget(self.field)
        layout.addWidget(self.list)

    def open_with(self, choices: Sequence[Choice]) -> None:
        """Show what can be done."""
        self._choices = choices
        self.field.clear()
        self._sift("")
        parent = self.parentWidget()
        if parent is not None:
            corner = parent.mapToGlobal(parent.rect().center())
            self.setGeometry(corner.x() - _WIDTH // 2, corner.y() - _HEIGHT, _WIDTH, _HEIGHT)
        self.show()
        self.field.setFocus()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Let the arrow keys move the list while the field has the keyboard."""
        if event.type() == QEvent.Type.KeyPress:
            key: QKeyEvent = event  # type: ignore[assignment]
            if key.key() in _MOVES:
                self.list.keyPressEvent(key)
                return True
        return super().eventFilter(watched, event)

    def _sift(self, wanted: str) -> None:
        self.list.clear()
        found = [choice for choice in self._choices if matches(choice.text, wanted)]
        found.sort(key=lambda choice: wanted.lower() not in choice.text.lower())
        for choice in found:
            item = QTreeWidgetItem([choice.text, choice.keys])
            item.setData(0, Qt.ItemDataRole.UserRole, choice)
            item.setForeground(1, self.palette().placeholderText())
            self.list.addTopLevelItem(item)
            if choice is found[0]:
                self.list.setCurrentItem(item)

    def _do(self) -> None:
        item = self.list.currentItem()
        self.close()
        if item is not None:
            item.data(0, Qt.ItemDataRole.UserRole).do()
