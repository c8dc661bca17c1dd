"""What the cards with a plot share: legend above it, guides in it, a logarithmic axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from PySide6.QtWidgets import QVBoxLayout

from logitscope_app.panels.card import Card
from logitscope_app.panels.guides import GuideLines
from logitscope_app.panels.legend import Entry, Legend
from logitscope_app.panels.plot import Plot

if TYPE_CHECKING:
    from collections.abc import Sequence


class PlotCard(Card):
    """A plot that is made when it is to be seen first: that takes some ten milliseconds."""

    CURSOR: ClassVar[bool] = False
    """Whether the plot shows the step."""
    plot: Plot
    legend: Legend
    guides: GuideLines
    inside: QVBoxLayout

    def furnish(self) -> None:
        """Make the plot and its legend."""
        self.plot = Plot(self.palette_, cursor=self.CURSOR)
        self.legend = Legend(self.palette_)
        self.guides = GuideLines(self.plot)
        self.inside = QVBoxLayout(self.content)
        self.inside.setContentsMargins(0, 0, 0, 0)
        self.inside.setSpacing(0)
        self.inside.addWidget(self.legend)
        self.inside.addWidget(self.plot.widget, 1)
        self.plot.widget.show()  # at once, in a card that is seen already
        self.plot.hovered.connect(self.read)

    def restyle(self) -> None:
        """Repaint axes and legend; what is plotted follows with the next draw."""
        if self._is_furnished:
            self.plot.restyle(self.palette_)
            self.legend.restyle(self.palette_)

    def read(self, x: float | None) -> None:
        """Read what is plotted at an x, where the pointer is; None when it left."""

    def show_entries(self, entries: Sequence[Entry], where: str) -> None:
        """Write what was read.

        The title names what is alone: its value goes beside it and leaves the row to the plot.
        """
        single = len(entries) == 1
        self.legend.setVisible(not single)
        self.legend.set_entries(entries)
        self.aside.setText(f"{where}   {entries[0].value}".strip() if single else where)
        self.setAccessibleDescription(", ".join(f"{entry.label} {entry.value}" for entry in entries))

    def redraw(self) -> None:
        """Draw once more what is shown, if something is."""
        if self._is_furnished and self.state is not None and not self.state.message:
            self.draw()
