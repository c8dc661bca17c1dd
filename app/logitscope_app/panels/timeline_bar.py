"""The timeline at the foot of the window: buttons, track, step number, speed. It moves every panel."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, QTimer, Signal
from PySide6.QtWidgets import QHBoxLayout, QMenu, QToolButton, QVBoxLayout, QWidget

from logitscope_app.models.text import step_number
from logitscope_app.models.timeline import Timeline
from logitscope_app.panels.label import label
from logitscope_app.panels.track import Track
from logitscope_app.theme.icons import icon
from logitscope_app.theme.palette import GAP

if TYPE_CHECKING:
    from collections.abc import Callable

    from logitscope_app.models.states import Frame
    from logitscope_app.theme.palette import Palette

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0)
_TICK_MS = 34


class TimelineBar(QWidget):
    """Holds which step is wished for; None follows the newest. ``wished`` says when that changes."""

    wished = Signal(object)

    def __init__(self, palette: Palette, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.setObjectName("timeline")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._clock = clock
        self._timeline = Timeline()
        self._wish: int | None = None
        self._running = False
        self._position = 0.0
        self._ticked = 0.0
        self._palette = palette
        self._buttons: dict[str, QToolButton] = {}
        self.track = Track(palette)
        self.track.picked.connect(self.go)
        self.number = label("stepNumber")
        self.caption = label("small")
        self.speed = 1.0
        self._speed_button = QToolButton(popupMode=QToolButton.ToolButtonPopupMode.InstantPopup)
        self._speed_button.setToolTip("Speed of playing (+ and −)")
        self._speed_button.setAccessibleName("Speed")
        self._speed_button.setFixedWidth(54)
        speeds = QMenu(self._speed_button)
        for speed in SPEEDS:
            speeds.addAction(f"{speed:g}×").triggered.connect(partial(self.set_speed, speed))
        self._speed_button.setMenu(speeds)
        self._timer = QTimer(self, interval=_TICK_MS)
        self._timer.timeout.connect(self._tick)

        buttons = QHBoxLayout()
        buttons.setSpacing(GAP // 2)
        for name, hint, action in (
            ("first", "First step (Home)", self.first),
            ("back", "One step back (Left)", lambda: self.step_by(-1)),
            ("play", "Play or pause (Space)", self.toggle_play),
            ("forward", "One step on (Right)", lambda: self.step_by(1)),
            ("last", "Last step (End)", self.last),
            ("live", "Follow the newest step (L)", self.live),
        ):
            buttons.addWidget(self._button(name, hint, action))
        buttons.addWidget(self._speed_button)
        reading = QVBoxLayout()
        reading.setSpacing(0)
        reading.addWidget(self.number)
        reading.addWidget(self.caption)
        self.number.setMinimumWidth(96)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(GAP + 2, GAP // 2, GAP + 2, GAP // 2)
        layout.setSpacing(2 * GAP)
        layout.addLayout(buttons)
        layout.addLayout(reading)
        layout.addWidget(self.track, 1)
        self.set_palette(palette)
        self.set_speed(1.0)
        self._show()

    @property
    def wish(self) -> int | None:
        """The step wished for; None for the newest."""
        return self._wish

    @property
    def shown(self) -> int | None:
        """The step under the cursor."""
        return self._timeline.last if self._wish is None else self._wish

    @property
    def playing(self) -> bool:
        """Whether the cursor moves by itself."""
        return self._timer.isActive()

    def reset(self) -> None:
        """Begin anew for another run, at its newest step."""
        self._timer.stop()
        self._timeline, self._wish = Timeline(), None
        self.track.set_timeline(self._timeline, ())
        self._show()

    def set_frame(self, frame: Frame) -> None:
        """Take over how far the run came; the cursor stays where it was put."""
        self._timeline = frame.timeline
        self._running = frame.info.status == "running"
        self.track.set_timeline(frame.timeline, (*frame.events, *frame.alerts))
        self._show()

    def set_palette(self, palette: Palette) -> None:
        """Wear other colours."""
        self._palette = palette
        self.track.restyle(palette)
        self._show()

    def set_speed(self, speed: float) -> None:
        """Play that many times as fast."""
        self.speed = min(SPEEDS, key=lambda known: abs(known - speed))
        self._speed_button.setText(f"{self.speed:g}×")

    def change_speed(self, by: int) -> None:
        """The next or the last speed in the list."""
        self.set_speed(SPEEDS[min(max(SPEEDS.index(self.speed) + by, 0), len(SPEEDS) - 1)])

    def go(self, step: float) -> None:
        """Put the cursor on the recorded step nearest to ``step`` and stop playing."""
        self._timer.stop()
        snapped = self._timeline.snapped(step)
        if snapped is not None:
            self._wish_for(snapped)
        self._show()

    def step_by(self, by: int, *, pictures: bool = False) -> None:
        """Move the cursor by recorded steps or by pictures."""
        if self.shown is not None:
            self.go(self._timeline.moved(self.shown, by, pictures=pictures))

    def first(self) -> None:
        """Go to the first step."""
        if self._timeline.first is not None:
            self.go(self._timeline.first)

    def last(self) -> None:
        """Go to the last step and stay there."""
        if self._timeline.last is not None:
            self.go(self._timeline.last)

    def live(self) -> None:
        """Follow the newest step."""
        self._timer.stop()
        self._wish_for(None)
        self._show()

    def toggle_play(self) -> None:
        """Play from the cursor (from the start when it is at the end), or stop."""
        if self.playing:
            self._timer.stop()
        elif self.shown is not None and self._timeline.first is not None:
            start = self._timeline.first if self.shown == self._timeline.last else self.shown
            self._position, self._ticked = float(start), self._clock()
            self._wish_for(start)
            self._timer.start()
        self._show()

    def _tick(self) -> None:
        now = self._clock()
        seconds, self._ticked = now - self._ticked, now
        self._position = self._timeline.advanced(self._position, seconds, self.speed)
        step = self._timeline.snapped(self._position)
        if step is not None and step == self._timeline.last:
            self._timer.stop()
            self._wish_for(None if self._running else step)
        elif step is not None:
            self._wish_for(step)
        self._show()

    def _wish_for(self, step: int | None) -> None:
        if step != self._wish:
            self._wish = step
            self.wished.emit(step)

    def _show(self) -> None:
        p = self._palette
        live = self._wish is None
        self.track.set_step(self.shown)
        last = self._timeline.last
        self.number.setText("" if last is None else step_number(self.shown))
        self.caption.setText("" if last is None else f"of {step_number(last)} steps")
        self._speed_button.setEnabled(last is not None)
        for name, button in self._buttons.items():
            button.setEnabled(last is not None)
            shape = "pause" if name == "play" and self.playing else name
            button.setIcon(icon(shape, p.faint if last is None else p.text))
        follow = self._buttons["live"]
        follow.setText("Live" if self._running else "Newest")
        idle = p.good if self._running else p.faint
        follow.setIcon(icon("live", p.on_accent if live and last is not None else idle))
        follow.setChecked(live)

    def _button(self, name: str, hint: str, action: Callable[[], None]) -> QToolButton:
        button = QToolButton()
        button.setToolTip(hint)
        button.setAccessibleName(hint)
        button.setIconSize(QSize(16, 16))
        button.clicked.connect(action)
        if name == "live":
            button.setCheckable(True)
            button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._buttons[name] = button
        return button
