"""What if: one head's attention computed anew while its knobs are turned, beside what was recorded."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QCheckBox, QComboBox, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

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
    from PySide6.QtGui import QResizeEvent

    from logitscope_app.theme.palette import Palette

_CONTROLS_WIDTH = 250
_ROOM_FOR_BOTH = 720
_TOP = 0.98
"""Colours reach up to what all but the top two in a hundred of the weights stay below, as in the attention maps."""
_LEFT, _RIGHT = Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight


class WhatIfCard(Card):
    """Knobs on the left, both maps on the right. Nothing here reaches the training."""

    HEIGHT: ClassVar[int] = 330
    WEIGHT: ClassVar[float] = 3.0
    WIDE: ClassVar[bool] = True

    def __init__(self, palette: Palette) -> None:
        self.question = Question()
        self.answer: Answer | None = None
        self.map = MapView(palette, square=True)
        self.recorded = MapView(palette, square=True)
        self.head = QComboBox()
        self.normaliser = QComboBox()
        self.causal = QCheckBox("Causal mask")
        self._was_causal: bool | None = None
        self.figures: list[tuple[QLabel, QLabel, QLabel]] = []
        self.rows = {knob.name: KnobRow(knob) for knob in KNOBS}
        super().__init__(palette)
        self.head.setAccessibleName("Head")
        self.normaliser.setAccessibleName("Normaliser")
        self.causal.setToolTip("A query sees the keys up to itself only.")
        self.normaliser.addItems(NORMALISERS)
        self.normaliser.currentTextChanged.connect(lambda name: self.ask(normaliser=name))
        self.causal.toggled.connect(lambda on: self.ask(causal=on))
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
        column.addWidget(self.causal)
        for knob in KNOBS:
            row = self.rows[knob.name]
            row.set_knob(knob, live=True)
            row.applied.hide()
            row.turned.connect(lambda name, value: self.ask(**{name: value}))
            column.addWidget(row)
        column.addSpacing(GAP)
        self._table = QGridLayout()
        self._table.setHorizontalSpacing(GAP)
        self._table.setVerticalSpacing(2)
        self._table.setColumnStretch(0, 1)
        for place, heading in enumerate(("", "recorded", "what if")):
            self._table.addWidget(label("small", heading, _RIGHT if place else _LEFT), 0, place)
        column.addLayout(self._table)
        column.addStretch(1)
        layout = QHBoxLayout(self.content)
        layout.setContentsMargins(0, 2, 0, 0)
        layout.setSpacing(2 * GAP)
        layout.addWidget(controls)
        self._sides = [QWidget(), QWidget()]
        both = (("As it was recorded", self.recorded), ("What if", self.map))
        for side, (name, view) in zip(self._sides, both, strict=True):
            column = QVBoxLayout(side)
            column.setContentsMargins(0, 0, 0, 0)
            column.setSpacing(2)
            column.addWidget(label("small", name))
            column.addWidget(view, 1)
            layout.addWidget(side, 1)
            view.pointed.connect(self.aside.setText)
        self.add_action("As it was recorded", "X").triggered.connect(self.reset)

    def restyle(self) -> None:
        """The maps repaint themselves."""
        for view in (self.recorded, self.map):
            view.restyle(self.palette_)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Show both maps where there is room for both."""
        super().resizeEvent(event)
        self._sides[0].setVisible(self.width() > _ROOM_FOR_BOTH)

    def ask(self, **changes: float | str | bool) -> None:
        """Change some of the question; the map follows at once."""
        self.question = replace(self.question, **changes)  # type: ignore[arg-type]
        self._compute()

    def reset(self) -> None:
        """Ask for what was recorded."""
        default = Question(causal=bool(self._was_causal))
        self.causal.setChecked(default.causal)
        for knob in KNOBS:
            self.rows[knob.name].turn(knob.default)
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
        if state.causal != self._was_causal:
            self._was_causal = state.causal
            self.question = replace(self.question, causal=state.causal)
            self.causal.setChecked(state.causal)
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
        self._write(recorded, self.answer)
        for view, values in ((self.recorded, recorded.map), (self.map, self.answer.map)):
            top = float(np.quantile(values[values > 0], _TOP)) if (values > 0).any() else 1.0
            view.show_map(values, Scale(0.0, top), state.labels, state.labels, blank_zeros=True)

    def _write(self, recorded: Answer, now: Answer) -> None:
        """The figures of both in a row each; a figure that has changed stands out."""
        while len(self.figures) < len(now.figures):
            row = (label("muted"), label("muted", alignment=_RIGHT), label("muted", alignment=_RIGHT))
            for place, part in enumerate(row):
                self._table.addWidget(part, len(self.figures) + 1, place)
            self.figures.append(row)
        for row, (name, value), (_, before) in zip(self.figures, now.figures, recorded.figures, strict=False):
            for part, text in zip(row, (name.capitalize(), number(before, 3), number(value, 3)), strict=True):
                part.setText(text)
            colour = self.palette_.muted if value == before else self.palette_.text
            row[2].setStyleSheet(f"color: {colour}")
