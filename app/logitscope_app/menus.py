"""The window's menus, keys and what its command palette offers, made from the table of commands."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QMenu

from logitscope_app.commands import COMMANDS, Command
from logitscope_app.panels.command_palette import Choice

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PySide6.QtWidgets import QMenuBar

    from logitscope.record import RunInfo
    from logitscope_app.docks import Docks
    from logitscope_app.layouts import Layouts
    from logitscope_app.main_window import MainWindow


class Menus:
    """Fills the bar ``root``; ``plain_keys`` are those that a panel may want for itself."""

    def __init__(self, window: MainWindow, root: QMenuBar, docks: Docks, layouts: Layouts | None) -> None:
        self._window, self._docks, self._layouts = window, docks, layouts
        self.plain_keys: dict[str, Command] = {}
        self._views = QMenu("Docks", window)
        self._named = QMenu("Layouts", window)
        menus: dict[str, QMenu] = {}
        for command in COMMANDS:
            if command.menu not in menus:
                menus[command.menu] = root.addMenu(command.menu)
            menus[command.menu].addAction(self._action(command))
        for name in docks.actions:
            self.add_view(name)
        menus["View"].addMenu(self._views)
        menus["View"].addMenu(self._named)
        self.list_layouts()

    def add_view(self, name: str) -> None:
        """Offer to hide a dock."""
        self._views.addAction(self._docks.actions[name])

    def list_layouts(self) -> None:
        """Offer the layouts that are kept now."""
        self._named.clear()
        for name in self._names():
            self._named.addAction(name, partial(self._window.load_layout, name))
        self._named.setEnabled(not self._named.isEmpty())

    def choices(self, runs: Sequence[RunInfo], recent: Sequence[Path]) -> list[Choice]:
        """Every command, dock, layout and run by name."""
        window = self._window
        found = [
            Choice(f"{command.menu}: {command.text}", command.keys[0], partial(command.run, window))
            for command in COMMANDS
        ]
        for name, action in self._docks.actions.items():
            found.append(Choice(f"View: show or hide {name}", "", action.toggle))
        for name in self._names():
            found.append(Choice(f"Layout: {name}", "", partial(window.load_layout, name)))
            found.append(Choice(f"Layout: forget {name}", "", partial(window.remove_layout, name)))
        for info in runs:
            text = f"Run: open {info.name} ({info.path.name})"
            found.append(Choice(text, "", partial(window.open_run, info.path)))
        for path in recent:
            found.append(Choice(f"Run: open recent {path}", "", partial(window.open_run, path)))
        return found

    def _names(self) -> list[str]:
        return list(self._layouts.names()) if self._layouts is not None else []

    def _action(self, command: Command) -> QAction:
        shown = QKeySequence(command.keys[0]).toString(QKeySequence.SequenceFormat.NativeText)
        action = QAction(f"{command.text}\t{shown}", self._window)
        action.triggered.connect(lambda _checked=False: command.run(self._window))
        for key in command.keys:
            if key.startswith(("Ctrl+", "F1")):
                action.setText(command.text)
                action.setShortcut(QKeySequence(key))
            else:
                # Not a shortcut of the window, which would take the key from a map, a slider or a field.
                self.plain_keys[key] = command
        return action
