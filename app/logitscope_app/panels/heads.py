"""Attention maps: every head small, one large with its token labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from logitscope_app.models.colour import Scale, scale_of
from logitscope_app.models.pyramid import sketch
from logitscope_app.models.states import HeadsState
from logitscope_app.models.text import number, step_number
from logitscope_app.panels.card import Card
from logitscope_app.panels.head_grid import HeadGrid
from logitscope_app.panels.label import ElidedLabel
from logitscope_app.panels.map_view import MapView
from logitscope_app.theme.palette import GAP

if TYPE_CHECKING:
    from logitscope_app.models.states import FloatArray
    from logitscope_app.theme.palette import Palette

_SMALL = 0.1


class HeadsCard(Card):
    """Layer by head.

    ``G`` switches the logarithmic colours, ``O`` the figure written under the tiles, ``R`` puts the heads into the
    order of that figure. ``D`` keeps the maps that are seen, to show at every other step what has changed since, and
    ``W`` shows the difference to a run that is compared; both maps stand below then, side by side.
    """

    HEIGHT: ClassVar[int] = 300
    WEIGHT: ClassVar[float] = 3.0
    WIDE: ClassVar[bool] = True
    TALLEST: ClassVar[float] = 0.7

    def __init__(self, palette: Palette) -> None:
        self.grid = HeadGrid(palette)
        self.large = MapView(palette, square=True)
        self.selected: tuple[int, int] | None = None
        self._figure = 0
        self._reference: HeadsState | None = None
        self.pair = (MapView(palette, square=True), MapView(palette, square=True))
        super().__init__(palette)
        self.caption = ElidedLabel("readout")
        self.figure_name = ElidedLabel("small")
        left, right = QVBoxLayout(), QVBoxLayout()
        for column, heading, widget in (
            (left, self.figure_name, self.grid),
            (right, self.caption, self.large),
        ):
            column.setSpacing(2)
            column.addWidget(heading)
            column.addWidget(widget, 1)
        self._pair = QWidget()
        below = QHBoxLayout(self._pair)
        below.setContentsMargins(0, GAP // 2, 0, 0)
        self._names = (ElidedLabel("small"), ElidedLabel("small"))
        for view, name in zip(self.pair, self._names, strict=True):
            column = QVBoxLayout()
            column.setSpacing(2)
            column.addWidget(name)
            column.addWidget(view, 1)
            below.addLayout(column)
            view.pointed.connect(self._read)
        right.addWidget(self._pair, 1)
        self._pair.hide()
        layout = QHBoxLayout(self.content)
        layout.setContentsMargins(0, 2, 0, 0)
        layout.setSpacing(2 * GAP)
        layout.addLayout(left, 9)
        layout.addLayout(right, 11)
        self.log_action = self.add_action("Logarithmic colours", "G", checkable=True)
        self.log_action.toggled.connect(self._redraw)
        self.add_action("Next figure under the tiles", "O").triggered.connect(self.next_figure)
        self.sort_action = self.add_action("Sort the heads by that figure", "R", checkable=True)
        self.sort_action.toggled.connect(self._redraw)
        self.change_action = self.add_action("Difference to the maps seen now", "D", checkable=True)
        self.change_action.toggled.connect(self._keep)
        self.run_action = self.add_action("Difference to the compared run", "W", checkable=True)
        self.run_action.toggled.connect(self._redraw)
        self._log_known = False
        self.grid.chosen.connect(self.choose)
        self.large.pointed.connect(self._read)

    def restyle(self) -> None:
        """The large maps repaint themselves; the grid follows with the next draw."""
        for view in (self.large, *self.pair):
            view.restyle(self.palette_)

    def choose(self, layer: int, head: int) -> None:
        """Show that head large."""
        self.selected = (layer, head)
        self.grid.select(layer, head)
        self._draw_large()

    def next_figure(self) -> None:
        """Write another figure under the tiles."""
        self._figure += 1
        self._redraw()

    def draw(self) -> None:
        """Colour all maps on one scale and show the chosen one large."""
        state = self.state
        assert isinstance(state, HeadsState)
        if not self._log_known:
            self._log_known = True
            self.log_action.setChecked(bool(state.panel.options.get("log", False)))
        layers, heads = state.maps.shape[:2]
        if self.selected is None or self.selected[0] >= layers or self.selected[1] >= heads:
            self.selected = _most_telling(state)
        figure = state.figures[self._figure % len(state.figures)] if state.figures else None
        values = figure[1] if figure else None
        name = figure[0] if figure else ""
        reference = self._other_maps
        self._tell()
        if reference is not None:
            name, values = "mean change", np.abs(self._maps - np.nan_to_num(reference)).mean(axis=(2, 3))
        if values is not None and _are_small(values):
            name, values = f"{name} × 1000", values * 1000
        self.figure_name.setText(f"below each head: {name}" if name else "all heads")
        order = sorted_heads(values) if values is not None and self.sort_action.isChecked() else ()
        maps = self._maps if reference is None else self._maps - reference
        self.grid.show_maps(maps, self._scale, values, self.palette_, self.selected, order)
        self._draw_large()

    def _draw_large(self) -> None:
        state = self.state
        if not isinstance(state, HeadsState) or state.message or self.selected is None:
            return
        layer, head = self.selected
        self.large.show_map(
            self._shown(layer, head),
            self._scale(layer, head),
            state.row_labels,
            state.column_labels,
            blank_zeros=True,
        )
        other = self._other_maps
        self._pair.setVisible(other is not None)
        if other is not None:
            both = (other[layer, head], self._maps[layer, head])
            scale = _linear(np.stack(both))
            for view, values in zip(self.pair, both, strict=True):
                view.show_map(values, scale, state.row_labels, state.column_labels, blank_zeros=True)

    def _scale(self, layer: int, head: int) -> Scale:
        """The colours of a head: each has its own top, so that flat heads show their structure too."""
        values = self._shown(layer, head)
        if self._other_maps is not None:
            return scale_of(values, signed=True)
        if self.log_action.isChecked():
            return scale_of(values, log=True)
        return _linear(values)

    @property
    def _maps(self) -> FloatArray:
        state = self.state
        assert isinstance(state, HeadsState)
        return state.maps

    @property
    def _other_maps(self) -> FloatArray | None:
        """The maps that those of the step are held against: kept ones, or a compared run's; of the same shape."""
        state = self.state
        if self.run_action.isChecked() and isinstance(state, HeadsState) and state.others:
            return state.others[0][1]
        kept = self._reference
        return kept.maps if kept is not None and kept.maps.shape == self._maps.shape else None

    def _shown(self, layer: int, head: int) -> FloatArray:
        """A head's map, or how it differs from the other one."""
        other = self._other_maps
        values: FloatArray = self._maps[layer, head]
        return values if other is None else values - other[layer, head]

    def _keep(self, on: bool) -> None:
        """Keep the maps that are seen, or forget them."""
        state = self.state
        self._reference = state if on and isinstance(state, HeadsState) and not state.message else None
        self._tell()
        self._redraw()

    def _tell(self) -> None:
        """Say what the maps are held against."""
        state = self.state
        names = ("", "")
        if self.run_action.isChecked() and isinstance(state, HeadsState):
            told = "tick a run in the list to compare with it"
            if state.others:
                told, names = f"against {state.others[0][0]}", (state.others[0][0], "this run")
        elif self._reference is None:
            told = ""
        else:
            kept = step_number(self._reference.step)
            told, names = f"change since step {kept}", (f"step {kept}", "now")
        self.aside.setText(told)
        for widget, name in zip(self._names, names, strict=True):
            widget.setText(name)

    def _read(self, reading: str) -> None:
        state = self.state
        if not isinstance(state, HeadsState) or self.selected is None:
            return
        layer, head = self.selected
        figures = [f"{name} {number(float(values[layer, head]), 3)}" for name, values in state.figures[:3]]
        title = f"L{layer} H{head}"
        self.caption.setText(f"{title}  ·  {reading}" if reading else "  ·  ".join([title, *figures]))

    def _redraw(self) -> None:
        if isinstance(self.state, HeadsState) and not self.state.message:
            self.draw()


