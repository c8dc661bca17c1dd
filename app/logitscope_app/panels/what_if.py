"""What if: one head's attention computed anew while its knobs are turned, beside what was recorded."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, ClassVar

from PySide6.QtWidgets import QComboBox, QHBoxLayout, QVBoxLayout, QWidget

from logitscope_app.models.colour import Scale
from logitscope_app.models.states import WhatIfState
from logitscope_app.models.text import number
from logitscope_app.models.what_if import KNOBS, NORMALISERS, Answer, Question, answer
from logitscope_app.panels.card import Card
from logitscope_app.panels.knobs import KnobRow
from logitscope_app.panels.label import label
from logitscope_app.panels.map_view import MapView
from logitscope_app.theme.palette import GAP

if TYPE_CHECKING:
    from logitscope_app.theme.palette import Palette

_CONTROLS_WIDTH = 250


class WhatIfCard(Card):
    """Knobs on the left, the map on the right. Nothing here reaches the training."""

    HEIGHT: ClassVar[int] = 330
    WEIGHT: ClassVar[float] = 3.0
    WIDE: ClassVar[bool] = True

    def __init__(self, palette: Palette) -> None:
        self.question = Question()
        self.answer: Answer | None = None
        self.map = MapView(palette, square=True)
        self.head = QComboBox()
        self.normaliser = QComboBox()
        self.figures = label("readout", wrap=True)
        self.rows = {knob.name: KnobRow(knob) for knob in KNOBS}
        super().__init__(palette)
        self.head.setAccessibleName("Head")
        self.normaliser.setAccessibleName("Normaliser")
        self.normaliser.addItems(NORMALISERS)
        self.normaliser.currentTextChanged.connect(lambda name: self.ask(normaliser=name))
        self.head.currentIndexChanged.connect(lambda _: self._compute())
        controls = QWidget()
        controls.setFixedWidth(_CONTROLS_WIDTH)
        column = QVBoxLayout(controls)
        column.setContentsMargins(0, 2, 0, 0)
        column.setSpacing(GAP)
        choices = QHBoxLayout()
        choices.addWidget(self.head)
        choices.addWidget(self.normaliser, 1)
        column.addLayout(choices)
        for knob in KNOBS:
            row = self.rows[knob.name]
            row.set_knob(knob, live=True)
            row.applied.hide()
            row.turned.connect(lambda name, value: self.ask(**{name: value}))
            column.addWidget(row)
        column.addWidget(self.figures)
        column.addStretch(1)
        layout = QHBoxLayout(self.content)
        layout.setContentsMargins(0, 2, 0, 0)
        layout.setSpacing(2 * GAP)
        layout.addWidget(controls)
        layout.addWidget(self.map, 1)
        self.map.pointed.connect(self.aside.setText)
        self.add_action("As it was recorded", "X").triggered.connect(self.reset)

    def restyle(self) -> None:
        """The map repaints itself."""
        self.map.restyle(self.palette_)

    def ask(self, **changes: float | str) -> None:
        """Change some of the question; the map follows at once."""
        self.question = replace(self.question, **changes)  # type: ignore[arg-type]
        self._compute()

    def reset(self) -> None:
        """Ask for what was recorded."""
        default = Question(causal=self.question.causal)
        for knob in KNOBS:
            self.rows[knob.name]._ask(knob.default)
        self.normaliser.setCurrentText(default.normaliser)
        assert all(
            getattr(self.question, field.name) == getattr(default, field.name) for field in fields(default)
        )

    def draw(self) -> None:
        """Take over the heads of the step."""
        state = self.state
        assert isinstance(state, WhatIfState)
        layers, heads = state.query.shape[:2]
        names = [f"L{layer} H{head}" for layer in range(layers) for head in range(heads)]
        if [self.head.itemText(index) for index in range(self.head.count())] != names:
            self.head.blockSignals(True)
            self.head.clear()
            self.head.addItems(names)
            self.head.blockSignals(False)
        self.question = replace(self.question, causal=state.causal)
        self._compute()

    def _compute(self) -> None:
        state = self.state
        if not isinstance(state, WhatIfState) or state.message or self.head.currentIndex() < 0:
            return
        heads = state.query.shape[1]
        layer, head = divmod(self.head.currentIndex(), heads)
        query, key = state.query[layer, head], state.key[layer, head * state.key.shape[1] // heads]
        self.answer, recorded = (
            answer(query, key, asked) for asked in (self.question, Question(causal=state.causal))
        )
        lines = []
        for (name, value), (_, before) in zip(self.answer.figures, recorded.figures, strict=True):
            was = "" if value == before else f"   (recorded {number(before, 3)})"
            lines.append(f"{name}  {number(value, 3)}{was}")
        self.figures.setText("\n".join(lines))
        values = self.answer.map
        top = float(values.max()) if values.size else 1.0
        self.map.show_map(values, Scale(0.0, top or 1.0), state.labels, state.labels, blank_zeros=True)
