"""What stands in the window while there is no run: what this is, and the ways to a first run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from logitscope_app.panels.label import label, named
from logitscope_app.theme.palette import GAP
from logitscope_app.theme.style import fixed_font

if TYPE_CHECKING:
    from collections.abc import Sequence

_CENTRE = Qt.AlignmentFlag.AlignCenter
_CODE = """from logitscope import record

with record.start("my-run") as scope:
    scope.watch(model)                       # attention, logits, norms
    scope.scalar("loss/train", loss, step)   # and what you want to see"""


class Welcome(QWidget):
    """``wished`` names the command whose button was pressed."""

    wished = Signal(str)

    def __init__(self, message: str, ways: Sequence[tuple[str, str, str]]) -> None:
        super().__init__()
        self.setAccessibleName("Welcome")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.title = label("welcome", "See what the logits do while a model trains", _CENTRE)
        self.message = label("message", message, _CENTRE, wrap=True)
        self.buttons = [self._button(*way) for way in ways]
        self.buttons[0].setDefault(True)
        self._first_steps = QWidget()
        row = QHBoxLayout()
        row.setSpacing(GAP)
        row.addStretch(1)
        for button in self.buttons:
            row.addWidget(button)
        row.addStretch(1)
        code = named(label("code", _CODE), "code")
        code.setFont(fixed_font())
        code.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        steps = QVBoxLayout(self._first_steps)
        steps.setSpacing(2 * GAP)
        steps.addLayout(row)
        steps.addSpacing(GAP)
        steps.addWidget(
            label("muted", "or record a training of your own, and it appears here by itself:", _CENTRE)
        )
        steps.addWidget(code, alignment=_CENTRE)
        steps.addWidget(
            label("small", "Run files can be dropped onto the window.   ?  shows all keys.", _CENTRE)
        )
        layout = QVBoxLayout(self)
        layout.setSpacing(2 * GAP)
        layout.addStretch(2)
        layout.addWidget(self.title)
        layout.addWidget(self.message)
        layout.addWidget(self._first_steps)
        layout.addStretch(3)

    def show_trouble(self, message: str) -> None:
        """Say what is wrong with a run, without the first steps."""
        self.title.hide()
        self._first_steps.hide()
        self.message.setText(message)
        self.show()

    def _button(self, text: str, keys: str, command: str) -> QPushButton:
        made = QPushButton(f"{text}   {keys}")
        made.setAccessibleName(text)
        made.clicked.connect(lambda: self.wished.emit(command))
        return made
