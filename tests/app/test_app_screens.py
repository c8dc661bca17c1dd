"""Key screens against stored pictures, small, so that another font's edges do not matter but a lost panel does.

``LOGITSCOPE_RENEW_SCREENS=1 pytest tests/app/test_app_screens.py`` stores them anew: look at them before you commit.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from fake_run import FakeReader
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage

STORED = Path(__file__).parent / "screens"
SIZE = (160, 100)
BLOCK, CLOSE = 10, 14.0
"""Pictures are the same whose blocks of so many pixels differ by no more than this on average, of 255."""


def shrunk(window):
    image = (
        window.grab()
        .toImage()
        .scaled(*SIZE, Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation)
    )
    return image.convertToFormat(QImage.Format.Format_RGB888)


def pixels(image):
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).astype(int)


@pytest.mark.parametrize("mode", ["dark", "light"])
@pytest.mark.parametrize("screen", ["run", "inspector"])
def test_that_a_screen_looks_as_it_did(make_window, theme, qtbot, tmp_path, screen, mode):
    theme.set_mode(mode)
    window = make_window(FakeReader(tmp_path / "demo.scope", 120), step=60)
    qtbot.waitUntil(lambda: window.frame.step == 60)
    if screen == "inspector":
        window.open_inspector()
    qtbot.wait(400)
    seen = shrunk(window)
    path = STORED / f"{screen}-{mode}.png"
    if os.environ.get("LOGITSCOPE_RENEW_SCREENS"):
        assert seen.save(str(path))
    assert largest_difference(pixels(seen), stored(path.stem)) < CLOSE


def test_that_another_dock_in_front_is_seen():
    for mode in ("dark", "light"):
        assert largest_difference(stored(f"run-{mode}"), stored(f"inspector-{mode}")) > CLOSE
    assert largest_difference(stored("run-dark"), stored("run-light")) > CLOSE


def stored(name):
    return pixels(QImage(str(STORED / f"{name}.png")).convertToFormat(QImage.Format.Format_RGB888))


def largest_difference(one, other):
    """Of blocks, so that a panel that is gone does not drown in all that is the same."""
    columns, rows = SIZE
    blocks = np.abs(one - other).mean(axis=2).reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    return blocks.mean(axis=(1, 3)).max()
