"""The knobs of a run: what the viewer asks for, and whether the training has taken it over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QLabel, QLineEdit, QPushButton, QSlider, QVBoxLayout, QWidget

from logitscope_app.models.knob_scale import position, typed, value_at
from logitscope_app.models.text import number, sentence
from logitscope_app.panels.label import label
from logitscope_app.theme.palette import GAP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logitscope.record import KnobInfo

_TICKS = 1000
_KEY_STEP = 10
_PAGE_STEP = 100


class KnobRow(QWidget):
    """One knob: slider, field, way back to the default."""

    turned = Signal(str, float)

    def __init__(self, knob: KnobInfo) -> None:
        super().__init__()
        self.knob = knob
        self._asked = knob.value
        name = QLabel(sentence(knob.name).capitalize())
        name.setToolTip(knob.notes or knob.name)
        self.applied = label("small")
        self.applied.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _TICKS)
        self.slider.setSingleStep(_KEY_STEP)
        self.slider.setPageStep(_PAGE_STEP)
        self.slider.setAccessibleName(knob.name)
        self.field = QLineEdit()
        self.field.setFixedWidth(74)
        self.field.setAccessibleName(f"{knob.name} value")
        self.field.setToolTip(f"{number(knob.low)} to {number(knob.high)}")
        self.default = QPushButton("Default")
        self.default.setToolTip(f"Back to {number(knob.default)}")
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setHorizontalSpacing(GAP)
        layout.setVerticalSpacing(2)
        layout.addWidget(name, 0, 0)
        layout.addWidget(self.applied, 0, 1, 1, 2)
        layout.addWidget(self.slider, 1, 0)
        layout.addWidget(self.field, 1, 1)
        layout.addWidget(self.default, 1, 2)
        layout.setColumnStretch(0, 1)
        self._show(knob.value)
        self.slider.valueChanged.connect(
            lambda tick: self.turn(value_at(self.knob, tick / _TICKS), self.slider)
        )
        self.field.editingFinished.connect(self._on_typed)
        self.default.clicked.connect(lambda: self.turn(self.knob.default))

    def set_knob(self, knob: KnobInfo, *, live: bool) -> None:
        """Show what the run file says; a value under the hand stays where the hand has put it."""
        self.knob = knob
        held = self.slider.isSliderDown() or self.field.isModified()
        if knob.value != self._asked and not held:
            self._show(knob.value)
        for widget in (self.slider, self.field, self.default):
            widget.setEnabled(live)
        if not live:
            self.applied.setText(f"was {number(knob.applied)}")
        elif knob.applied == knob.value:
            self.applied.setText("in use")
        else:
            self.applied.setText(f"still {number(knob.applied)}, changes with the next step")

    def _on_typed(self) -> None:
        if not self.field.isModified():
            return
        self.field.setModified(False)
        value = typed(self.knob, self.field.text())
        if value is None:
            self._show(self._asked)
        else:
            self.turn(value)

    def turn(self, value: float, source: QWidget | None = None) -> None:
        """Ask for a value, as the slider and the field do."""
        changed = value != self._asked
        self._show(value, source)
        if changed:
            self.turned.emit(self.knob.name, value)

    def _show(self, value: float, source: QWidget | None = None) -> None:
        self._asked = value
        self.field.setText(number(value).replace(",", ""))  # typed, a comma is a decimal point
        self.field.setModified(False)
        if source is not self.slider:
            blocked = self.slider.blockSignals(True)
            self.slider.setValue(round(position(self.knob, value) * _TICKS))
            self.slider.blockSignals(blocked)


class KnobsPanel(QWidget):
    """All knobs of the run."""

    turned = Signal(str, float)

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("dockBody")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.rows: dict[str, KnobRow] = {}
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(GAP + 2, GAP, GAP + 2, GAP)
        self._layout.setSpacing(GAP)
        self._layout.addStretch(1)

    def set_knobs(self, knobs: Sequence[KnobInfo], *, live: bool) -> None:
        """Show the run's knobs; they can be turned while it is ``live``."""
        names = [knob.name for knob in knobs]
        if names != list(self.rows):
            for row in self.rows.values():
                row.hide()
                row.deleteLater()
            self.rows = {knob.name: KnobRow(knob) for knob in knobs}
            for index, row in enumerate(self.rows.values()):
                row.turned.connect(self.turned)
                self._layout.insertWidget(index, row)
        for knob in knobs:
            self.rows[knob.name].set_knob(knob, live=live)
