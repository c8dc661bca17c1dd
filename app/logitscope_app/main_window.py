"""The window: one run at a time, its views in docks, one timeline that moves them all."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QByteArray, QSize, Qt, QTimer
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QFileDialog, QInputDialog, QMainWindow, QMessageBox, QToolBar, QWidget

from logitscope_app.commands import help_page
from logitscope_app.docks import EVENTS, INSPECTOR, KNOBS, RUNS, Docks
from logitscope_app.layouts import Layout, Layouts
from logitscope_app.menus import Menus
from logitscope_app.models.export import write_whole
from logitscope_app.panels.card import png_bytes
from logitscope_app.panels.command_palette import CommandPalette
from logitscope_app.panels.events import EventsPanel
from logitscope_app.panels.film_dialog import FilmDialog
from logitscope_app.panels.gallery import Gallery
from logitscope_app.panels.header import Header
from logitscope_app.panels.help import HelpOverlay
from logitscope_app.panels.inspector import InspectorPanel
from logitscope_app.panels.knobs import KnobsPanel
from logitscope_app.panels.label import named
from logitscope_app.panels.runs import RunsPanel
from logitscope_app.panels.timeline_bar import TimelineBar
from logitscope_app.panels.welcome import Welcome
from logitscope_app.services.filming import Filming
from logitscope_app.services.laboratory import Laboratory
from logitscope_app.services.session import Session
from logitscope_app.settings import LAYOUT_VERSION
from logitscope_app.theme.icons import app_icon
from logitscope_app.theme.palette import GAP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtCore import QMimeData
    from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QKeyEvent

    from logitscope.record import RunInfo
    from logitscope_app.models.states import Frame
    from logitscope_app.services.run_watcher import RunWatcher
    from logitscope_app.settings import Settings
    from logitscope_app.theme.manager import ThemeManager
    from logitscope_app.theme.palette import Palette

DEFAULT_SIZE = (1600, 1000)
_RECENT = 10
_FIRST_STEPS = (
    ("Choose an experiment", "Ctrl+E", "toggle_gallery"),
    ("Open a run file", "Ctrl+O", "choose_run"),
)


class MainWindow(QMainWindow):
    """Shows the frames of a session; without ``settings`` nothing is remembered."""

    def __init__(
        self,
        theme: ThemeManager,
        *,
        session: Session | None = None,
        watcher: RunWatcher | None = None,
        laboratory: Laboratory | None = None,
        settings: Settings | None = None,
        empty: str = "No runs yet.",
    ) -> None:
        super().__init__()
        self.setWindowTitle("logitscope")
        self.setDockNestingEnabled(True)
        self.setContentsMargins(GAP, 0, GAP, GAP)
        self._theme, self._settings, self._watcher = theme, settings, watcher
        self.session = session or Session()
        self.frame: Frame | None = None
        self._first_step: int | None = None
        self._layouts = Layouts(settings) if settings is not None else None
        palette = theme.palette

        self.header = Header(palette)
        self.knobs = KnobsPanel()
        self.events = EventsPanel(palette)
        self.runs = RunsPanel(palette)
        self.timeline = TimelineBar(palette)
        self.inspector = InspectorPanel()
        tools = {KNOBS: self.knobs, EVENTS: self.events, RUNS: self.runs, INSPECTOR: self.inspector}
        self.docks = Docks(self, palette, tools)
        self.welcome = Welcome(empty, _FIRST_STEPS)
        self.setMenuWidget(self.header)
        self.setCentralWidget(self.welcome)
        foot = named(QToolBar("Timeline", movable=False, floatable=False), "timelineBar")
        foot.toggleViewAction().setEnabled(False)
        foot.setContextMenuPolicy(Qt.ContextMenuPolicy.PreventContextMenu)
        foot.addWidget(self.timeline)
        self.addToolBar(Qt.ToolBarArea.BottomToolBarArea, foot)
        self.help = HelpOverlay(self, help_page())
        self.laboratory = laboratory or Laboratory(parent=self)
        self.gallery = Gallery(self, self.laboratory, palette)
        self.commands = CommandPalette(self)
        self.setAcceptDrops(True)
        self.menus = Menus(self, self.header.menus, self.docks, self._layouts)

        self.session.framed.connect(self.show_frame)
        self.session.failed.connect(self._on_failed)
        self.timeline.wished.connect(self.session.show_step)
        self.docks.picked.connect(self.timeline.go)
        self.docks.added.connect(self.menus.add_view)
        self.events.picked.connect(self.timeline.go)
        self.knobs.turned.connect(self.session.set_knob)
        self.runs.chosen.connect(self.open_run)
        self.runs.compared.connect(self.session.compare)
        self.gallery.opened.connect(self.open_run)
        self.laboratory.begun.connect(self._on_begun)
        self.laboratory.changed.connect(self._on_progress)
        self.welcome.wished.connect(lambda command: getattr(self, command)())
        theme.changed.connect(self._wear)
        if watcher is not None:
            self.docks.set_filled(RUNS, filled=True)
            watcher.listed.connect(self._on_listed)
            watcher.start()
        self._wear(palette)
        self._restore()
        self.timeline.track.setFocus()

    # Runs.
    def open_run(self, path: Path, step: int | None = None) -> None:
        """Show another run, at ``step`` or at its newest step."""
        self.frame = None
        self._first_step = step
        self.header.set_progress("")
        self.timeline.reset()
        self.events.set_events(())
        self.runs.set_current(path)
        self.session.open(path)

    def open_neighbour(self, by: int) -> None:
        """Show the next or the previous run of the list."""
        paths = [info.path for info in self.runs.runs]
        if paths:
            here = paths.index(self.session.path) if self.session.path in paths else -by
            self.open_run(paths[min(max(here + by, 0), len(paths) - 1)])

    def toggle_compared(self) -> None:
        """Compare with the run that the list's cursor is on, or no longer."""
        self.runs.toggle_compared()

    def toggle_gallery(self) -> None:
        """Show or hide the experiments."""
        self.gallery.toggle()

    def choose_run(self) -> None:
        """Ask for a run file."""
        name, _ = QFileDialog.getOpenFileName(self, "Open a run", "", "Runs (*.scope);;All files (*)")
        if name:
            self.open_run(Path(name))

    def show_frame(self, frame: Frame) -> None:
        """Draw a frame: every panel takes its state."""
        fresh = self.frame is None
        self.frame = frame
        self.welcome.hide()
        seen = self.docks.seen
        self.header.set_run(frame.info, frame.notice)
        self.setWindowTitle(f"{frame.info.name} – logitscope")
        self.timeline.set_frame(frame)
        self.docks.set_states(frame.panels)
        self.knobs.set_knobs(frame.knobs, live=frame.info.status == "running")
        self.docks.set_filled(KNOBS, filled=bool(frame.knobs))
        self.events.set_events(frame.events, frame.alerts)
        self.docks.set_filled(EVENTS, filled=bool(frame.events or frame.alerts))
        self.inspector.set_rows(frame.inspected)
        self.docks.set_filled(INSPECTOR, filled=bool(frame.inspected))
        if self.docks.seen != seen and not self._has_layout():
            self.docks.proportion()
            QTimer.singleShot(0, self, self.docks.proportion)
            # A dock that is new lies above whatever covers the window.
            for cover in (self.gallery, self.help, self.commands):
                cover.raise_()
        if fresh and self.session.path is not None:
            # Not when it is opened: it may be no run.
            self._remember_run(self.session.path)
        if fresh and self._first_step is not None:
            self.timeline.go(self._first_step)

    # Time; thin, so that the table of commands can name them.
    def toggle_play(self) -> None:
        """Play or pause."""
        self.timeline.toggle_play()

    def step_by(self, by: int) -> None:
        """Move by recorded steps."""
        self.timeline.step_by(by)

    def picture_by(self, by: int) -> None:
        """Move by pictures."""
        self.timeline.step_by(by, pictures=True)

    def first(self) -> None:
        """Go to the first step."""
        self.timeline.first()

    def last(self) -> None:
        """Go to the last step."""
        self.timeline.last()

    def live(self) -> None:
        """Follow the newest step."""
        self.timeline.live()

    def change_speed(self, by: int) -> None:
        """Play faster or slower."""
        self.timeline.change_speed(by)

    # View.
    def next_view(self, by: int) -> None:
        """Give the keyboard to the next dock."""
        names = self.docks.seen
        if not names:
            return
        focus = self.focusWidget()
        here = [name for name in names if focus is not None and self.docks.dock(name).isAncestorOf(focus)]
        index = (names.index(here[0]) + by) % len(names) if here else 0
        dock = self.docks.dock(names[index])
        dock.raise_()
        grid = self.docks.grids.get(names[index])
        target: QWidget | None = grid.cards[0] if grid is not None and grid.cards else dock.widget()
        while target is not None and target.focusPolicy() == Qt.FocusPolicy.NoFocus:
            target = target.nextInFocusChain()
        if target is not None:
            target.setFocus(Qt.FocusReason.ShortcutFocusReason)

    def open_inspector(self) -> None:
        """Bring the inspector to the front, ready for a filter."""
        self.docks.actions[INSPECTOR].setChecked(True)
        self.docks.dock(INSPECTOR).raise_()
        self.inspector.filter.setFocus()

    def toggle_theme(self) -> None:
        """From dark to light and back."""
        self._theme.toggle()

    def system_theme(self) -> None:
        """Wear what the system wears."""
        self._theme.set_mode("system")

    def reset_layout(self) -> None:
        """Put every dock back."""
        if self._settings is not None:
            self._settings.clear("layout", "hidden")
        self.docks.set_hidden(())
        self.docks.arrange()
        QTimer.singleShot(0, self, self.docks.proportion)

    def choose_layout_name(self) -> None:
        """Ask for a name and keep the layout under it."""
        name, given = QInputDialog.getText(self, "Save the layout", "Name of the layout:")
        if given and name.strip():
            self.save_layout(name.strip())

    def save_layout(self, name: str) -> None:
        """Keep where the docks are under a name."""
        if self._layouts is not None:
            state = bytes(self.saveState(LAYOUT_VERSION).data())
            self._layouts.put(name, Layout(state, tuple(self.docks.hidden)))
            self.menus.list_layouts()

    def load_layout(self, name: str) -> None:
        """Put the docks where they were under that name."""
        layout = self._layouts.get(name) if self._layouts is not None else None
        if layout is not None:
            self.docks.set_hidden(layout.hidden)
            self.restoreState(QByteArray(layout.state), LAYOUT_VERSION)
            self.docks.set_hidden(layout.hidden)

    def remove_layout(self, name: str) -> None:
        """Forget a layout."""
        if self._layouts is not None:
            self._layouts.remove(name)
            self.menus.list_layouts()

    def toggle_full_screen(self) -> None:
        """Fill the screen, or not."""
        self.setWindowState(self.windowState() ^ Qt.WindowState.WindowFullScreen)

    def open_palette(self) -> None:
        """Offer every command, run and layout by name."""
        self.commands.open_with(self.menus.choices(self.runs.runs, self.recent))

    @property
    def recent(self) -> list[Path]:
        """Runs that were seen last, newest first, those that are still there."""
        stored = self._settings["recent"] if self._settings is not None else ""
        return [path for line in stored.splitlines() if (path := Path(line)).is_file()]

    def toggle_help(self) -> None:
        """Show or hide all keys."""
        self.help.toggle()

    def choose_picture(self) -> None:
        """Ask for a file and write the window's picture to it."""
        name, _ = QFileDialog.getSaveFileName(self, "Save the window", "logitscope.png", "Pictures (*.png)")
        if name:
            self.docks.finish()
            self._write(name, png_bytes(self))

    def choose_film(self) -> None:
        """Ask for a file and write a film of the run to it, as an animated PNG."""
        if self.frame is None or not len(self.frame.timeline.steps):
            return
        name, _ = QFileDialog.getSaveFileName(self, "Save a film", "logitscope.apng", "Films (*.apng *.png)")
        if name:
            self.film(Path(name))

    def film(self, target: Path) -> Filming:
        """Go through the run's steps and write a film of them; it can be stopped."""
        filming = Filming(self)
        FilmDialog(self, filming)
        filming.done.connect(partial(self._write, target))
        filming.start()
        return filming

    def _write(self, target: str | Path, data: bytes) -> None:
        if not data:
            return
        try:
            write_whole(target, data)
        except OSError as error:
            QMessageBox.warning(self, "Not saved", f"{target} was not written: {error.strerror or error}")

    # Qt.
    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Plain keys that no panel wanted are commands."""
        pressed = QKeySequence(event.keyCombination()).toString()
        command = self.menus.plain_keys.get(pressed) or self.menus.plain_keys.get(event.text())
        if command is None:
            super().keyPressEvent(event)
        else:
            command.run(self)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept run files."""
        if _dropped(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Open the first of them."""
        paths = _dropped(event.mimeData())
        if paths:
            event.acceptProposedAction()
            self.open_run(paths[0])

    def closeEvent(self, event: QCloseEvent) -> None:
        """Remember the layout and end the threads."""
        self._remember()
        self._theme.changed.disconnect(self._wear)
        self.session.close()
        self.laboratory.close()
        self.gallery.verdicts.close()
        if self._watcher is not None:
            self._watcher.close()
        super().closeEvent(event)

    def _remember_run(self, path: Path) -> None:
        if self._settings is not None:
            recent = dict.fromkeys([path.absolute(), *self.recent])
            self._settings["recent"] = "\n".join(map(str, list(recent)[:_RECENT]))

    def _on_failed(self, message: str) -> None:
        self.header.set_notice(message)
        if self.frame is None:
            self.docks.clear()
            for name in (KNOBS, EVENTS, INSPECTOR):
                self.docks.set_filled(name, filled=False)
            self.welcome.show_trouble("This run cannot be shown.")

    def _on_begun(self, path: Path) -> None:
        """Watch an experiment that was started here from its first step."""
        self.gallery.hide()
        self.open_run(path)

    def _on_progress(self, slug: str) -> None:
        """Tell how far the experiment is whose run is seen."""
        progress = self.laboratory.progress(slug)
        if progress.run is not None and progress.run == self.session.path:
            self.header.set_progress(progress.words if progress.stage == "running" else "")

    def _on_listed(self, runs: Sequence[RunInfo]) -> None:
        self.runs.set_runs(runs)
        self.gallery.set_runs(runs)
        if self.session.path is None and runs:
            self.open_run(runs[0].path)

    def _wear(self, palette: Palette) -> None:
        self.setWindowIcon(app_icon(palette.accent, palette.on_accent))
        for part in (self.header, self.timeline, self.docks, self.events, self.runs, self.gallery):
            part.set_palette(palette)

    def _has_layout(self) -> bool:
        return self._settings is not None and bool(self._settings["layout"])

    def _restore(self) -> None:
        self.resize(QSize(*DEFAULT_SIZE).boundedTo(self.screen().availableSize()))
        settings = self._settings
        if settings is None:
            return
        self.timeline.set_speed(settings["speed"])
        self.docks.set_hidden(settings["hidden"].split(",") if settings["hidden"] else ())
        if settings["geometry"]:
            self.restoreGeometry(QByteArray(settings["geometry"]))
        if settings["layout"] and not self.restoreState(QByteArray(settings["layout"]), LAYOUT_VERSION):
            settings.clear("layout")

    def _remember(self) -> None:
        settings = self._settings
        if settings is None:
            return
        settings["theme"] = self._theme.mode
        settings["speed"] = self.timeline.speed
        settings["hidden"] = ",".join(self.docks.hidden)
        settings["geometry"] = bytes(self.saveGeometry().data())
        settings["layout"] = bytes(self.saveState(LAYOUT_VERSION).data())
        settings.save()


def _dropped(data: QMimeData) -> list[Path]:
    """Files that are dragged in."""
    paths = [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]
    return [path for path in paths if path.is_file()]
