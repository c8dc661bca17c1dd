"""The list of runs, newest first; choosing one opens it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from logitscope_app.models.text import ago, step_number
from logitscope_app.panels.events import dot
from logitscope_app.panels.label import label
from logitscope_app.theme.palette import GAP

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from logitscope.record import RunInfo
    from logitscope.record.types import RunStatus
    from logitscope_app.theme.palette import Palette

_PATH = Qt.ItemDataRole.UserRole


class RunsPanel(QWidget):
    """Names, how they stand and how far they came."""

    chosen = Signal(object)
    """The path of the run to open."""

    def __init__(self, palette: Palette, empty: str) -> None:
        super().__init__()
        self.setObjectName("dockBody")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._palette = palette
        self._runs: Sequence[RunInfo] = ()
        self._current: Path | None = None
        self.list = QListWidget()
        self.list.setIconSize(QSize(16, 16))
        self.list.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.itemActivated.connect(self._choose)
        self.list.itemClicked.connect(self._choose)
        self.empty = label("message", empty, Qt.AlignmentFlag.AlignCenter, wrap=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(GAP - 2, GAP - 2, GAP - 4, GAP - 2)
        layout.addWidget(self.empty)
        layout.addWidget(self.list)
        self.set_runs(())

    @property
    def runs(self) -> Sequence[RunInfo]:
        """What is listed."""
        return self._runs

    def set_runs(self, runs: Sequence[RunInfo]) -> None:
        """List other runs; the chosen one stays chosen."""
        self._runs = runs
        self.empty.setVisible(not runs)
        self.list.setVisible(bool(runs))
        self.list.clear()
        now = time.time()
        for info in runs:
            steps = "no step yet" if info.last_step is None else f"step {step_number(info.last_step)}"
            state = "running" if info.status == "running" else ago(info.updated, now)
            item = QListWidgetItem(
                dot(status_colour(info.status, self._palette)), f"{info.name}\n{steps}  ·  {state}"
            )
            item.setData(_PATH, info.path)
            item.setToolTip(f"{info.path}\n{info.status}{': ' + info.message if info.message else ''}")
            self.list.addItem(item)
        self.set_current(self._current)

    def set_current(self, path: Path | None) -> None:
        """Mark the open run."""
        self._current = path
        for index in range(self.list.count()):
            if self.list.item(index).data(_PATH) == path:
                self.list.setCurrentRow(index)

    def set_palette(self, palette: Palette) -> None:
        """Wear other colours."""
        self._palette = palette
        self.set_runs(self._runs)

    def _choose(self, item: QListWidgetItem) -> None:
        path = item.data(_PATH)
        if path != self._current:
            self.chosen.emit(path)


def status_colour(status: RunStatus, palette: Palette) -> str:
    """The colour that stands for how a run goes."""
    return {
        "running": palette.good,
        "finished": palette.accent,
        "failed": palette.bad,
        "stopped": palette.warn,
    }[status]
