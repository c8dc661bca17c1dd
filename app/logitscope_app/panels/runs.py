"""The list of runs, newest first; choosing one opens it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, QTimer, Signal
from PySide6.QtWidgets import QLineEdit, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from logitscope_app.models.text import ago, step_number
from logitscope_app.panels.events import dot
from logitscope_app.panels.label import label
from logitscope_app.panels.two_lines import TwoLines
from logitscope_app.theme.palette import GAP

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from logitscope.record import RunInfo
    from logitscope.record.types import RunStatus
    from logitscope_app.theme.palette import Palette

_PATH = Qt.ItemDataRole.UserRole
_WORDS = Qt.ItemDataRole.UserRole + 1


class RunsPanel(QWidget):
    """Names, how they stand and how far they came."""

    chosen = Signal(object)
    """The path of the run to open."""
    compared = Signal(object)
    """The paths of the runs whose curves are to be drawn beside those of the open one."""

    def __init__(self, palette: Palette) -> None:
        super().__init__()
        self.setObjectName("dockBody")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._palette = palette
        self._runs: Sequence[RunInfo] = ()
        self._current: Path | None = None
        self._compared: set[Path] = set()
        self._ticked = False
        self.filter = QLineEdit(placeholderText="Find a run")
        self.filter.setToolTip("By name, status, and what runs say of themselves: model, data, seed …")
        self.filter.setClearButtonEnabled(True)
        self.filter.setAccessibleName("Filter of the runs")
        self.filter.textChanged.connect(self._sift)
        self.list = QListWidget()
        self.list.setIconSize(QSize(16, 16))
        self._rows = TwoLines(self.list, palette)
        self.list.setItemDelegate(self._rows)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.itemActivated.connect(self._choose)
        self.list.itemClicked.connect(self._choose)
        self.list.itemChanged.connect(self._compare)
        self.list.setAccessibleName("Runs")
        self.empty = label(
            "message", "Runs appear here as they begin.", Qt.AlignmentFlag.AlignCenter, wrap=True
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(GAP - 2, GAP - 2, GAP - 4, GAP - 2)
        layout.addWidget(self.filter)
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
        self.list.blockSignals(True)  # ticks that are put back are no wishes
        self.list.clear()
        now = time.time()
        for info in runs:
            steps = "no step yet" if info.last_step is None else f"step {step_number(info.last_step)}"
            state = "running" if info.status == "running" else ago(info.updated, now)
            item = QListWidgetItem(
                dot(status_colour(info.status, self._palette)), f"{info.name}\n{steps}  ·  {state}"
            )
            item.setData(_PATH, info.path)
            item.setData(_WORDS, searchable(info))
            item.setCheckState(
                Qt.CheckState.Checked if info.path in self._compared else Qt.CheckState.Unchecked
            )
            told = f": {info.message}" if info.message else ""
            item.setToolTip(
                f"{info.path}\n{info.status}{told}\nTick it to draw its curves beside the open run's."
            )
            self.list.addItem(item)
        self.list.blockSignals(False)
        self._sift(self.filter.text())
        self.set_current(self._current)

    def set_compared(self, paths: Sequence[Path]) -> None:
        """Tick those runs and no others."""
        for index in range(self.list.count()):
            item = self.list.item(index)
            ticked = item.data(_PATH) in paths
            item.setCheckState(Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked)

    def toggle_compared(self) -> None:
        """Compare with the run that the list's cursor is on, or no longer."""
        item = self.list.currentItem()
        if item is not None:
            checked = item.checkState() == Qt.CheckState.Checked
            item.setCheckState(Qt.CheckState.Unchecked if checked else Qt.CheckState.Checked)

    def _compare(self, item: QListWidgetItem) -> None:
        path, checked = item.data(_PATH), item.checkState() == Qt.CheckState.Checked
        if checked != (path in self._compared):
            (self._compared.add if checked else self._compared.discard)(path)
            self._ticked = True  # the click that ticked it is not to open it, too
            QTimer.singleShot(0, self, self._forget_tick)
            self.compared.emit([info.path for info in self._runs if info.path in self._compared])

    def _forget_tick(self) -> None:
        self._ticked = False

    def _sift(self, text: str) -> None:
        words = text.lower().split()
        for index in range(self.list.count()):
            item = self.list.item(index)
            item.setHidden(not all(word in item.data(_WORDS) for word in words))

    def set_current(self, path: Path | None) -> None:
        """Mark the open run."""
        self._current = path
        for index in range(self.list.count()):
            if self.list.item(index).data(_PATH) == path:
                self.list.setCurrentRow(index)

    def set_palette(self, palette: Palette) -> None:
        """Wear other colours."""
        self._palette = palette
        self._rows.set_palette(palette)
        self.set_runs(self._runs)

    def _choose(self, item: QListWidgetItem) -> None:
        path = item.data(_PATH)
        if path != self._current and not self._ticked:
            self.chosen.emit(path)


def searchable(info: RunInfo) -> str:
    """What a run is found by."""
    meta = (f"{key} {value}" for key, value in info.meta.items())
    return " ".join([info.name, info.status, info.path.name, *meta]).lower()


def status_colour(status: RunStatus, palette: Palette) -> str:
    """The colour that stands for how a run goes."""
    return {
        "running": palette.good,
        "finished": palette.accent,
        "failed": palette.bad,
        "stopped": palette.warn,
    }[status]
