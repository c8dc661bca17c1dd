"""Points of the plane, joined or not, with a legend that reads them under the pointer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyqtgraph as pg

from logitscope_app.models.states import ScatterState
from logitscope_app.models.text import number
from logitscope_app.panels.legend import Entry
from logitscope_app.panels.plot import pen
from logitscope_app.panels.plot_card import PlotCard

if TYPE_CHECKING:
    from logitscope_app.models.states import Cloud
    from logitscope_app.theme.palette import Palette

_SIZE = 6
_SMALL = 4
_MANY = 30
"""From so many points on they are drawn smaller, and left to the line through them if there is one."""


class ScatterCard(PlotCard):
    """A scatter plot or a spectrum. ``X`` and ``Y`` switch the logarithmic axes."""

    HEIGHT: ClassVar[int] = 132

    def __init__(self, palette: Palette) -> None:
        self._clouds: list[pg.PlotDataItem] = []
        self._axes_known = False
        super().__init__(palette)
        self.log_x_action = self.add_action("Logarithmic horizontal axis", "X", checkable=True)
        self.log_y_action = self.add_action("Logarithmic vertical axis", "Y", checkable=True)
        for action in (self.log_x_action, self.log_y_action):
            action.toggled.connect(lambda _: self.redraw())

    def draw(self) -> None:
        """Give the clouds their points."""
        state = self.state
        assert isinstance(state, ScatterState)
        if not self._axes_known:
            self._axes_known = True
            self.log_x_action.setChecked(state.log_x)
            self.log_y_action.setChecked(state.log_y)
        self.plot.set_log_x(self.log_x_action.isChecked())
        self.plot.set_log_y(self.log_y_action.isChecked())
        self.plot.set_x_label(state.panel.x_label, self.palette_.muted)
        while len(self._clouds) < len(state.clouds):
            self._clouds.append(pg.PlotDataItem(connect="finite"))
            self.plot.add_whole(self._clouds[-1])
        for index, (item, cloud) in enumerate(zip(self._clouds, state.clouds, strict=False)):
            colour = self.palette_.series_colour(index)
            item.setData(
                cloud.x.astype(np.float64),
                cloud.y.astype(np.float64),
                pen=pen(colour) if state.joined else None,
                symbol=None if state.joined and len(cloud.x) >= _MANY else "o",
                symbolBrush=colour,
                symbolPen=None,
                symbolSize=_SIZE if len(cloud.x) < _MANY else _SMALL,
            )
        for item in self._clouds[len(state.clouds) :]:
            item.setData([], [])
        self.guides.show(state.guides, self.palette_)
        self.read(None)

    def read(self, x: float | None) -> None:
        """Read the point of each cloud that is next to an x."""
        state = self.state
        if not isinstance(state, ScatterState) or state.message:
            return
        entries = []
        nearest: float | None = None
        for index, cloud in enumerate(state.clouds):
            at = None if x is None else self._nearest(cloud, x)
            value = "" if at is None else number(float(cloud.y[at]), 3)
            entries.append(Entry(self.palette_.series_colour(index), cloud.label, value))
            nearest = float(cloud.x[at]) if at is not None and nearest is None else nearest
        self.show_entries(entries, "" if nearest is None else f"{state.panel.x_label} {number(nearest, 3)}")

    def _nearest(self, cloud: Cloud, x: float) -> int | None:
        places: Any = cloud.x.astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            distances = np.abs(np.log10(places) - np.log10(x)) if self.plot.log_x else np.abs(places - x)
        known = np.isfinite(distances)
        return int(np.argmin(np.where(known, distances, np.inf))) if known.any() else None
