"""How fast the dashboard is, offscreen: a thousand runs, ten million points, a map of 4096 x 4096, a soak.

``python benches/python/dashboard.py`` prints figures of the machine as it is.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ["QT_QPA_PLATFORM"] = "offscreen"

from PySide6.QtWidgets import QApplication

from logitscope import record
from logitscope.record import Panel
from logitscope_app.models.colour import Scale
from logitscope_app.models.series import Points
from logitscope_app.models.states import Curve, LinesState
from logitscope_app.panels.lines import LinesCard
from logitscope_app.panels.map_view import MapView
from logitscope_app.services.run_watcher import RunList
from logitscope_app.theme.palette import DARK

RUNS, TAGS, STEPS = 1000, 100, 10_000
WRITTEN = 8
"""Runs that are really written: a thousand of this size would fill a disk."""
POINTS = 10_000_000
FRAMES = 3000


def seconds(action, times=1):
    """Median seconds of an action."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


_START_UP = """
import sys, time
from PySide6.QtWidgets import QApplication
from logitscope_app.__main__ import main
from logitscope_app.main_window import MainWindow

def look():
    window = next(found for found in QApplication.topLevelWidgets() if isinstance(found, MainWindow))
    QApplication.processEvents()
    shown = time.time()
    while window.frame is None or len(window.runs.runs) < int(sys.argv[2]):
        QApplication.processEvents()
        time.sleep(0.002)
    window.grab()
    print(shown, time.time(), flush=True)
    return 0

QApplication.exec = staticmethod(look)
main([sys.argv[1]])
"""


def start_up(directory: Path) -> tuple[float, float]:
    """Seconds from the start of the program to its window, and to all runs listed and the newest one drawn."""
    begin = time.time()
    words = [sys.executable, "-c", _START_UP, str(directory), str(RUNS)]
    told = subprocess.run(words, check=True, capture_output=True, text=True, timeout=120).stdout.split()
    return float(told[0]) - begin, float(told[1]) - begin


def many_runs(directory: Path) -> None:
    """Open a directory of many long runs: some are written, the others are these under further names."""
    written = []
    for number in range(WRITTEN):
        with record.start(f"run {number}", path=directory / f"{number}.scope") as scope:
            for step in range(STEPS):
                scope.scalars({f"tag{index}": step * 0.5 for index in range(TAGS)}, step)
        written.append(scope.path)
    for number in range(WRITTEN, RUNS):
        os.link(written[number % WRITTEN], directory / f"{number}.scope")
    runs = RunList()
    first, again = seconds(lambda: runs([directory])), seconds(lambda: runs([directory]), 5)
    print(
        f"{RUNS} runs of {TAGS} tags x {STEPS:,} points: listed in {first:.2f} s, again in {1000 * again:.0f} ms"
    )
    windows, drawn = (
        statistics.median(part) for part in zip(*(start_up(directory) for _ in range(3)), strict=True)
    )
    print(
        f"start-up among them: window after {windows:.2f} s, all listed and the newest drawn after {drawn:.2f} s"
    )


def many_points(app: QApplication) -> None:
    """Pan and zoom a plot of very many points."""
    values = np.random.default_rng(0).normal(size=POINTS).cumsum()
    points = Points(np.arange(POINTS), values)
    card = LinesCard(DARK)
    card.resize(800, 400)
    card.show()
    card.set_state(LinesState(Panel("x", "lines", ("x",)), None, "", (Curve("x", "x", points, None),)))
    card.grab()
    taken = []
    for frame in range(60):
        width = POINTS / (1.05**frame)
        start = time.perf_counter()
        card.plot.view.setXRange(frame * 1000, frame * 1000 + width, padding=0)
        app.processEvents()
        card.grab()
        taken.append(time.perf_counter() - start)
    print(
        f"{POINTS:,} points: {1 / statistics.median(taken):.0f} frames/s, slowest {1000 * max(taken):.0f} ms"
    )
    card.close()


def large_map(app: QApplication) -> None:
    """Repaint a large map, zoomed and not."""
    view = MapView(DARK, square=True)
    view.resize(900, 900)
    view.show()
    view.show_map(np.random.default_rng(0).random((4096, 4096), np.float32), Scale(0.0, 1.0))
    view.grab()
    while view.preparing:
        time.sleep(0.01)
        app.processEvents()
        view.grab()
    cells = iter(range(1000))
    moved = seconds(lambda: (view.point_at((next(cells), 5)), view.grab()), 20)

    def zoom() -> None:
        view.zoom(0.9)
        view.grab()

    print(f"map 4096 x 4096: repaint {1000 * moved:.1f} ms, a step of zoom {1000 * seconds(zoom, 20):.1f} ms")
    view.close()


def soak(app: QApplication, directory: Path, frames: int) -> None:
    """Draw very many frames of a growing run; memory and objects before and after."""
    from logitscope_app.models.run_data import RunData
    from logitscope_app.panels.grid import PanelGrid

    scope = record.start("soak", path=directory / "soak.scope")
    scope.panel("Loss", "lines", ["loss/*"])
    scope.panel("Maps", "heads", ["attention/map"])
    rng = np.random.default_rng(0)
    grid = PanelGrid(DARK)
    grid.resize(900, 700)
    grid.show()
    run = record.RunReader(scope.path)
    data = RunData(run)
    figures = []
    for frame in range(frames):
        scope.scalars({"loss/train": rng.random(), "loss/validation": rng.random()}, frame)
        if frame % 10 == 0:
            scope.array("attention/map", rng.random((2, 4, 32, 32), np.float32), frame)
        run.poll()
        data.refresh()
        grid.set_states(data.frame(None).panels)
        app.processEvents()
        if frame % (frames // 6) == frames // 6 - 1:
            gc.collect()
            memory = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
            figures.append((memory, len(gc.get_objects())))
    grid.close()
    scope.finish()
    run.close()
    start, end = figures[1], figures[-1]
    print(
        f"{frames} frames: memory {start[0]:.0f} -> {end[0]:.0f} MB ({100 * (end[0] / start[0] - 1):+.1f} %), "
        f"objects {start[1]} -> {end[1]}"
    )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=FRAMES, help="of the soak")
    arguments = parser.parse_args()
    gc.disable()
    app = QApplication([])
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "many").mkdir()
        many_points(app)
        large_map(app)
        many_runs(directory / "many")
        soak(app, directory, arguments.frames)


if __name__ == "__main__":
    main()
