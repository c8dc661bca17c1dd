"""One matrix with its labels, colour bar and exact read-out."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from PySide6.QtWidgets import QVBoxLayout

from logitscope_app.models.colour import Scale, scale_of
from logitscope_app.models.states import HeatmapState
from logitscope_app.panels.card import Card
from logitscope_app.panels.map_view import MapView

if TYPE_CHECKING:
    from logitscope_app.theme.palette import Palette


class HeatmapCard(Card):
    """A heat map."""

    HEIGHT: ClassVar[int] = 180
    WEIGHT: ClassVar[float] = 1.6

    def __init__(self, palette: Palette) -> None:
        self.map = MapView(palette)
        super().__init__(palette)
        layout = QVBoxLayout(self.content)
        layout.setContentsMargins(0, 2, 0, 0)
        layout.addWidget(self.map)
        self.map.pointed.connect(self.aside.setText)

    def restyle(self) -> None:
        """The map repaints itself."""
        self.map.restyle(self.palette_)

    def draw(self) -> None:
        """Show the matrix of the step."""
        state = self.state
        assert isinstance(state, HeatmapState)
        log = bool(state.panel.options.get("log", False))
        fixed = state.limits if not log else None
        scale = Scale(*fixed) if fixed else scale_of(state.values, log=log)
        self.map.show_map(state.values, scale, state.row_labels, state.column_labels)
