"""The dashboard beside the training: a window of its own process, or a picture at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MISSING = "the dashboard is not installed: pip install logitscope[app]"
_PICTURE_SECONDS = 120


def has_display() -> bool:
    """Whether a window could open; only Linux and its like can be without."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


class Dashboard:
    """What shows a run, as far as this machine can."""

    def __init__(self, run: Path, *, window: bool) -> None:
        self._run = run
        self._process: subprocess.Popen[bytes] | None = None
        self.installed = find_spec("logitscope_app") is not None
        self._wants_window = window

    def open(self) -> str:
        """Open the window if there can be one; says what the user will see."""
        if not self.installed:
            return MISSING
        if not self._wants_window:
            return "no window, as asked: the dashboard is drawn into demo.png at the end"
        if not has_display():
            return "no display here: the dashboard is drawn into demo.png at the end"
        self._process = subprocess.Popen(
            self._command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # It stays when the training ends or is stopped with Ctrl-C.
            start_new_session=True,
        )
        return "the dashboard opens in a window of its own; its knobs act on this training"

    def finish(self, picture: Path) -> str | None:
        """Draw the picture unless a window shows the run; says where it is or why it is not."""
        if not self.installed:
            return None
        if self._process is not None and self._process.poll() in (None, 0):
            return None
        try:
            done = subprocess.run(
                [*self._command(), "--screenshot", str(picture)],
                env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
                capture_output=True,
                text=True,
                timeout=_PICTURE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"the dashboard could not be drawn in {_PICTURE_SECONDS} seconds"
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["it did not say why"])[-1]
            return f"the dashboard could not be drawn: {reason}"
        return f"dashboard: {picture}"

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "logitscope_app", str(self._run)]
