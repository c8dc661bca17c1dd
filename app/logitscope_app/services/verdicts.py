"""Reads the verdicts of run files, on a thread of its own: a large file shall not stop the window."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from logitscope.errors import LogitscopeError
from logitscope.record import RunReader
from logitscope_app.models import verdict
from logitscope_app.models.verdict import verdict_of

if TYPE_CHECKING:
    from pathlib import Path

    from logitscope_app.models.verdict import Verdict

_WORDS = "verdict"
"""The text of a run that says its verdict in words."""


class Verdicts(QObject):
    """Knows the verdicts of the files that were asked for; ``found`` says that of another one it does."""

    found = Signal(object)
    """The path of the file."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._known: dict[Path, Verdict | None] = {}
        self._threads: list[threading.Thread] = []

    def of(self, path: Path | None) -> Verdict | None:
        """The verdict of a run file as far as it is known; one that is not is read, and told."""
        if path is None:
            return None
        if path not in self._known:
            self._known[path] = None
            thread = threading.Thread(target=self._read, args=(path,), name="read a verdict", daemon=True)
            self._threads = [each for each in self._threads if each.is_alive()] + [thread]
            thread.start()
            return None
        return self._known[path]

    def forget(self, path: Path | None) -> None:
        """Read a file again when it is asked for next: it has changed."""
        if path is not None:
            self._known.pop(path, None)

    def close(self) -> None:
        """Wait for what is being read."""
        for thread in self._threads:
            thread.join(timeout=5.0)

    def _read(self, path: Path) -> None:
        try:
            with RunReader(path) as run:
                names = {tag.name for tag in run.tags()}
                data = run.text(verdict.TAG) if verdict.TAG in names else None
                words = run.text(_WORDS) if _WORDS in names else None
        except (OSError, LogitscopeError):  # a file that is gone or damaged has no verdict
            return
        if data is not None:
            self._known[path] = verdict_of(data.text, "" if words is None else words.text)
            self.found.emit(path)
