"""The dashboard's pictures in the documents: every view, light and dark, of real runs.

``python scripts/pictures.py RUNS IMAGES`` takes the runs that it finds in a directory and trains those that are missing
(a minute or two): a demo, two small trainings that differ in their learning rate, one whose attention collapses, and
one experiment. ``--only compare what-if`` draws some.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "app"))

from PySide6.QtCore import QCoreApplication, QEventLoop

from logitscope_app.__main__ import _application
from logitscope_app.main_window import DEFAULT_SIZE, MainWindow
from logitscope_app.models.export import write_whole
from logitscope_app.panels.card import Card, png_bytes
from logitscope_app.services.run_watcher import RunList, RunWatcher
from logitscope_app.theme.manager import ThemeManager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).parents[1]
EXPERIMENT = "grokking-stability"
RATES = (0.003, 0.01)
STEPS = 240


def study(path: Path, rate: float) -> None:
    """A small language model with everything that can be watched."""
    import numpy as np
    import torch

    from logitscope import record
    from logitscope.data import topics
    from logitscope.dynamics import CurvatureProbe
    from logitscope.nn import GPT, CrossEntropyLoss, GPTConfig

    torch.manual_seed(0)
    torch.set_num_threads(1)
    text = topics()
    model = GPT(GPTConfig(len(text.vocabulary), 64, layers=3, heads=4, width=64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95))
    criterion = CrossEntropyLoss()
    batches = text.batches(8, 64, np.random.default_rng(0))
    words = "".join(text.vocabulary)

    def loss_of(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return criterion(model(inputs).flatten(0, 1), targets.flatten())

    meta = {"model": "GPT, 3 layers, 4 heads, width 64", "learning rate": rate}
    with (
        record.start(f"rate {rate}", path=path, meta=meta) as scope,
        scope.watch(model, slices_every=40) as watch,
    ):
        probe = CurvatureProbe(model, loss_of, every=20, recorder=scope)
        scope.panel("Weights of the head", "histogram", ["weights/head"], group="Logit scaling")
        for step in range(STEPS):
            inputs, targets = (torch.from_numpy(part) for part in next(batches))
            watch.step(step)
            watch.tokens(words[index] for index in inputs[0].tolist())
            loss = loss_of(inputs, targets)
            optimizer.zero_grad()
            loss.backward()
            watch.gradients(step)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scope.scalars({"loss/train": loss.item(), "learning_rate": rate}, step)
            probe.look(step, inputs[:2], targets[:2], learning_rate=rate)
            if step % 5 == 0:
                scope.histogram("weights/head", model.head.weight, step)


def collapsing(path: Path) -> None:
    """A training whose queries grow until its attention looks at single tokens."""
    import torch
    from seeded_trainings import failing, train

    torch.set_num_threads(1)
    train(next(case for case in failing(0) if case.name == "growing queries"), path)


def command(*words: str) -> None:
    """Run a command of logitscope."""
    subprocess.run([sys.executable, "-m", "logitscope", *words], check=True, stdout=subprocess.DEVNULL)


class Studio:
    """Windows over the runs of a directory, and where their pictures go."""

    def __init__(self, runs: Path, images: Path) -> None:
        self.runs, self.images = runs, images
        self.application = _application()
        self.theme = ThemeManager(self.application, "dark")

    def run(self, name: str, make: Callable[[Path], None]) -> Path:
        """A run file, made where it is missing."""
        path = self.runs / f"{name}.scope"
        if not path.exists():
            print(f"pictures: {path} is made", flush=True)
            make(path)
        return path

    @contextmanager
    def window(
        self, run: Path | None, *, docks: tuple[str, ...] = (), places: list[Path] | None = None
    ) -> Iterator[MainWindow]:
        """A window that shows a run: all docks, or some."""
        watcher = None if places is None else RunWatcher(places, look=RunList())
        window = MainWindow(self.theme, watcher=watcher, empty="There are no runs in runs/ yet.")
        window.resize(*DEFAULT_SIZE)
        window.show()
        try:
            if run is not None:
                window.open_run(run)
                self.wait(lambda: window.frame is not None)
            if docks:
                window.docks.set_hidden([name for name in window.docks.actions if name not in docks])
            window.docks.proportion()
            self.settle()
            yield window
        finally:
            window.close()
            window.deleteLater()
            self.settle()

    def wait(self, done: Callable[[], bool], seconds: float = 60.0) -> None:
        """Let Qt work until something is done."""
        end = time.monotonic() + seconds
        while not done():
            QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)
            if time.monotonic() > end:
                sys.exit(f"pictures: a window did not come to rest within {seconds:.0f} s")
            time.sleep(0.002)

    def settle(self) -> None:
        """Let layouts and late drawings come to rest."""
        end = time.monotonic() + 0.5
        self.wait(lambda: time.monotonic() > end)

    def go(self, window: MainWindow, step: int) -> None:
        """Move the timeline, and wait for the frame."""
        window.timeline.go(step)
        self.wait(lambda: window.frame.step == window.timeline.wish)
        self.settle()

    def take(self, window: MainWindow, name: str) -> None:
        """Write the picture of a window."""
        window.docks.finish()
        self.settle()
        write_whole(self.images / f"{name}-{self.theme.palette.name}.png", png_bytes(window))


def card_of(window: MainWindow, title: str) -> Card:
    """The panel of that title."""
    cards = [card for grid in window.docks.grids.values() for card in grid.cards]
    return next(card for card in cards if card.title.text() == title)


def welcome(studio: Studio) -> None:
    """The first thing that is seen."""
    nowhere = studio.runs / "nothing"
    nowhere.mkdir(exist_ok=True)
    with studio.window(None, places=[nowhere]) as window:
        studio.take(window, "welcome")


def dashboard(studio: Studio) -> None:
    """Everything at once, of the demo."""
    with studio.window(demo(studio)) as window:
        studio.take(window, "dashboard")


def gallery(studio: Studio) -> None:
    """The experiments, with the verdict of one that has run."""
    path = studio.run(EXPERIMENT, lambda path: command("run", EXPERIMENT, "--run", str(path)))
    with studio.window(studied(studio)[0], places=[studio.runs]) as window:
        window.toggle_gallery()
        studio.wait(
            lambda: bool(window.laboratory.experiments) and any(r.path == path for r in window.runs.runs)
        )
        window.gallery.choose(EXPERIMENT)
        studio.wait(lambda: window.gallery.verdicts.of(path) is not None)
        studio.take(window, "gallery")


def attention(studio: Studio) -> None:
    """The maps alone, with a read-out under the cursor."""
    with studio.window(studied(studio)[0], docks=("Attention",)) as window:
        card = card_of(window, "Attention maps")
        window.docks.grids["Attention"].enlarge(card)
        studio.settle()
        rows, columns = card.large._values.shape
        card.large.point_at((rows * 3 // 4, columns // 4))
        studio.take(window, "attention")


def attention_change(studio: Studio) -> None:
    """What has changed since an earlier step, heads sorted by how much."""
    with studio.window(studied(studio)[0], docks=("Attention",)) as window:
        studio.go(window, 80)
        card = card_of(window, "Attention maps")
        card.change_action.setChecked(True)
        card.sort_action.setChecked(True)
        window.docks.grids["Attention"].enlarge(card)
        studio.go(window, STEPS - 1)
        card.choose(*card.grid._order[-1])
        studio.take(window, "attention-change")


def attention_against(studio: Studio) -> None:
    """The maps held against those of another run."""
    first, second = studied(studio)
    with studio.window(first, docks=("Attention", "Runs"), places=[first, second]) as window:
        compare(studio, window, second)
        card = card_of(window, "Attention maps")
        card.run_action.setChecked(True)
        window.docks.grids["Attention"].enlarge(card)
        studio.settle()
        studio.take(window, "attention-against")


def comparison(studio: Studio) -> None:
    """Two runs in one plot."""
    first, second = studied(studio)
    docks = ("Runs", "Attention", "Training", "Logit scaling")
    with studio.window(first, docks=docks, places=[first, second]) as window:
        compare(studio, window, second)
        studio.take(window, "compare")


def logit_scaling(studio: Studio) -> None:
    """Scores, class logits, saturation."""
    with studio.window(studied(studio)[1], docks=("Logit scaling",)) as window:
        studio.take(window, "logit-scaling")


def histogram_over_time(studio: Studio) -> None:
    """How weights have moved."""
    with studio.window(studied(studio)[1], docks=("Logit scaling",)) as window:
        card = card_of(window, "Weights of the head")
        window.docks.grids["Logit scaling"].enlarge(card)
        card.time_action.setChecked(True)
        studio.take(window, "histogram-over-time")


def training(studio: Studio) -> None:
    """Loss, noise, norms, sharpness, spectrum."""
    with studio.window(studied(studio)[0], docks=("Training",)) as window:
        studio.take(window, "training")


def inspector(studio: Studio) -> None:
    """Every tag in figures."""
    with studio.window(studied(studio)[0], docks=("Training", "Inspector")) as window:
        window.open_inspector()
        studio.take(window, "inspector")


def what_if(studio: Studio) -> None:
    """One head at another temperature and with a sink."""
    with studio.window(studied(studio)[0], docks=("What if",)) as window:
        card = card_of(window, "What if")
        card.head.setCurrentText("L1 H1")
        card.rows["temperature"].turn(0.4)
        card.rows["sink"].turn(2.0)
        studio.take(window, "what-if")


def alerts(studio: Studio) -> None:
    """A run that goes wrong."""
    run = studio.run("collapse", collapsing)
    with studio.window(run, docks=("Attention", "Training", "Logit scaling", "Events")) as window:
        studio.take(window, "alerts")


def palette(studio: Studio) -> None:
    """Every command by name."""
    with studio.window(demo(studio)) as window:
        window.open_palette()
        window.commands.field.setText("diff")
        window.commands.field.setText("view")
        studio.settle()
        write_whole(studio.images / f"commands-{studio.theme.palette.name}.png", png_bytes(window.commands))
        window.commands.close()


def compare(studio: Studio, window: MainWindow, other: Path) -> None:
    """Draw another run beside the one that is open."""
    studio.wait(lambda: len(window.runs.runs) > 1)
    window.runs.set_compared([other])
    studio.settle()
    studio.settle()


def demo(studio: Studio) -> Path:
    """A demo run."""
    return studio.run("demo", lambda path: command("demo", "--no-window", "--run", str(path)))


def studied(studio: Studio) -> list[Path]:
    """The two small trainings."""
    return [studio.run(f"rate-{rate}", lambda path, rate=rate: study(path, rate)) for rate in RATES]


VIEWS = {
    "welcome": welcome,
    "dashboard": dashboard,
    "gallery": gallery,
    "attention": attention,
    "attention-change": attention_change,
    "attention-against": attention_against,
    "compare": comparison,
    "logit-scaling": logit_scaling,
    "histogram-over-time": histogram_over_time,
    "training": training,
    "inspector": inspector,
    "what-if": what_if,
    "alerts": alerts,
    "commands": palette,
}


def main() -> None:
    """Draw what is wanted in both themes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path, help="a directory of runs")
    parser.add_argument("images", type=Path, help="where the pictures go")
    parser.add_argument("--only", nargs="+", choices=VIEWS, default=list(VIEWS), metavar="VIEW")
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    gc.disable()  # Qt and Python's cyclic collector do not go together while Qt draws
    studio = Studio(arguments.runs.absolute(), arguments.images.absolute())
    for name in arguments.only:
        for mode in ("dark", "light"):
            studio.theme.set_mode(mode)
            VIEWS[name](studio)
        print(f"pictures: {name}", flush=True)
    studio.theme.release()


if __name__ == "__main__":
    main()
