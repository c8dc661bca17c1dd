"""A picture of the window without a display: for CI, documents and machines that have none."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QEventLoop, qInstallMessageHandler

from logitscope_app.main_window import MainWindow
from logitscope_app.models.export import write_whole
from logitscope_app.panels.card import png_bytes, svg_bytes
from logitscope_app.panels.map_view import is_preparing
from logitscope_app.services.filming import Filming

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PySide6.QtCore import QMessageLogContext, QtMsgType

    from logitscope_app.models.states import Frame
    from logitscope_app.theme.manager import ThemeManager

WAIT_SECONDS = 60.0
RUN_SECONDS = 600.0
_SETTLING_ROUNDS = 12


class ScreenshotError(Exception):
    """No picture could be made."""


def save_screenshot(
    run: Path | None,
    target: Path,
    theme: ThemeManager,
    *,
    size: tuple[int, int],
    step: int | None = None,
    experiment: str = "",
) -> None:
    """Write the window that shows ``run`` (at ``step``, or its newest) to a PNG (or SVG) file, whole or not at all.

    Without a run the gallery starts the short form of an experiment, and the window is written once that has ended.
    """
    earlier = qInstallMessageHandler(_without_noise)
    window = MainWindow(theme)
    try:
        window.resize(*size)
        window.show()
        if run is None:
            _run_from_gallery(window, experiment)
        else:
            window.open_run(run)
        _wait_for_frame(window)
        if step is not None:
            window.timeline.go(step)
            wanted = window.timeline.wish
            _wait_for_frame(window, step=wanted)
        window.docks.finish()
        _settle()
        _wait(lambda: not is_preparing(window), "a large map was not ready")
        write_whole(target, svg_bytes(window) if target.suffix.lower() == ".svg" else png_bytes(window))
    finally:
        window.close()
        window.deleteLater()
        qInstallMessageHandler(earlier)


def save_film(run: Path, target: Path, theme: ThemeManager, *, size: tuple[int, int], frames: int) -> None:
    """Write a film of the window that goes through a run as an animated PNG file, whole or not at all."""
    earlier = qInstallMessageHandler(_without_noise)
    window = MainWindow(theme)
    try:
        window.resize(*size)
        window.show()
        window.open_run(run)
        _wait_for_frame(window)
        _settle()
        made: list[bytes] = []
        filming = Filming(window, frames=frames)
        filming.done.connect(made.append)
        filming.start()
        end = time.monotonic() + WAIT_SECONDS + frames
        while not made and time.monotonic() < end:
            QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)
            time.sleep(0.002)
        if not made or not made[0]:
            message = "the run has no step to film"
            raise ScreenshotError(message)
        write_whole(target, made[0])
    finally:
        window.close()
        window.deleteLater()
        qInstallMessageHandler(earlier)


def _run_from_gallery(window: MainWindow, slug: str) -> None:
    laboratory, gallery = window.laboratory, window.gallery
    window.toggle_gallery()
    _wait(lambda: bool(laboratory.experiments or laboratory.trouble), "the catalogue did not come")
    if not gallery.choose(slug) or not gallery.start.isEnabled():
        built = ", ".join(one.slug for one in laboratory.experiments if one.command)
        message = laboratory.trouble or f"there is no experiment {slug!r} to run; use one of {built}"
        raise ScreenshotError(message)
    gallery.smoke.setChecked(True)
    gallery.start.click()
    _wait(lambda: laboratory.progress(slug).stage != "running", f"{slug} did not end", RUN_SECONDS)
    if laboratory.progress(slug).stage != "finished":
        raise ScreenshotError(laboratory.progress(slug).verdict)
    if not gallery.isVisible():  # it gave way to the run
        window.toggle_gallery()
    path = laboratory.progress(slug).run
    _wait(lambda: gallery.verdicts.of(path) is not None, "the verdict did not come")


def _wait_for_frame(window: MainWindow, step: int | None = None) -> None:
    failures: list[str] = []
    window.session.failed.connect(failures.append)
    _wait(lambda: bool(failures) or _shows(window.frame, step), "the run gave no picture")
    if failures:
        raise ScreenshotError(failures[0])


def _wait(done: Callable[[], bool], trouble: str, seconds: float = WAIT_SECONDS) -> None:
    """Let Qt work until something is done."""
    end = time.monotonic() + seconds
    while not done():
        QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)
        if time.monotonic() > end:
            message = f"{trouble} within {seconds:.0f} s"
            raise ScreenshotError(message)
        time.sleep(0.002)


def _shows(frame: Frame | None, step: int | None) -> bool:
    return frame is not None and (step is None or frame.step == step)


def _without_noise(kind: QtMsgType, context: QMessageLogContext, text: str) -> None:
    """Print what Qt has to say, but for one remark of the offscreen platform that concerns nobody."""
    if "propagateSizeHints" not in text:
        print(text, file=sys.stderr)


def _settle() -> None:
    """Let layouts and late drawings come to rest."""
    for _ in range(_SETTLING_ROUNDS):
        QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)
        time.sleep(0.01)
