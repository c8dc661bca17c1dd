"""The docks of the window: one a group of panels, and knobs, events and runs; seen while not empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QDockWidget, QWidget

from logitscope_app.models.plan import GROUPS, OTHER_GROUP
from logitscope_app.panels.grid import PanelGrid
from logitscope_app.panels.label import named

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from PySide6.QtWidgets import QMainWindow

    from logitscope_app.models.states import PanelState
    from logitscope_app.theme.palette import Palette

RUNS, KNOBS, EVENTS, INSPECTOR = "Runs", "Knobs", "Events", "Inspector"
_WIDTHS = (
    (215, (RUNS,)),
    (705, ("Attention",)),
    (605, ("Training", "Logit scaling")),
    (290, (KNOBS, "Text", EVENTS)),
)
"""The width of each column, and the docks in it that it is always made of."""
_LEAST_SHARE = 0.3
"""Of the height of its column, for a view of few panels beside one of many."""
_FEATURES = (
    QDockWidget.DockWidgetFeature.DockWidgetMovable | QDockWidget.DockWidgetFeature.DockWidgetFloatable
)


class Docks(QObject):
    """Makes the docks and keeps each visible exactly while it has content and the user wants it."""

    picked = Signal(int)
    added = Signal(str)
    """A view that no run had before."""

    def __init__(self, window: QMainWindow, palette: Palette, tools: dict[str, QWidget]) -> None:
        super().__init__(window)
        self._window = window
        self._palette = palette
        self._docks: dict[str, QDockWidget] = {}
        self._filled: set[str] = set()
        self._hidden: set[str] = set()
        self.grids: dict[str, PanelGrid] = {}
        self.actions: dict[str, QAction] = {}
        for name in GROUPS:
            self._add_grid(name)
        for name, widget in tools.items():
            self._add(name, widget)
        self.arrange()

    @property
    def seen(self) -> list[str]:
        """The names of the docks that are shown."""
        return [name for name in self._docks if name in self._filled and name not in self._hidden]

    @property
    def hidden(self) -> list[str]:
        """The names of the docks that the user has hidden."""
        return sorted(self._hidden)

    def dock(self, name: str) -> QDockWidget:
        """The dock of that name."""
        return self._docks[name]

    def set_states(self, states: Sequence[PanelState]) -> None:
        """Hand every grid its states."""
        groups: dict[str, list[PanelState]] = {name: [] for name in self.grids}
        for state in states:
            groups.setdefault(state.panel.group or OTHER_GROUP, []).append(state)
        for name in groups:
            if name not in self.grids:
                self._add_grid(name)
                self._place_late(name)
                self.added.emit(name)
        for name, members in groups.items():
            self.grids[name].set_states(members)
            self.set_filled(name, filled=bool(members))

    def set_filled(self, name: str, *, filled: bool) -> None:
        """Say whether a dock has content."""
        if filled != (name in self._filled):
            (self._filled.add if filled else self._filled.discard)(name)
            self._show(name)

    def set_hidden(self, names: Iterable[str]) -> None:
        """Take over which docks the user does not want."""
        self._hidden = set(names)
        for name, action in self.actions.items():
            action.setChecked(name not in self._hidden)
            self._show(name)

    def finish(self) -> None:
        """Make all that is in view now; for who takes a picture."""
        for grid in self.grids.values():
            grid.finish()

    def clear(self) -> None:
        """Empty every view."""
        self.set_states(())

    def set_palette(self, palette: Palette) -> None:
        """Wear other colours."""
        self._palette = palette
        for grid in self.grids.values():
            grid.set_palette(palette)

    def arrange(self) -> None:
        """Put the docks in their places: attention left, training over logits in the middle, tools right."""
        window = self._window
        for dock in self._docks.values():
            dock.setFloating(False)
            window.removeDockWidget(dock)
        window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, self._docks[RUNS])
        for anchor, name, way in (
            (RUNS, "Attention", Qt.Orientation.Horizontal),
            ("Attention", "Training", Qt.Orientation.Horizontal),
            ("Training", KNOBS, Qt.Orientation.Horizontal),
            ("Training", "Logit scaling", Qt.Orientation.Vertical),
            (KNOBS, "Text", Qt.Orientation.Vertical),
            ("Text", EVENTS, Qt.Orientation.Vertical),
        ):
            window.splitDockWidget(self._docks[anchor], self._docks[name], way)
        window.tabifyDockWidget(self._docks["Logit scaling"], self._docks[INSPECTOR])
        for name in self.grids:
            if name not in GROUPS:
                window.tabifyDockWidget(self._docks["Logit scaling"], self._docks[name])
        for name in self._docks:
            self._show(name)
        self._docks["Logit scaling"].raise_()
        self.proportion()

    def proportion(self) -> None:
        """Give the docks that are seen their default sizes."""
        late = [name for name in self.grids if name not in GROUPS]
        widths: dict[str, float] = {}
        for width, names in _WIDTHS:
            column = [*names, *late] if "Training" in names else names
            widths |= dict.fromkeys([name for name in column if name in self.seen][:1], width)
        self._resize(widths, Qt.Orientation.Horizontal)
        below = next((name for name in ("Logit scaling", *late) if name in self.seen), "Logit scaling")
        share = 0.5 if below in GROUPS else self._share(below)
        self._resize({"Training": 1 - share, below: share}, Qt.Orientation.Vertical)
        self._resize({"Text": 0.55, EVENTS: 0.45}, Qt.Orientation.Vertical)
        if KNOBS in self.seen:
            # Knobs need what they need; the docks below share the rest.
            knobs = self._docks[KNOBS]
            self._window.resizeDocks([knobs], [knobs.sizeHint().height()], Qt.Orientation.Vertical)

    def _share(self, name: str) -> float:
        """How much of its column a view of an experiment gets beside the training's: by the number of panels."""
        own, others = self.grids[name].count, self.grids["Training"].count
        return min(max(own / max(own + others, 1), _LEAST_SHARE), 1 - _LEAST_SHARE)

    def _resize(self, sizes: dict[str, float], way: Qt.Orientation) -> None:
        seen = [name for name in sizes if name in self.seen]
        if len(seen) > 1:
            total = self._window.width() if way == Qt.Orientation.Horizontal else self._window.height()
            unit = total / sum(sizes[name] for name in seen)
            pixels = [round(sizes[name] * unit) for name in seen]
            self._window.resizeDocks([self._docks[name] for name in seen], pixels, way)

    def _add_grid(self, name: str) -> None:
        grid = PanelGrid(self._palette)
        grid.picked.connect(self.picked)
        self.grids[name] = grid
        self._add(name, grid)

    def _add(self, name: str, widget: QWidget) -> None:
        dock = named(QDockWidget(name, self._window), name)
        dock.setFeatures(_FEATURES)
        dock.setWidget(widget)
        dock.hide()
        self._docks[name] = dock
        action = QAction(name, self, checkable=True, checked=True)
        action.toggled.connect(lambda on: self._want(name, on))
        self.actions[name] = action

    def _place_late(self, name: str) -> None:
        dock = self._docks[name]
        if not self._window.restoreDockWidget(dock):
            self._window.tabifyDockWidget(self._docks["Logit scaling"], dock)

    def _want(self, name: str, on: bool) -> None:
        (self._hidden.discard if on else self._hidden.add)(name)
        self._show(name)

    def _show(self, name: str) -> None:
        self._docks[name].setVisible(name in self._filled and name not in self._hidden)
