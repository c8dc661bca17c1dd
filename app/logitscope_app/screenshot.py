"""A picture of the window without a display: for CI, documents and machines that have none."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QEventLoop, qInstallMessageHandler

from logitscope_app.main_window import MainWindow
from logitscope_app.models.export import write_whole
from logitscope_app.panels.card import png_bytes, svg_bytes
from logitscope_app.services.filming import Filming

if TYPE_CHECKING:
    from pathlib import Path

    from PySide6.QtCore import QMessageLogContext, QtMsgType

    from logitscope_app.models.states import Frame
    from logitscope_app.theme.manager import ThemeManager

WAIT_SECONDS = 60.0
_SETTLING_ROUNDS = 12


class ScreenshotError(Exception):
    """No picture could be made."""


def save_screenshot(
    run: Path, target: Path, theme: ThemeManager, *, size: tuple[int, int], step: int | None = None
) -> None:
    """Write the window that shows ``run`` (at ``step``, or its newest) to a PNG (or SVG) file, whole or not at all."""
    earlier = qInstallMessageHandler(_without_noise)
    window = MainWindow(theme)
    try:
        window.resize(*size)
        window.show()
        window.open_run(run)
        _wait_for_frame(window)
        if step is not None:
            window.timeline.go(step)
            wanted = window.timeline.wish
            _wait_for_frame(window, step=wanted)
        _settle()
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


def _wait_for_frame(window: MainWindow, step: int | None = None) -> None:
    failures: list[str] = []
    window.session.failed.connect(failures.append)
    end = time.monotonic() + WAIT_SECONDS
    while not _shows(window.frame, step):
        QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)
        if failures:
            raise ScreenshotError(failures[0])
        if time.monotonic() > end:
            message = f"the run gave no picture within {WAIT_SECONDS:.0f} s"
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
