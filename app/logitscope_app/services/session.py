"""The window's side of a followed run: request numbers, at most 30 frames a second, nothing stale."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal

from logitscope_app.services.follower import Follower

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

FRAME_MS = 34
"""The least time between two frames: at most 30 redraws a second."""
LIVE_REST = 8
"""After a live frame the window rests so many times as long as drawing it took: a viewer that nobody touches leaves
the machine to the training."""
LONGEST_REST_MS = 1000


class Session(QObject):
    """Opens runs one after another and emits their frames.

    One request is under way at a time: while it is, the window's newer wish waits (the last one counts), so a
    quick hand shows every frame that can be made and none that it has left behind.
    """

    framed = Signal(object)
    failed = Signal(str)

    def __init__(
        self, make_follower: Callable[[Path], Follower] = Follower, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._make_follower = make_follower
        self._follower: Follower | None = None
        self._request = 0
        self._under_way = False
        self._wish: list[int | None] = []
        self._compared: Sequence[Path] = ()
        self._pace = QTimer(self, singleShot=True, interval=FRAME_MS)
        self._pace.timeout.connect(self._deliver)

    @property
    def path(self) -> Path | None:
        """The file that is followed."""
        return self._follower.path if self._follower else None

    def open(self, path: Path) -> None:
        """Follow another run, at its newest step."""
        self.close()
        self._request += 1
        self._under_way, self._wish = True, []
        self._follower = follower = self._make_follower(path)
        follower.ready.connect(self._on_ready)
        follower.failed.connect(self._on_failed)
        if self._compared:
            follower.compare(self._compared)
        follower.ask(None, self._request)
        follower.start()

    def show_step(self, step: int | None) -> None:
        """Wish for the frame at ``step``; None follows the newest."""
        if self._follower is None:
            return
        if self._under_way:
            self._wish = [step]
        else:
            self._send(step)

    def set_knob(self, name: str, value: float) -> None:
        """Turn a knob of the run."""
        if self._follower is not None:
            self._follower.set_knob(name, value)

    def compare(self, paths: Sequence[Path]) -> None:
        """Draw the curves of other runs beside those of the run that is open, and of those opened later."""
        self._compared = tuple(paths)
        if self._follower is not None:
            self._follower.compare(self._compared)

    def close(self) -> None:
        """Stop following."""
        if self._follower is not None:
            follower, self._follower = self._follower, None
            follower.ready.disconnect(self._on_ready)
            follower.failed.disconnect(self._on_failed)
            follower.close()
        self._pace.stop()

    def _send(self, step: int | None) -> None:
        assert self._follower is not None
        self._request += 1
        self._under_way = True
        if self._pace.remainingTime() > FRAME_MS:
            self._pace.start(FRAME_MS)
        self._follower.ask(step, self._request)

    def _on_ready(self) -> None:
        if not self._pace.isActive():
            self._deliver()

    def _on_failed(self, message: str) -> None:
        self._answered()
        self.failed.emit(message)

    def _deliver(self) -> None:
        frame = self._follower.take() if self._follower else None
        if frame is None:
            return
        self._pace.start(FRAME_MS)
        if frame.request != self._request:
            return
        self._answered()
        began = time.monotonic()
        self.framed.emit(frame)
        if frame.live:
            # Comes after the painting, which the event loop does before it looks at its timers.
            QTimer.singleShot(0, self, lambda: self._rest(began))

    def _rest(self, began: float) -> None:
        if not self._under_way:
            rest = round(1000 * LIVE_REST * (time.monotonic() - began))
            self._pace.start(min(max(rest, FRAME_MS), LONGEST_REST_MS))

    def _answered(self) -> None:
        self._under_way = False
        if self._wish:
            self._send(self._wish.pop())
