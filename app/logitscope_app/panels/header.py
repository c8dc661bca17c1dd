"""The head of the window: menus, the name of the run and how it stands, and a line for problems."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenuBar, QSizePolicy, QVBoxLayout, QWidget

from logitscope_app.models.text import ago, duration
from logitscope_app.panels.label import ElidedLabel, label
from logitscope_app.panels.runs import status_colour
from logitscope_app.theme.palette import GAP

if TYPE_CHECKING:
    from logitscope.record import RunInfo
    from logitscope_app.theme.palette import Palette

_META_SHOWN = 5


class Header(QWidget):
    """Says which run is seen; ``menus`` is the window's menu bar."""

    def __init__(self, palette: Palette) -> None:
        super().__init__()
        self._palette = palette
        self._info: RunInfo | None = None
        self._progress = ""
        self.menus = QMenuBar()
        self.menus.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Preferred)
        self.name = label("large")
        self.status = QLabel()
        self.details = ElidedLabel("muted")
        self.details.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.details.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.notice = label("notice", wrap=True)
        self.notice.hide()
        row = QHBoxLayout()
        row.setSpacing(GAP + 2)
        row.addWidget(self.menus)
        row.addSpacing(GAP)
        row.addWidget(self.name)
        row.addWidget(self.status)
        row.addWidget(self.details, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(GAP, GAP - 2, GAP + 2, GAP // 2)
        layout.setSpacing(GAP // 2)
        layout.addLayout(row)
        layout.addWidget(self.notice)
        self.set_run(None)

    def set_run(self, info: RunInfo | None, notice: str = "") -> None:
        """Show another run, or how it stands now."""
        self._info = info
        self.set_notice(notice)
        if info is None:
            self.name.setText("logitscope")
            self.status.hide()
            self.details.clear()
            return
        self.name.setText(info.name)
        colour = status_colour(info.status, self._palette)
        self._show_status(info)
        self.status.setStyleSheet(f"color: {colour}; font-weight: 600;")
        self.status.show()
        told = [(key, value) for key, value in info.meta.items() if value != info.name]
        parts = [f"{key} {value}" for key, value in told[:_META_SHOWN]]
        parts.append(duration(info.updated - info.created))
        if info.status != "running":
            parts.append(ago(info.updated, time.time()))
        text = "   ·   ".join(parts)
        self.details.setText(text)
        self.details.setToolTip("\n".join([str(info.path), *(f"{k}: {v}" for k, v in info.meta.items())]))
        if info.message and not notice:
            self.set_notice(f"The run {info.status}: {info.message}")

    def set_progress(self, words: str) -> None:
        """Say beside the status how far an experiment is."""
        self._progress = words
        if self._info is not None:
            self._show_status(self._info)

    def _show_status(self, info: RunInfo) -> None:
        progress = f"  {self._progress}" if self._progress and info.status == "running" else ""
        self.status.setText(f"● {info.status}{progress}")

    def set_notice(self, notice: str) -> None:
        """Show a problem; nothing takes it away."""
        self.notice.setText(notice)
        self.notice.setVisible(bool(notice))

    def set_palette(self, palette: Palette) -> None:
        """Wear other colours."""
        self._palette = palette
        self.set_run(self._info, self.notice.text())
