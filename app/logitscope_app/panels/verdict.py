"""What an experiment found: whether the claim holds, what decided, the figures, and what to keep in mind."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QTextBrowser, QVBoxLayout

from logitscope_app.models.states import VerdictState
from logitscope_app.models.verdict import as_page
from logitscope_app.panels.card import Card

if TYPE_CHECKING:
    from PySide6.QtGui import QResizeEvent

    from logitscope_app.models.verdict import Verdict
    from logitscope_app.theme.palette import Palette

_COLOURS = ("good", "bad", "warn", "muted")
_WIDEST = 620
"""Pixels; in a wider table eyes lose the line."""


class VerdictView(QTextBrowser):
    """The page of a verdict; plain words where there is none."""

    def __init__(self, palette: Palette) -> None:
        super().__init__()
        self._palette = palette
        self._verdict: Verdict | None = None
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setOpenLinks(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setTabChangesFocus(True)
        self.setAccessibleName("Verdict")
        self.document().setDocumentMargin(0)

    def show_verdict(self, verdict: Verdict | None, words: str = "") -> None:
        """Show a verdict, or words."""
        self._verdict = verdict
        if verdict is None:
            self.setPlainText(words)
        else:
            colours = {name: getattr(self._palette, name) for name in _COLOURS}
            self.setHtml(as_page(verdict, colours, min(self.viewport().width(), _WIDEST)))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Write the page anew for another width."""
        super().resizeEvent(event)
        self.show_verdict(self._verdict, self.toPlainText())

    def set_palette(self, palette: Palette) -> None:
        """Wear other colours."""
        self._palette = palette
        if self._verdict is not None:
            self.show_verdict(self._verdict)


class VerdictCard(Card):
    """A verdict as a panel of its run."""

    HEIGHT: ClassVar[int] = 150
    WEIGHT: ClassVar[float] = 1.4

    def __init__(self, palette: Palette) -> None:
        self.view = VerdictView(palette)
        super().__init__(palette)
        layout = QVBoxLayout(self.content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.view)

    def restyle(self) -> None:
        """Write the page in other colours."""
        self.view.set_palette(self.palette_)

    def draw(self) -> None:
        """Show what was found."""
        state = self.state
        assert isinstance(state, VerdictState)
        self.view.show_verdict(state.verdict)
