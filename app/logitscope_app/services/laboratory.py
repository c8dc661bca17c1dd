"""Starts and stops experiments as programs of their own and hears how they go."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QByteArray, QObject, QProcess, Signal

from logitscope_app.models.experiments import Experiment, Progress, catalogue, progress_of, run_file_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_LIST = (sys.executable, "-m", "logitscope", "list", "--json")
_PATIENCE_MS = 3000


class Laboratory(QObject):
    """Knows the catalogue and the experiments that were started here; they end when it is closed."""

    listed = Signal()
    """The catalogue is there, or ``trouble`` says why it is not."""
    changed = Signal(str)
    """How the experiment of that slug goes is another."""
    begun = Signal(object)
    """The path of a run file that an experiment has made."""

    def __init__(self, command: Sequence[str] = _LIST, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._command = tuple(command)
        self._lister: QProcess | None = None
        self._processes: dict[str, QProcess] = {}
        self._heard: dict[str, str] = {}
        self._stopped: set[str] = set()
        self._progress: dict[str, Progress] = {}
        self.experiments: tuple[Experiment, ...] = ()
        self.trouble = ""

    def load(self) -> None:
        """Ask for the catalogue, once."""
        if self._lister is not None:
            return
        self._lister = lister = QProcess(self)
        lister.finished.connect(self._on_listed)
        lister.errorOccurred.connect(lambda _: self._no_list(lister.errorString()))
        lister.start(self._command[0], list(self._command[1:]))

    def progress(self, slug: str) -> Progress:
        """How an experiment goes."""
        return self._progress.get(slug, Progress())

    def start(self, experiment: Experiment, options: Sequence[str] = ()) -> None:
        """Start an experiment, unless it is going on."""
        if not experiment.command or self.progress(experiment.slug).stage == "running":
            return
        slug = experiment.slug
        process = QProcess(self)
        self._processes[slug], self._heard[slug] = process, ""
        self._stopped.discard(slug)
        process.readyReadStandardError.connect(lambda: self._hear(slug))
        process.finished.connect(lambda code, _status: self._on_finished(slug, code))
        process.errorOccurred.connect(lambda error: self._on_error(slug, error))
        self._set(slug, Progress("running"))
        process.start(experiment.command[0], [*experiment.command[1:], *options])

    def stop(self, slug: str) -> None:
        """End an experiment; its run file keeps what it has recorded."""
        process = self._processes.get(slug)
        if process is not None:
            self._stopped.add(slug)
            process.terminate()

    def close(self) -> None:
        """End what is going on and wait for it."""
        processes = [*self._processes.values(), *([self._lister] if self._lister else [])]
        for process in processes:
            process.blockSignals(True)
            process.terminate()
        for process in processes:
            if process.state() != QProcess.ProcessState.NotRunning and not process.waitForFinished(
                _PATIENCE_MS
            ):
                process.kill()
                process.waitForFinished(_PATIENCE_MS)
        self._processes.clear()

    def _on_listed(self, code: int) -> None:
        assert self._lister is not None
        if code:
            told = _text(self._lister.readAllStandardError())
            self._no_list(_last_line(told) or f"it ended with code {code}")
            return
        try:
            self.experiments = catalogue(_text(self._lister.readAllStandardOutput()))
        except ValueError as error:
            self._no_list(str(error))
            return
        self.trouble = ""
        self.listed.emit()

    def _no_list(self, why: str) -> None:
        self.trouble = f"The catalogue of experiments cannot be read: {why}"
        self.listed.emit()

    def _hear(self, slug: str) -> None:
        process = self._processes.get(slug)
        if process is None:
            return
        self._heard[slug] += _text(process.readAllStandardError())
        progress = self.progress(slug)
        for line in self._heard[slug].splitlines():
            if (found := progress_of(line)) is not None:
                progress = replace(progress, share=found[0], left=found[1], note=found[2])
            elif progress.run is None and (file := run_file_of(line)) is not None:
                progress = replace(progress, run=Path(file).absolute())
                self.begun.emit(progress.run)
        self._heard[slug] = self._heard[slug].splitlines()[-1] if self._heard[slug] else ""
        if progress != self.progress(slug):
            self._set(slug, progress)

    def _on_finished(self, slug: str, code: int) -> None:
        self._hear(slug)
        process = self._processes.pop(slug, None)
        if process is None:
            return
        told = _text(process.readAllStandardOutput()).strip()
        process.deleteLater()
        progress = self.progress(slug)
        if slug in self._stopped:
            self._set(slug, replace(progress, stage="stopped", left=""))
        elif code:
            why = self._heard.get(slug, "").strip() or f"it ended with code {code}"
            self._set(slug, replace(progress, stage="failed", left="", verdict=why))
        else:
            self._set(slug, replace(progress, stage="finished", share=1.0, left="", verdict=told))

    def _on_error(self, slug: str, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            process = self._processes.pop(slug)
            self._set(slug, Progress("failed", verdict=process.errorString()))
            process.deleteLater()

    def _set(self, slug: str, progress: Progress) -> None:
        self._progress[slug] = progress
        self.changed.emit(slug)


def _text(data: QByteArray) -> str:
    return bytes(data.data()).decode(errors="replace")


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else ""
