"""Takes rows over from the tail into the database, on a thread that sleeps while there are none."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE = 0.5
"""Seconds in which rows gather for one commit; readers see them in the tail meanwhile."""


class Mover:
    """Calls ``move`` some time after each `wake`, until it says that there is no more."""

    def __init__(self, move: Callable[[], bool]) -> None:
        self._move = move
        self._wake, self._haste = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self.awake = False
        """Whether it will move without being woken; set by who holds the gate."""

    def wake(self) -> None:
        """Have it move soon."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="logitscope-tail", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread to be had: tried again with the next row
                thread.start()
                self._thread = thread
        self.awake = self._thread is not None
        self._wake.set()

    def hurry(self) -> None:
        """Have it move now: there are many rows."""
        self._haste.set()

    def stop(self) -> None:
        """End the thread soon."""
        self._stopping = True
        self._wake.set()
        self._haste.set()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait()
            self._wake.clear()
            more = True
            while more and not self._stopping:
                self._haste.wait(PAUSE)
                self._haste.clear()
                more = self._move()
