"""A thread that owns the reader of one run: follows the file, answers requests for a step, writes knobs."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from logitscope.record import open_run
from logitscope_app.models.run_data import RunData

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from logitscope_app.models.run_data import Reader
    from logitscope_app.models.states import Frame

POLL_SECONDS = 0.4
"""How often a file is asked for news; a question costs a fraction of a millisecond."""


@dataclass(frozen=True, slots=True)
class _Job:
    """What the thread does next."""

    step: int | None
    request: int
    asked: bool
    knobs: dict[str, float]
    compared: tuple[Path, ...]


class Follower(QObject):
    """Follows one run file; the newest frame waits in a mailbox for one, so nothing ever queues.

    ``ready`` says that a frame waits for :meth:`take`; ``failed`` that the file cannot be read, and why, when
    there is no earlier frame to show with the reason.
    """

    ready = Signal()
    failed = Signal(str)

    def __init__(
        self,
        path: Path,
        *,
        open_reader: Callable[[Path], Reader] = open_run,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        super().__init__()
        self.path = path
        self._open_reader = open_reader
        self._poll_seconds = poll_seconds
        self._wake = threading.Condition()
        self._step: int | None = None
        self._request = 0
        self._asked = True
        self._knobs: dict[str, float] = {}
        self._compared: tuple[Path, ...] = ()
        self._closing = False
        self._mail: Frame | None = None
        # Below: used by the thread alone.
        self._reader: Reader | None = None
        self._data: RunData | None = None
        self._file: tuple[int, int] | None = None
        self._last: Frame | None = None
        self._behind = True
        self._others: dict[Path, tuple[Reader, RunData]] = {}
        self._said = ""
        self._thread = threading.Thread(target=self._run, name=f"follow {path.name}", daemon=True)

    def start(self) -> None:
        """Begin to follow; the first frame shows the newest step."""
        self._thread.start()

    def ask(self, step: int | None, request: int) -> None:
        """Ask for the frame at ``step`` (None: the newest, from now on); an earlier one is forgotten."""
        with self._wake:
            self._step, self._request, self._asked = step, request, True
            self._wake.notify()

    def set_knob(self, name: str, value: float) -> None:
        """Write a knob to the run file; of values that come too fast the last one counts."""
        with self._wake:
            self._knobs[name] = value
            self._wake.notify()

    def compare(self, paths: Sequence[Path]) -> None:
        """Draw the curves of other runs beside those of this one."""
        with self._wake:
            self._compared, self._asked = tuple(path for path in paths if path != self.path), True
            self._wake.notify()

    def take(self) -> Frame | None:
        """The newest frame; None when it has been taken already."""
        with self._wake:
            mail, self._mail = self._mail, None
        return mail

    def close(self) -> None:
        """Stop following and wait for the thread; knobs that were turned are written first."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while (job := self._next_job()) is not None:
            try:
                frame = self._work(job)
            except Exception as error:  # whatever a file does, the window says so and lives on
                self._problem(job, _one_line(error))
            else:
                if frame is not None:
                    self._post(frame)
        for reader in (self._reader, *(other for other, _ in self._others.values())):
            if reader is not None:
                reader.close()

    def _next_job(self) -> _Job | None:
        with self._wake:
            if not (self._asked or self._knobs or self._closing):
                self._wake.wait(self._poll_seconds)
            if self._closing and not self._knobs:
                return None
            job = _Job(self._step, self._request, self._asked, self._knobs, self._compared)
            self._asked, self._knobs = False, {}
            return job

    def _work(self, job: _Job) -> Frame | None:
        """The frame that the job asks for; None when nobody asked and nothing changed."""
        there = _identity(self.path)
        if self._data is None or (there is not None and there != self._file):
            self._open(there)
        assert self._reader is not None
        assert self._data is not None
        for name, value in job.knobs.items():
            self._reader.set_knob(name, value)
        self._behind |= self._reader.poll() or bool(job.knobs)
        self._behind |= self._follow_others(job.compared)
        changed = self._behind
        if changed:
            self._data.refresh()
            self._data.compare_with([self._others[path][1] for path in job.compared if path in self._others])
            self._behind = False
        notice = (
            ""
            if there is not None
            else f"{self.path.name} was deleted or moved; this is what was read of it."
        )
        known = self._last
        stale = known is None or known.notice != notice
        if not (changed or stale or job.asked):
            return None
        frame = self._data.frame(job.step, request=job.request)
        self._last = replace(frame, notice=notice) if notice else frame
        return self._last

    def _follow_others(self, paths: tuple[Path, ...]) -> bool:
        """Read what is new in the runs to compare with; whether anything is. One that cannot be read is left out."""
        changed = False
        for path in self._others.keys() - set(paths):
            self._others.pop(path)[0].close()
            changed = True
        for path in paths:
            try:
                fresh = path not in self._others
                if fresh:
                    reader = self._open_reader(path)
                    self._others[path] = reader, RunData(reader)
                reader, data = self._others[path]
                if reader.poll() or fresh:
                    data.refresh()
                    changed = True
            except OSError:
                if path in self._others:
                    self._others.pop(path)[0].close()
                    changed = True
        return changed

    def _open(self, there: tuple[int, int] | None) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader, self._data, self._last, self._behind = None, None, None, True
        self._reader = self._open_reader(self.path)
        self._data, self._file = RunData(self._reader), there

    def _problem(self, job: _Job, message: str) -> None:
        """Show the last good frame with the message, or say that there is none; once."""
        if self._last is None:
            if job.asked or message != self._said:
                self._said = message
                self.failed.emit(message)
        elif job.asked or self._last.notice != message:
            self._last = replace(self._last, notice=message, request=job.request)
            self._post(self._last)

    def _post(self, frame: Frame) -> None:
        with self._wake:
            waiting, self._mail = self._mail is not None, frame
        if not waiting:
            self.ready.emit()


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells one file from another of the same name; None when there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__
