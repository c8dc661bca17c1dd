"""What happened in a run and what goes wrong in it, newest first; a choice takes the cursor to its step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QColor, QIcon, QPainter, QPixmap
from PySide6.QtWidgets import QListView, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from logitscope_app.models.alerts import Alert
from logitscope_app.models.glossary import tooltip
from logitscope_app.models.text import step_number
from logitscope_app.panels.label import named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logitscope.record import Event
    from logitscope_app.theme.palette import Palette

SHOWN = 500
"""Older events stay in the run file."""
_STEP = Qt.ItemDataRole.UserRole


class EventsPanel(QWidget):
    """The list of events."""

    picked = Signal(int)

    def __init__(self, palette: Palette) -> None:
        super().__init__()
        self.setObjectName("dockBody")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._palette = palette
        self._events: tuple[Event, ...] = ()
        self._alerts: tuple[Alert, ...] = ()
        self.list = named(QListWidget(), "events")
        self.list.setWordWrap(True)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setSpacing(1)
        self.list.setTextElideMode(Qt.TextElideMode.ElideNone)
        self.list.setResizeMode(QListView.ResizeMode.Adjust)
        self.list.setAccessibleName("Events")
        self.list.itemActivated.connect(self._go)
        self.list.itemClicked.connect(self._go)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 4, 6)
        layout.addWidget(self.list)

    def set_events(self, events: tuple[Event, ...], alerts: tuple[Alert, ...] = ()) -> None:
        """Show them; the same as before cost nothing."""
        known = self._events
        fresh = [event for event in events if not known or event.row > known[-1].row]
        grown = len(known) + len(fresh) == len(events) and alerts == self._alerts
        self._events, self._alerts = events, alerts
        if grown:
            self._add(fresh[-SHOWN:])
        else:
            self._fill()

    def set_palette(self, palette: Palette) -> None:
        """Wear other colours."""
        self._palette = palette
        self._fill()

    def _fill(self) -> None:
        self.list.clear()
        every: list[Event | Alert] = [*self._events[-SHOWN:], *self._alerts]
        merged = sorted(every, key=_place)
        self._add(merged[-SHOWN:])

    def _add(self, events: Sequence[Event | Alert]) -> None:
        colours = {"info": self._palette.faint, "warning": self._palette.warn, "error": self._palette.bad}
        for event in events:
            where = "" if event.step is None else f"{step_number(event.step)}   "
            text, hint = f"{where}{event.message}", f"{event.level} at step {step_number(event.step)}"
            if isinstance(event, Alert):
                text, hint = f"{text}\n→ {event.remedy}", f"{hint}\n{tooltip(event.tag)}"
            item = QListWidgetItem(dot(colours[event.level]), text)
            item.setData(_STEP, event.step)
            item.setToolTip(hint)
            self.list.insertItem(0, item)
        while self.list.count() > SHOWN:
            self.list.takeItem(self.list.count() - 1)

    def _go(self, item: QListWidgetItem) -> None:
        step = item.data(_STEP)
        if step is not None:
            self.picked.emit(step)


def _place(event: Event | Alert) -> int:
    """Where an event belongs; those without a step come first."""
    return -1 if event.step is None else event.step


def dot(colour: str) -> QIcon:
    """A round mark in a colour."""
    pixmap = QPixmap(16, 16)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(colour))
    painter.drawEllipse(4, 4, 8, 8)
    painter.end()
    return QIcon(pixmap)