def sorted_heads(figure: FloatArray) -> tuple[tuple[int, int], ...]:
    """Heads in the order of a figure (layers, heads), lowest first, NaN last.

    Examples
    --------
    >>> sorted_heads(np.array([[0.5, np.nan], [0.2, 0.9]]))
    ((1, 0), (0, 0), (1, 1), (0, 1))
    """
    order = np.argsort(figure, axis=None, kind="stable")
    rows, columns = np.unravel_index(order, figure.shape)
    return tuple(zip(rows.tolist(), columns.tolist(), strict=True))


def _are_small(figure: FloatArray) -> bool:
    """Whether figures would be written as so many zeros."""
    known = np.abs(figure[np.isfinite(figure) & (figure != 0)])
    return bool(known.size) and float(known.max()) < _SMALL


def _linear(values: np.ndarray) -> Scale:
    """From 0 to what all but the top two in a hundred of the seen cells stay below.

    The first rows of a causal map see few tokens: their weights are near 1 in every head and would leave the
    rest dark.
    """
    if (values < 0).any():
        return scale_of(values)
    few = sketch(values.reshape(-1, values.shape[-1]))  # a quantile of a million cells is that of all
    seen = few[np.isfinite(few) & (few > 0)]
    if not seen.size:
        return scale_of(values)
    return Scale(0.0, float(np.quantile(seen, 0.98)))


def _most_telling(state: HeadsState) -> tuple[int, int]:
    """The head to show first: the most focused one, or the first when nothing says which."""
    for name, values in state.figures:
        if name == "entropy" and np.isfinite(values).any():
            layer, head = np.unravel_index(int(np.nanargmin(values)), values.shape)
            return int(layer), int(head)
    return 0, 0
