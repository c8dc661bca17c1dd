"""The gallery of experiments: every paper with its claim; those that are built can be started here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import (
    QCheckBox,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from logitscope_app.models.experiments import last_run, sifted
from logitscope_app.models.text import ago, step_number
from logitscope_app.panels.events import dot
from logitscope_app.panels.label import label, named
from logitscope_app.panels.overlay import Overlay
from logitscope_app.panels.two_lines import TwoLines
from logitscope_app.panels.verdict import VerdictView
from logitscope_app.services.verdicts import Verdicts
from logitscope_app.theme.palette import GAP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PySide6.QtGui import QKeyEvent

    from logitscope.record import RunInfo
    from logitscope_app.models.experiments import Experiment
    from logitscope_app.models.verdict import Verdict
    from logitscope_app.services.laboratory import Laboratory
    from logitscope_app.theme.palette import Palette

_SLUG = Qt.ItemDataRole.UserRole
_NOW = {
    "idle": "",
    "running": "Running",
    "finished": "Finished.",
    "failed": "Failed",
    "stopped": "Stopped; what it recorded is kept.",
}


class Gallery(Overlay):
    """Covers its parent. ``opened`` asks for a run to be shown."""

    opened = Signal(object)

    def __init__(self, parent: QWidget, laboratory: Laboratory, palette: Palette) -> None:
        super().__init__(parent)
        self._palette = palette
        self._runs: Sequence[RunInfo] = ()
        self.laboratory = laboratory
        self.setObjectName("overlay")
        self.setAccessibleName("Experiments")

        self.filter = QLineEdit(
            placeholderText="Find a paper: softmax, attention, Adam …", clearButtonEnabled=True
        )
        self.filter.setAccessibleName("Find a paper")
        self.filter.textChanged.connect(self._fill)
        self.built = QCheckBox("Only those that can be run")
        self.built.toggled.connect(self._fill)
        self.list = QListWidget()
        self.list.setAccessibleName("Papers")
        self._rows = TwoLines(self.list, palette)
        self.list.setItemDelegate(self._rows)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.currentItemChanged.connect(self._show)
        self.count = label("small")

        self.title = label("large", wrap=True)
        self.authors = label("muted", wrap=True)
        self.claim = label("claim", wrap=True)
        self.smoke = QCheckBox("A short look: some seconds, decides nothing")
        self.smoke.setChecked(True)
        self.options = QLineEdit(
            placeholderText="Options, such as --seed 7 --set steps=300", clearButtonEnabled=True
        )
        self.options.setAccessibleName("Options of the experiment")
        self.start = _button("Start", self._start)
        self.start.setDefault(True)
        self.stop = _button("Stop", self._stop)
        self.watch = _button("Show its run", self._open)
        self.paper = _button("Read the paper", self._read)
        self.bar = QProgressBar(maximum=100, textVisible=False)
        self.now = label("muted", wrap=True)
        self.verdict = VerdictView(palette)
        self.verdicts = Verdicts(self)
        self.close_button = _button("Close", self.hide)
        self._lay_out()
        laboratory.listed.connect(self._fill)
        laboratory.changed.connect(self._on_changed)
        self.verdicts.found.connect(lambda _path: self._show())

    def _lay_out(self) -> None:
        card = named(QFrame(), "panel")
        left, right = QVBoxLayout(), QVBoxLayout()
        heading = QHBoxLayout()
        heading.addWidget(label("large", "Experiments"))
        heading.addStretch(1)
        heading.addWidget(self.count)
        left.addLayout(heading)
        for part in (self.filter, self.built, self.list):
            left.addWidget(part)
        buttons = QHBoxLayout()
        for button in (self.start, self.stop, self.watch, self.paper):
            buttons.addWidget(button)
        buttons.addStretch(1)
        for widget in (self.title, self.authors, self.claim):
            right.addWidget(widget)
        right.addSpacing(GAP)
        for field in (self.smoke, self.options):
            right.addWidget(field)
        right.addLayout(buttons)
        right.addWidget(self.bar)
        right.addWidget(self.now)
        right.addWidget(self.verdict, 1)
        right.addStretch(0)
        right.addWidget(self.close_button, alignment=Qt.AlignmentFlag.AlignRight)
        for column in (left, right):
            column.setSpacing(GAP)
        layout = QHBoxLayout(card)
        layout.setContentsMargins(3 * GAP, 3 * GAP, 3 * GAP, 2 * GAP)
        layout.setSpacing(4 * GAP)
        layout.addLayout(left, 2)
        layout.addLayout(right, 3)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(8 * GAP, 6 * GAP, 8 * GAP, 6 * GAP)
        outer.addWidget(card)
        self._show()

    def toggle(self) -> None:
        """Open or close."""
        if self.isVisible():
            self.hide()
            return
        self.laboratory.load()
        self._fill()
        self.cover(self.filter)

    def set_runs(self, runs: Sequence[RunInfo]) -> None:
        """Take over which runs there are, to tell of the last of each experiment."""
        self._runs = runs
        if self.isVisible():
            self._show()

    def set_palette(self, palette: Palette) -> None:
        """Wear other colours."""
        self._palette = palette
        self._rows.set_palette(palette)
        self.verdict.set_palette(palette)
        self._fill()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Close with Esc; other keys stay here."""
        if event.key() == Qt.Key.Key_Escape:
            self.hide()

    @property
    def current(self) -> Experiment | None:
        """The experiment that is told of."""
        item = self.list.currentItem()
        slug = item.data(_SLUG) if item is not None else None
        return next((one for one in self.laboratory.experiments if one.slug == slug), None)

    def choose(self, slug: str) -> bool:
        """Tell of an experiment; False if the list has none of that name."""
        for row in range(self.list.count()):
            if self.list.item(row).data(_SLUG) == slug:
                self.list.setCurrentRow(row)
                return True
        return False

    def _fill(self) -> None:
        chosen = self.current
        found = sifted(self.laboratory.experiments, self.filter.text(), built=self.built.isChecked())
        self.list.blockSignals(True)
        self.list.clear()
        for one in found:
            item = QListWidgetItem(dot(self._colour(one)), f"{one.title}\n{_sentence(one)}")
            item.setData(_SLUG, one.slug)
            item.setToolTip(one.claim)
            self.list.addItem(item)
            if chosen is not None and one.slug == chosen.slug:
                self.list.setCurrentItem(item)
        if self.list.currentItem() is None and found:
            self.list.setCurrentRow(0)
        self.list.blockSignals(False)
        built = sum(bool(one.command) for one in self.laboratory.experiments)
        self.count.setText(f"{len(self.laboratory.experiments)} papers, {built} to run")
        self._show()

    def _colour(self, one: Experiment) -> str:
        stage = self.laboratory.progress(one.slug).stage
        if stage == "idle":
            return self._palette.accent if one.command else self._palette.border
        return {"running": self._palette.good, "finished": self._palette.accent}.get(
            stage, self._palette.warn
        )

    def _show(self) -> None:
        one = self.current
        for widget in (
            self.authors,
            self.claim,
            self.smoke,
            self.options,
            self.start,
            self.stop,
            self.watch,
            self.paper,
        ):
            widget.setVisible(one is not None)
        if one is None:
            loading = not self.laboratory.experiments and not self.laboratory.trouble
            told = "Reading the catalogue …" if loading else "No paper has all these words."
            self.title.setText(self.laboratory.trouble or told)
            self._tell(0.0, "", None, "", going=False)
            return
        self.title.setText(one.title)
        self.authors.setText(f"{one.authors}  ·  {one.year}  ·  arXiv {one.arxiv}")
        self.claim.setText(one.claim)
        progress, last = self.laboratory.progress(one.slug), last_run(one.slug, self._runs)
        going = progress.stage == "running"
        self.start.setEnabled(bool(one.command) and not going)
        self.start.setToolTip("" if one.command else "Its experiment is not built yet.")
        self.stop.setVisible(going)
        self.watch.setEnabled(progress.run is not None or last is not None)
        now = _NOW[progress.stage]
        if going:
            now = f"{now}  ·  {progress.words}"
        elif not now and last is not None:
            now = f"Last run {ago(last.updated, time.time())}: {last.status}, step {step_number(last.last_step)}"
        elif not now and not one.command:
            now = "Its experiment is not built yet."
        path = progress.run or (last.path if last is not None else None)
        verdict = None if going or progress.stage == "failed" else self.verdicts.of(path)
        self._tell(progress.share, now, verdict, progress.verdict, going=going)

    def _tell(self, share: float, now: str, verdict: Verdict | None, words: str, *, going: bool) -> None:
        self.bar.setVisible(going)
        self.bar.setValue(round(100 * share))
        self.now.setText(now)
        self.now.setVisible(bool(now))
        self.verdict.show_verdict(verdict, words)

    def _on_changed(self, slug: str) -> None:
        one = self.current
        progress = self.laboratory.progress(slug)
        if progress.stage != "running":
            self.verdicts.forget(progress.run)
        for index in range(self.list.count()):
            item = self.list.item(index)
            if item.data(_SLUG) == slug:
                found = next(each for each in self.laboratory.experiments if each.slug == slug)
                item.setIcon(dot(self._colour(found)))
        if one is not None and one.slug == slug:
            self._show()

    def _start(self) -> None:
        if self.current is not None:
            options = self.options.text().split()
            self.laboratory.start(self.current, ["--smoke", *options] if self.smoke.isChecked() else options)

    def _stop(self) -> None:
        if self.current is not None:
            self.laboratory.stop(self.current.slug)

    def _open(self) -> None:
        one = self.current
        if one is None:
            return
        last = last_run(one.slug, self._runs)
        path = self.laboratory.progress(one.slug).run or (last.path if last is not None else None)
        if path is not None:
            self.hide()
            self.opened.emit(path)

    def _read(self) -> None:
        if self.current is not None:
            QDesktopServices.openUrl(QUrl(self.current.url))


def _sentence(one: Experiment) -> str:
    """Where a paper belongs, and whether there is anything to start."""
    return "  ·  ".join([one.area, str(one.year), *([] if one.command else ["not built yet"])])


def _button(text: str, action: Callable[[], object]) -> QPushButton:
    made = QPushButton(text)
    made.clicked.connect(action)
    return made
