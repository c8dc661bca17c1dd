"""Random keys, clicks, wheels and moves: the window lives, and still shows its run.

``LOGITSCOPE_MONKEY=10000 pytest tests/app/test_app_monkey.py`` sends as many as wanted.
"""

import os
import random

import pytest
from fake_run import FakeReader
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QMouseEvent, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMenuBar, QToolButton, QWidget

from logitscope_app.commands import COMMANDS
from logitscope_app.main_window import MainWindow

EVENTS = int(os.environ.get("LOGITSCOPE_MONKEY", "2000"))
NOTHING = {"choose_run", "choose_picture", "choose_film", "choose_layout_name", "close", "toggle_full_screen"}
"""Commands that ask with a dialog, which would wait for an answer, or leave."""
KEYS = [
    *(Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_Tab, Qt.Key.Key_Return),
    *(
        Qt.Key.Key_Escape,
        Qt.Key.Key_Home,
        Qt.Key.Key_End,
        Qt.Key.Key_PageUp,
        Qt.Key.Key_PageDown,
        Qt.Key.Key_Space,
    ),
    *(getattr(Qt.Key, f"Key_{letter}") for letter in "ABDEGHILMNOPRTVWXYZ"),
]


@pytest.fixture
def window(make_window, monkeypatch, tmp_path):
    for name in NOTHING & {command.do for command in COMMANDS}:
        monkeypatch.setattr(MainWindow, name, lambda *_: None)
    monkeypatch.setattr("logitscope_app.panels.card.Card._choose_file", lambda *_: None)
    return make_window(FakeReader(tmp_path / "demo.scope", 120), size=(1300, 850))


def click(target: QWidget, chance: random.Random) -> None:
    place = QPointF(chance.uniform(0, target.width()), chance.uniform(0, target.height()))
    far = target.mapToGlobal(place)
    button = chance.choice(
        [Qt.MouseButton.LeftButton, Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton]
    )
    for kind in (QEvent.Type.MouseButtonPress, QEvent.Type.MouseMove, QEvent.Type.MouseButtonRelease):
        held = button if kind != QEvent.Type.MouseButtonRelease else Qt.MouseButton.NoButton
        event = QMouseEvent(kind, place, far, button, held, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(target, event)
        place += QPointF(chance.uniform(-40, 40), chance.uniform(-40, 40))


def wheel(target: QWidget, chance: random.Random) -> None:
    place = QPointF(target.width() / 2, target.height() / 2)
    modifier = chance.choice([Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ControlModifier])
    turn = QPoint(0, chance.choice([-120, 120]))
    none = Qt.MouseButton.NoButton
    phase = Qt.ScrollPhase.NoScrollPhase
    event = QWheelEvent(place, target.mapToGlobal(place), QPoint(), turn, none, modifier, phase, False)
    QApplication.sendEvent(target, event)


def is_safe(widget: QWidget) -> bool:
    """Whether a click opens nothing that waits for an answer."""
    menus = isinstance(widget, QMenuBar) or (isinstance(widget, QToolButton) and widget.menu() is not None)
    return widget.isVisible() and widget.width() > 4 and not menus


def test_that_random_events_do_not_end_the_window(window, qtbot):
    chance = random.Random(1)
    targets: list[QWidget] = []
    for number in range(EVENTS):
        if number % 250 == 0:
            targets = [widget for widget in window.findChildren(QWidget) if is_safe(widget)]
        if number % 100 == 99:
            QApplication.processEvents()
            targets = [widget for widget in targets if is_alive(widget)]
        target = chance.choice(targets)
        kind = chance.random()
        if kind < 0.55:
            focus = QApplication.focusWidget() or window
            QTest.keyClick(focus, chance.choice(KEYS))
        elif is_alive(target):
            (click if kind < 0.85 else wheel)(target, chance)
    qtbot.waitUntil(lambda: window.frame is not None)
    assert window.isVisible()
    assert window.docks.seen
    window.timeline.live()
    qtbot.waitUntil(lambda: window.frame.step == 119)


def is_alive(widget: QWidget) -> bool:
    """Whether Qt still has a widget and shows it."""
    from shiboken6 import isValid

    return isValid(widget) and is_safe(widget)
