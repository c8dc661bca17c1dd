"""Does what takes long away from the window's thread, one piece at a time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

if TYPE_CHECKING:
    from collections.abc import Callable


class Preparer(QObject):
    """Runs a piece of work on another thread; ``done`` says that one has ended, ``failed`` which one has not, and why.

    Of pieces that are asked for while one runs, only the newest is kept, so nothing ever queues.
    """

    done = Signal()
    failed = Signal(object, str)

    def __init__(self) -> None:
        super().__init__()
        self._guard = threading.Lock()
        self._next: Callable[[], None] | None = None
        self._is_busy = False

    def ask(self, work: Callable[[], None]) -> None:
        """Have ``work`` done next, instead of what else was waiting."""
        with self._guard:
            self._next = work
            if self._is_busy:
                return
            self._is_busy = True
        threading.Thread(target=self._run, name="prepare what is shown", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._guard:
                work, self._next = self._next, None
                if work is None:
                    self._is_busy = False
                    return
            try:
                work()
            except Exception as error:  # whatever it is, such as too little memory, the next piece is done
                self.failed.emit(work, str(error) or type(error).__name__)
            else:
                self.done.emit()
