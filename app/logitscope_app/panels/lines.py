"""Curves over the step with a legend of values at the cursor or under the pointer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitscope_app.models.states import LinesState
from logitscope_app.models.text import number, step_number
from logitscope_app.panels.legend import Entry
from logitscope_app.panels.line import Line
from logitscope_app.panels.plot_card import PlotCard
from logitscope_app.theme.colormaps import ordered

if TYPE_CHECKING:
    from logitscope_app.models.states import Curve
    from logitscope_app.theme.palette import Palette


_LOOKED_AT = 20_000
_BELOW_ZERO, _ANYTHING = -0.03, -1e307
"""Where an axis begins whose curves are all at zero, as a share or a count is never below it; and any other."""
_MANY = 3
"""From so many curves on their values are written shorter."""


class LinesCard(PlotCard):
    """Lines. ``Y`` switches the logarithmic axis."""

    HEIGHT: ClassVar[int] = 118
    CURSOR: ClassVar[bool] = True

    def __init__(self, palette: Palette) -> None:
        self._lines: list[Line] = []
        self._hover: float | None = None
        self._log_known = False
        super().__init__(palette)
        self.log_action = self.add_action("Logarithmic axis", "Y", checkable=True)
        self.log_action.toggled.connect(lambda _: self.redraw())

    def furnish(self) -> None:
        """Make the plot, in which a step can be chosen."""
        super().furnish()
        self.plot.picked.connect(lambda x: self.picked.emit(round(x)))

    def draw(self) -> None:
        """Give changed curves their points, move the cursor, write the values."""
        state = self.state
        assert isinstance(state, LinesState)
        if not self._log_known:
            self._log_known = True
            self.plot.set_log_x(bool(state.panel.options.get("log_x", False)))
            self.log_action.setChecked(bool(state.panel.options.get("log_y", False)))
        self.plot.set_log_y(self.log_action.isChecked())
        self.plot.set_x_label(state.panel.x_label, self.palette_.muted)
        several = _are_several(state)
        while len(self._lines) < len(state.curves):
            self._lines.append(Line(self.plot))
        colours = self._colours(state)
        for index, points in enumerate(state.piles):
            self._lines[index].show(points, state.step, colours[index], behind=index)
        shown = [] if state.piles else state.curves
        for line, curve, colour in zip(self._lines, shown, colours, strict=False):
            line.show(curve.points, state.step, colour, dashed=_is_dashed(curve, several))
        for line in self._lines[len(state.piles or shown) :]:
            line.clear()
        flat = _level_of_flat(state)
        lowest = _BELOW_ZERO if flat == 0 and not self.plot.log_y else _ANYTHING
        self.plot.view.setLimits(maxYRange=abs(flat) if flat else None, yMin=lowest)
        self.plot.set_span(state.span)
        self.plot.set_cursor(state.step)
        self.guides.show(state.guides, self.palette_)
        self._write(state)

    def _colours(self, state: LinesState) -> tuple[str, ...]:
        """A colour a tag, compared runs dashed; where there is one tag, a colour a run.

        What is dashed of itself takes the colours of the others in their order: a prediction that of what it predicts.
        """
        tags = [curve.tag for curve in state.curves if curve.run == 0]
        dashed = [curve.tag for curve in state.curves if curve.run == 0 and curve.dashed]
        plain = [tag for tag in tags if tag not in dashed]
        if state.ordered:
            colours = dict(zip(tags, ordered(len(tags), self.palette_.ramp), strict=True))
        elif len(tags) > 1:
            numbered = [*enumerate(plain), *enumerate(dashed)]
            colours = {tag: self.palette_.series_colour(index) for index, tag in numbered}
        else:
            return tuple(self.palette_.series_colour(curve.run) for curve in state.curves)
        return tuple(colours[curve.tag] for curve in state.curves)

    def _write(self, state: LinesState) -> None:
        step = state.step if self._hover is None else round(self._hover)
        digits = 4 if len(state.curves) < _MANY else 3
        entries = []
        for curve, colour in zip(state.curves, self._colours(state), strict=True):
            at = curve.points.at(step)
            value = number(at[1], digits) if at else "–"
            dashed = _is_dashed(curve, _are_several(state))
            entries.append(Entry(colour, _short(curve.label), value, dashed))
        where = "" if self._hover is None else f"step {step_number(step)}"
        self.show_entries(entries, where)

    def read(self, x: float | None) -> None:
        """Read the curves at an x."""
        self._hover = x
        if isinstance(self.state, LinesState):
            self._write(self.state)


def _level_of_flat(state: LinesState) -> float | None:
    """The one value at which all curves are, which an axis must be cut to; None where there are several."""
    if state.piles or sum(len(curve.points) for curve in state.curves) > _LOOKED_AT:
        return None
    values = np.concatenate([np.empty(0), *(curve.points.values for curve in state.curves)])
    return None if not values.size or (values != values[0]).any() else float(values[0])


def _are_several(state: LinesState) -> bool:
    """Whether the run that is shown has several curves: a colour is then a tag, and another run's is dashed."""
    return sum(curve.run == 0 for curve in state.curves) > 1


def _is_dashed(curve: Curve, several: bool) -> bool:
    return curve.dashed or (curve.run > 0 and several)


def _short(label: str) -> str:
    """``layer3`` as ``L3``, so that they fit into one row."""
    return re.sub(r"\blayer ?(\d+)$", r"L\1", label)
