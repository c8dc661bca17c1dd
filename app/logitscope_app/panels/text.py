"""A text, such as what the model writes at a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from PySide6.QtWidgets import QFrame, QPlainTextEdit, QVBoxLayout

from logitscope_app.models.states import TextState
from logitscope_app.models.text import step_number
from logitscope_app.panels.card import Card
from logitscope_app.theme.style import fixed_font

if TYPE_CHECKING:
    from logitscope_app.theme.palette import Palette


class TextCard(Card):
    """A text, in a fixed-width font."""

    HEIGHT: ClassVar[int] = 110
    WEIGHT: ClassVar[float] = 1.4

    def __init__(self, palette: Palette) -> None:
        self.edit = QPlainTextEdit(readOnly=True)
        super().__init__(palette)
        self.edit.setFrameShape(QFrame.Shape.NoFrame)
        self.edit.setFont(fixed_font())
        self.edit.document().setDocumentMargin(2)
        self.edit.setTabChangesFocus(True)
        layout = QVBoxLayout(self.content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.edit)

    def draw(self) -> None:
        """Show the text of the step; an unchanged one keeps its scroll position."""
        state = self.state
        assert isinstance(state, TextState)
        if self.edit.toPlainText() != state.text:
            self.edit.setPlainText(state.text)
        self.aside.setText(f"step {step_number(state.step)}")
