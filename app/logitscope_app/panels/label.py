"""Labels of plain text under a name that the style sheet knows, and one kind that ends in … where narrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from PySide6.QtCore import QObject, QSize, Qt
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import QLabel

if TYPE_CHECKING:
    from PySide6.QtGui import QPaintEvent

Named = TypeVar("Named", bound=QObject)
_LEFT = Qt.AlignmentFlag.AlignLeft


def named(thing: Named, name: str) -> Named:
    """``thing`` under a name, by which the style sheet dresses it."""
    thing.setObjectName(name)
    return thing


def label(name: str, text: str = "", alignment: Qt.AlignmentFlag = _LEFT, *, wrap: bool = False) -> QLabel:
    """A label that takes what comes from run files as it is: no markup."""
    made = named(QLabel(text), name)
    made.setAlignment(alignment | Qt.AlignmentFlag.AlignVCenter)
    made.setTextFormat(Qt.TextFormat.PlainText)
    made.setWordWrap(wrap)
    return made


class ElidedLabel(QLabel):
    """One line of plain text that gives way before others do."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setObjectName(name)
        self.setTextFormat(Qt.TextFormat.PlainText)

    def minimumSizeHint(self) -> QSize:
        """Three letters and the dots."""
        width = min(self.fontMetrics().horizontalAdvance("Abc…"), self.sizeHint().width())
        return QSize(width, super().minimumSizeHint().height())

    def sizeHint(self) -> QSize:
        """The whole text."""
        return QSize(self.fontMetrics().horizontalAdvance(self.text()) + 2, super().sizeHint().height())

    @property
    def shown(self) -> str:
        """What there is room for."""
        return self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, self.width())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw what there is room for."""
        painter = QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        painter.drawText(self.rect(), int(self.alignment()), self.shown)
        painter.end()
