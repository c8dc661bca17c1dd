"""What happened in a run and what goes wrong in it, newest first; a choice takes the cursor to its step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QColor, QIcon, QPainter, QPixmap
from PySide6.QtWidgets import QListView, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from logitscope_app.models.alerts import Alert, told_once
from logitscope_app.models.glossary import tooltip
from logitscope_app.models.text import step_number
from logitscope_app.panels.event_row import BODY, COLOUR, REMEDY, STEP, TITLE, WHERE, EventRow
from logitscope_app.panels.label import named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtGui import QResizeEvent

    from logitscope.record import Event
    from logitscope_app.theme.palette import Palette

SHOWN = 500
"""Older events stay in the run file."""
_STEPS_NAMED = 3
"""Of what comes back again and again so many earlier steps are named."""


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
        self._rows = EventRow(self.list, palette)
        self.list.setItemDelegate(self._rows)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
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
        self._rows.set_palette(palette)
        self._fill()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Have every row as high as its words need at the new width."""
        super().resizeEvent(event)
        self.list.scheduleDelayedItemsLayout()

    def _fill(self) -> None:
        self.list.clear()
        every: list[Event | Alert] = [*self._events[-SHOWN:], *told_once(self._alerts)]
        merged = sorted(every, key=_place)
        self._add(merged[-SHOWN:])

    def _add(self, events: Sequence[Event | Alert]) -> None:
        colours = {"info": self._palette.faint, "warning": self._palette.warn, "error": self._palette.bad}
        for event in events:
            step = step_number(event.step)
            item = QListWidgetItem()
            where, hint = "" if event.step is None else f"step {step}", f"{event.level} at step {step}"
            if isinstance(event, Alert):
                title, _, body = event.message.partition(": ")
                before = self._steps_before(event)
                item.setData(TITLE, title)
                item.setData(BODY, f"{body}{before}")
                item.setData(REMEDY, f"→ {event.remedy}")
                item.setText(f"{step}   {event.message}{before}\n→ {event.remedy}")
                hint = f"{hint}\n{tooltip(event.tag)}"
            else:
                item.setData(BODY, event.message)
                item.setText(f"{step}   {event.message}" if where else event.message)
            item.setData(STEP, event.step)
            item.setData(WHERE, where)
            item.setData(COLOUR, colours[event.level])
            item.setToolTip(hint)
            self.list.insertItem(0, item)
        while self.list.count() > SHOWN:
            self.list.takeItem(self.list.count() - 1)

    def _steps_before(self, alert: Alert) -> str:
        """At which steps the same was told before."""
        same = (other.step for other in self._alerts if (other.rule, other.tag) == (alert.rule, alert.tag))
        steps = sorted(step for step in same if step < alert.step)
        if not steps:
            return ""
        named_steps = ", ".join(map(step_number, steps[-_STEPS_NAMED:]))
        more = f" and {len(steps) - _STEPS_NAMED} more" if len(steps) > _STEPS_NAMED else ""
        return f" (before at step {named_steps}{more})"

    def _go(self, item: QListWidgetItem) -> None:
        step = item.data(STEP)
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
