import os
import random

import pytest
from fake_run import FakeReader, write_run
from PySide6.QtCore import QMimeData, QPointF, QSettings, Qt, QUrl
from PySide6.QtGui import QDropEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from logitscope_app.layouts import Layout, Layouts
from logitscope_app.main_window import MainWindow
from logitscope_app.settings import Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(QSettings(str(tmp_path / "settings.ini"), QSettings.Format.IniFormat))


@pytest.fixture
def window(make_window, tmp_path, settings):
    return make_window(FakeReader(tmp_path / "demo.scope", 120), settings=settings)


def test_that_a_command_is_found_by_some_letters_and_done(qtbot, window, theme):
    window.open_palette()
    qtbot.keyClicks(window.commands.field, "light dark")
    item = window.commands.list.currentItem()
    assert item.text(0) == "View: Light or dark"
    qtbot.keyClick(window.commands.field, Qt.Key.Key_Return)
    assert theme.palette.name == "light"
    assert not window.commands.isVisible()
    theme.set_mode("dark")


def test_that_the_arrows_move_in_the_list_of_commands(qtbot, window):
    window.open_palette()
    first = window.commands.list.currentItem().text(0)
    qtbot.keyClick(window.commands.field, Qt.Key.Key_Down)
    assert window.commands.list.currentItem().text(0) != first
    qtbot.keyClicks(window.commands.field, "nothing has all these letters")
    assert window.commands.list.topLevelItemCount() == 0
    qtbot.keyClick(window.commands.field, Qt.Key.Key_Return)


def test_that_a_layout_is_kept_and_found_again(qtbot, window, settings):
    window.docks.set_hidden(["Text"])
    window.save_layout("reading")
    window.docks.set_hidden(["Attention", "Events"])
    window.load_layout("reading")
    assert window.docks.hidden == ["Text"]
    assert [action.text() for action in window.menus._named.actions()] == ["reading"]
    window.open_palette()
    texts = [
        window.commands.list.topLevelItem(row).text(0)
        for row in range(window.commands.list.topLevelItemCount())
    ]
    assert {"Layout: reading", "Layout: forget reading"} <= set(texts)
    window.commands.close()
    window.remove_layout("reading")
    assert Layouts(settings).names() == []


def test_that_stored_layouts_that_are_none_are_left_out(settings):
    layouts = Layouts(settings)
    layouts.put("a", Layout(b"\x00\xff", ("Text",)))
    assert layouts.get("a") == Layout(b"\x00\xff", ("Text",))
    settings["layouts"] = '{"x": 3, "y": {"state": "?", "hidden": []}, "z": {"state": "", "hidden": [1]}}'
    assert layouts.names() == []
    settings._store.setValue("layouts", "no json")
    assert layouts.get("a") is None


def test_that_a_file_can_be_dropped_and_is_remembered(qtbot, window, tmp_path):
    write_run(tmp_path / "other.scope", 3)
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path / "other.scope"))])
    drop = QDropEvent(
        QPointF(9, 9),
        Qt.DropAction.CopyAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    window.dropEvent(drop)
    assert window.session.path == tmp_path / "other.scope"
    qtbot.waitUntil(lambda: window.recent[0] == tmp_path / "other.scope")


def test_that_a_file_that_is_no_run_is_not_remembered(qtbot, theme, settings, tmp_path):
    write_run(tmp_path / "good.scope", 3)
    (tmp_path / "none.scope").write_text("no run")
    window = MainWindow(theme, settings=settings)
    try:
        with qtbot.waitSignal(window.session.framed):
            window.open_run(tmp_path / "good.scope")
        with qtbot.waitSignal(window.session.failed):
            window.open_run(tmp_path / "none.scope")
        assert window.session.path == tmp_path / "none.scope"
        assert window.recent == [tmp_path / "good.scope"]
    finally:
        window.close()
        window.deleteLater()


KEYS = (
    *(Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_Tab, Qt.Key.Key_Home),
    *(Qt.Key.Key_End, Qt.Key.Key_Space, Qt.Key.Key_L, Qt.Key.Key_M, Qt.Key.Key_G, Qt.Key.Key_O, Qt.Key.Key_R),
    *(
        Qt.Key.Key_D,
        Qt.Key.Key_Y,
        Qt.Key.Key_V,
        Qt.Key.Key_T,
        Qt.Key.Key_Escape,
        Qt.Key.Key_Plus,
        Qt.Key.Key_PageUp,
    ),
)
EVENTS = int(os.environ.get("LOGITSCOPE_MONKEY_EVENTS", "300"))


def test_that_a_monkey_breaks_nothing(qtbot, window, theme):
    """Random keys and clicks; LOGITSCOPE_MONKEY_EVENTS=10000 makes it a long one."""
    chance = random.Random(0)
    for number in range(EVENTS):
        widget = QApplication.focusWidget() or window
        if chance.random() < 0.6:
            QTest.keyClick(widget, chance.choice(KEYS))
        else:
            target = window.childAt(chance.randrange(window.width()), chance.randrange(40, window.height()))
            if target is not None and type(target).__name__ not in ("QMenuBar", "QToolButton"):
                spot = target.rect().center()
                (QTest.mouseClick if chance.random() < 0.8 else QTest.mouseDClick)(
                    target, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, spot
                )
        if QApplication.activePopupWidget() is not None:
            QApplication.activePopupWidget().close()
        if number % 50 == 0:
            QApplication.processEvents()
    window.timeline.go(60)
    qtbot.waitUntil(lambda: window.frame.step == 60)
    theme.set_mode("dark")
