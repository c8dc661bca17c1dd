"""Chooses the palette (light, dark, or what the system wears) and dresses the application in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, Signal

from logitscope_app.theme.palette import DARK, LIGHT, PALETTES, Palette
from logitscope_app.theme.style import base_font, qt_palette, style_sheet

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

MODES = ("system", "light", "dark")


class ThemeManager(QObject):
    """Holds the mode and the palette in use; emits ``changed`` when the palette is another one."""

    changed = Signal(object)

    def __init__(self, app: QApplication, mode: str = "system") -> None:
        super().__init__()
        self._app = app
        self._mode = mode
        app.setStyle("Fusion")
        app.setFont(base_font())
        self.palette = self._chosen()
        self._dress()
        app.styleHints().colorSchemeChanged.connect(self._follow_system)

    @property
    def mode(self) -> str:
        """``system``, ``light`` or ``dark``."""
        return self._mode

    def set_mode(self, mode: str) -> None:
        """Wear another theme."""
        if mode not in MODES:
            message = f"set_mode: no theme {mode!r}; use one of {', '.join(MODES)}"
            raise ValueError(message)
        self._mode = mode
        self._update()

    def toggle(self) -> None:
        """From dark to light and back."""
        self.set_mode("light" if self.palette is DARK else "dark")

    def release(self) -> None:
        """Stop following the system."""
        self._app.styleHints().colorSchemeChanged.disconnect(self._follow_system)

    def _follow_system(self) -> None:
        if self._mode == "system":
            self._update()

    def _update(self) -> None:
        palette = self._chosen()
        if palette is not self.palette:
            self.palette = palette
            self._dress()
            self.changed.emit(palette)

    def _chosen(self) -> Palette:
        if self._mode in PALETTES:
            return PALETTES[self._mode]
        return LIGHT if self._app.styleHints().colorScheme() == Qt.ColorScheme.Light else DARK

    def _dress(self) -> None:
        self._app.setPalette(qt_palette(self.palette))
        self._app.setStyleSheet(style_sheet(self.palette))
