"""What every panel shares: a titled card that draws its newest state when it is seen, and saves itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from PySide6.QtCore import QBuffer, QIODevice, QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import QAction, QKeySequence, QPainter
from PySide6.QtSvg import QSvgGenerator
from PySide6.QtWidgets import (
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QMenu,
    QMessageBox,
    QStackedLayout,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from logitscope_app.models.export import csv_bytes, rows, write_whole
from logitscope_app.models.glossary import tooltip
from logitscope_app.panels.label import ElidedLabel, label, named
from logitscope_app.theme.icons import icon
from logitscope_app.theme.palette import GAP

if TYPE_CHECKING:
    from PySide6.QtGui import QFocusEvent, QMouseEvent, QResizeEvent, QShowEvent

    from logitscope.record import Panel
    from logitscope_app.models.states import PanelState
    from logitscope_app.theme.palette import Palette


class Card(QFrame):
    """A panel. ``set_state`` keeps the newest state, drawn at once, or when it comes into view.

    Making what is inside takes far longer than the frame, so a kind leaves it to `furnish`, which is called when there
    is something to draw: at once, or, of a ``patient`` card, by who asks for it with `bring`.
    """

    picked = Signal(int)
    """A step that was chosen in the panel."""
    enlarge_wished = Signal()
    """The card should fill its dock, or give the place back."""

    HEIGHT: ClassVar[int] = 132
    """The least height at which the kind is readable."""
    WEIGHT: ClassVar[float] = 1.0
    """The share of free height that the kind gets beside others."""
    WIDE: ClassVar[bool] = False
    """Whether the kind takes a row of its own."""
    TALLEST: ClassVar[float] = 0.0
    """The height beyond which the kind gains nothing, as a share of its width; 0 for none."""
    patient = False
    """Whether the card waits for `bring` before it makes what is inside."""

    def __init__(self, palette: Palette) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.palette_ = palette
        self._state: PanelState | None = None
        self._drawn: PanelState | None = None
        self._named: Panel | None = None
        self._is_furnished = type(self).furnish is Card.furnish  # nothing is inside that is made later

        self.title = ElidedLabel("title")
        self.unit = ElidedLabel("small")
        self.aside = label("readout", alignment=Qt.AlignmentFlag.AlignRight)
        self.more = named(QToolButton(popupMode=QToolButton.ToolButtonPopupMode.InstantPopup), "quiet")
        self.more.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.more.setIconSize(QSize(14, 14))
        self.menu = QMenu(self.more)
        self.more.setMenu(self.menu)
        self.add_action("Enlarge or shrink", "M").triggered.connect(self.enlarge_wished)
        self.add_action("Save as CSV, PNG or SVG …", "S").triggered.connect(self._choose_file)

        heading = QHBoxLayout()
        heading.setContentsMargins(0, 0, 0, 0)
        heading.setSpacing(GAP - 2)
        heading.addWidget(self.title)
        heading.addWidget(self.unit)
        heading.addStretch(1)
        heading.addWidget(self.aside)
        heading.addWidget(self.more)

        # With parents from the start: a stack shows its first widget at once, alone it would be a window.
        self.content = QWidget(self)
        self.message = label("message", alignment=Qt.AlignmentFlag.AlignCenter, wrap=True)
        self.message.setParent(self)
        self._stack = QStackedLayout()
        self._stack.addWidget(self.content)
        self._stack.addWidget(self.message)

        layout = QVBoxLayout(self)
        layout.setContentsMargins(GAP + 2, GAP - 2, GAP, GAP - 2)
        layout.setSpacing(2)
        layout.addLayout(heading)
        layout.addLayout(self._stack, 1)
        self.setMinimumHeight(self.HEIGHT)
        self.set_palette(palette)

    @property
    def state(self) -> PanelState | None:
        """The newest state, drawn or not."""
        return self._state

    @property
    def is_waiting(self) -> bool:
        """Whether there is something to draw that needs `bring`."""
        return self.patient and not self._is_furnished and self._state is not None and not self._state.message

    def bring(self) -> None:
        """Make what is inside, if that is still to be done, and draw the newest state."""
        self.patient = False
        self._refresh()

    def set_state(self, state: PanelState) -> None:
        """Show ``state``; the very object shown already costs nothing."""
        self._state = state
        if self.isVisible():
            self._refresh()

    def set_palette(self, palette: Palette) -> None:
        """Wear other colours."""
        self.palette_ = palette
        self.more.setIcon(icon("more", palette.muted))
        self.restyle()
        if self._drawn is not None:
            self._drawn = None
            if self.isVisible():
                self._refresh()

    def add_action(self, text: str, key: str, *, checkable: bool = False) -> QAction:
        """An entry of the card's menu with a key that counts while the card has the keyboard."""
        action = QAction(text, self)
        action.setCheckable(checkable)
        action.setShortcut(QKeySequence(key))
        action.setShortcutContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        self.menu.addAction(action)
        self.addAction(action)
        return action

    def furnish(self) -> None:
        """Make what is inside, once; before the first `draw`."""

    def restyle(self) -> None:
        """Take over the colours of ``palette_`` in what a state does not repaint."""

    def draw(self) -> None:
        """Draw ``state``, which has something to show."""

    def save(self, path: Path) -> None:
        """Write the panel to a file: its values (``.csv``) or its picture (``.svg``, ``.png``)."""
        self.bring()
        suffix = path.suffix.lower()
        if suffix == ".csv" and self._state is not None:
            write_whole(path, csv_bytes(rows(self._state)))
        elif suffix == ".svg":
            write_whole(path, svg_bytes(self))
        else:
            write_whole(path, png_bytes(self))

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Enlarge with a double click on the heading."""
        if event.position().y() <= self.content.y():
            self.enlarge_wished.emit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Leave the unit out where the title needs its room."""
        super().resizeEvent(event)
        self._fit_heading()

    def showEvent(self, event: QShowEvent) -> None:
        """Draw what came while the panel was hidden."""
        super().showEvent(event)
        self._refresh()

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Mark the panel that the keyboard speaks to."""
        super().focusInEvent(event)
        self._mark("true")

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Unmark it."""
        super().focusOutEvent(event)
        self._mark("false")

    def _lay_out(self) -> None:
        """Give what is inside its place at once, so that it can be drawn and pointed at."""
        layout = self.content.layout()
        if layout is not None:
            layout.activate()

    def _mark(self, current: str) -> None:
        self.setProperty("current", current)
        self.style().unpolish(self)
        self.style().polish(self)

    def _fit_heading(self) -> None:
        needed = sum(part.sizeHint().width() + GAP for part in (self.title, self.unit, self.aside, self.more))
        self.unit.setVisible(bool(self.unit.text()) and needed <= self.width())

    def _refresh(self) -> None:
        state = self._state
        if state is None or state is self._drawn:
            return
        if self._named != state.panel:
            self._named = state.panel
            self.title.setText(state.panel.title)
            self.setAccessibleName(state.panel.title)
            self.more.setAccessibleName(f"Menu of {state.panel.title}")
            self.unit.setText(state.panel.y_label)
            hints = [tooltip(tag) for tag in state.panel.tags[:3]]
            self.title.setToolTip("\n\n".join(([state.panel.notes] if state.panel.notes else []) + hints))
        if self.is_waiting:
            return
        self._drawn = state
        if state.message:
            self.message.setText(state.message)
            self.aside.clear()
        else:
            if not self._is_furnished:
                self._is_furnished = True
                self.furnish()
                self._lay_out()
            self.draw()
        self._fit_heading()
        self._stack.setCurrentIndex(1 if state.message else 0)

    def _choose_file(self) -> None:
        title = self.title.text() or "panel"
        name, _ = QFileDialog.getSaveFileName(
            self, f"Save “{title}”", f"{title}.png", "Files (*.png *.svg *.csv)"
        )
        if not name:
            return
        try:
            self.save(Path(name))
        except OSError as error:
            QMessageBox.warning(self, "Not saved", f"{name} was not written: {error.strerror or error}")


def png_bytes(widget: QWidget) -> bytes:
    """What a widget looks like now, as a PNG file."""
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    widget.grab().save(buffer, "PNG")
    return bytes(buffer.data().data())


def svg_bytes(widget: QWidget) -> bytes:
    """What a widget looks like now, as an SVG file."""
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    generator = QSvgGenerator()
    generator.setOutputDevice(buffer)
    generator.setSize(widget.size())
    generator.setViewBox(QRect(0, 0, widget.width(), widget.height()))
    painter = QPainter(generator)
    widget.render(painter, QPoint())
    painter.end()
    return bytes(buffer.data().data())
