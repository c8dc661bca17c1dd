"""Key screens against stored pictures, small, so that another font's edges do not matter but a lost panel does.

``LOGITSCOPE_RENEW_SCREENS=1 pytest tests/app/test_app_screens.py`` stores them anew: look at them before you commit.
"""

import itertools
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_run import PANELS, FakeReader
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from test_app_experiments import CATALOGUE

from logitscope.record import panels as standard
from logitscope_app.models.verdict import Check, Verdict
from logitscope_app.services.laboratory import Laboratory

STORED = Path(__file__).parent / "screens"
SIZE = (160, 100)
BLOCK, CLOSE = 10, 14.0
"""Pictures are the same whose blocks of so many pixels differ by no more than this on average, of 255."""
LOOKS, STILL = 10, 2.0
"""A window that looks the same so many times in a row, but for a cursor that blinks, is done."""


def shrunk(window):
    image = (
        window.grab()
        .toImage()
        .scaled(*SIZE, Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation)
    )
    return image.convertToFormat(QImage.Format.Format_RGB888)


def settled(window, qtbot):
    """The window when all is made and drawn, however long that takes here."""
    looks = []

    def is_done():
        cards = (card for grid in window.docks.grids.values() for card in grid.cards)
        waiting = any(card.is_waiting and not card.visibleRegion().isEmpty() for card in cards)
        looks.append(pixels(shrunk(window)))
        still = all(largest_difference(look, looks[-1]) < STILL for look in looks[-LOOKS:])
        return not waiting and len(looks) > LOOKS and still

    qtbot.waitUntil(is_done)
    return shrunk(window)


def pixels(image):
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).astype(int)


def inspect(window, qtbot):
    window.open_inspector()


def ask_what_if(window, qtbot):
    window.docks.set_hidden([name for name in window.docks.actions if name != "What if"])
    card = window.docks.grids["What if"].cards[0]
    card.rows["temperature"].turn(0.3)


def show_gallery(window, qtbot):
    window.toggle_gallery()
    qtbot.waitUntil(lambda: window.gallery.list.count() == 3)
    verdict = Verdict(
        "It is so.", True, (Check("gain", 0.3, "at least", 0.2, True),), (("a", 1.0),), (), ("small",)
    )
    window.gallery.verdict.show_verdict(verdict)


SCREENS = {
    "run": lambda window, qtbot: None,
    "inspector": inspect,
    "what-if": ask_what_if,
    "gallery": show_gallery,
}


@pytest.fixture
def laboratory(qtbot):
    made = Laboratory([sys.executable, "-c", f"print({json.dumps(json.dumps(CATALOGUE))})"])
    yield made
    made.close()


def reader(path):
    """A run with a slice of queries and keys."""
    made = FakeReader(path, 120, panels=[*PANELS, *standard.SLICES])
    numbers = np.random.default_rng(0)
    for name in ("query", "key"):
        made.training.array(f"attention/{name}", numbers.normal(size=(4, 4, 64, 8)).astype(np.float32), 50)
    return made


@pytest.mark.parametrize("mode", ["dark", "light"])
@pytest.mark.parametrize("screen", SCREENS)
def test_that_a_screen_looks_as_it_did(make_window, theme, qtbot, tmp_path, laboratory, screen, mode):
    theme.set_mode(mode)
    window = make_window(reader(tmp_path / "demo.scope"), step=60, laboratory=laboratory)
    qtbot.waitUntil(lambda: window.frame.step == 60)
    SCREENS[screen](window, qtbot)
    seen = settled(window, qtbot)
    path = STORED / f"{screen}-{mode}.png"
    if os.environ.get("LOGITSCOPE_RENEW_SCREENS"):
        assert seen.save(str(path))
    assert largest_difference(pixels(seen), stored(path.stem)) < CLOSE


def test_that_another_dock_in_front_is_seen():
    for mode in ("dark", "light"):
        for one, other in itertools.combinations(SCREENS, 2):
            assert largest_difference(stored(f"{one}-{mode}"), stored(f"{other}-{mode}")) > CLOSE
    assert largest_difference(stored("run-dark"), stored("run-light")) > CLOSE


def stored(name):
    return pixels(QImage(str(STORED / f"{name}.png")).convertToFormat(QImage.Format.Format_RGB888))


def largest_difference(one, other):
    """Of blocks, so that a panel that is gone does not drown in all that is the same."""
    columns, rows = SIZE
    blocks = np.abs(one - other).mean(axis=2).reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    return blocks.mean(axis=(1, 3)).max()
