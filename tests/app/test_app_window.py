import pytest
from fake_run import FakeReader, record_step, write_run
from PySide6.QtCore import QSettings, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QLineEdit,
    QListWidget,
    QSlider,
    QToolButton,
    QTreeWidget,
)
from shiboken6 import isValid

from logitscope.errors import RunFileError
from logitscope.record import Panel, RunReader
from logitscope_app.commands import COMMANDS, help_page
from logitscope_app.main_window import MainWindow
from logitscope_app.models.states import HeadsState, LinesState, TextState
from logitscope_app.panels.card import Card
from logitscope_app.services.run_watcher import RunWatcher
from logitscope_app.services.session import Session
from logitscope_app.settings import Settings
from logitscope_app.theme.palette import DARK, LIGHT


@pytest.fixture
def reader(tmp_path):
    return FakeReader(tmp_path / "demo.scope", 230)


def _states(window):
    return [card.state for grid in window.docks.grids.values() for card in grid.cards]


def _texts(events):
    return [events.item(row).text() for row in range(events.count())]


def _at(window, step):
    return lambda: window.frame is not None and window.frame.step == step


def test_that_the_docks_with_content_are_seen(make_window, reader):
    window = make_window(reader)
    assert window.docks.seen == [
        "Attention",
        "Logit scaling",
        "Training",
        "Text",
        "Knobs",
        "Events",
        "Inspector",
    ]
    assert {state.panel.title for state in _states(window)} == {panel.title for panel in reader.panels()}
    assert window.header.status.text() == "● running"


def test_that_scrubbing_moves_every_panel(qtbot, make_window, reader):
    window = make_window(reader)
    window.timeline.go(120)
    qtbot.waitUntil(_at(window, 120))
    for state in _states(window):
        expected = {HeadsState: 100, TextState: 100}.get(type(state), 120)
        assert state.step == expected, state.panel.title
    loss = next(state for state in _states(window) if state.panel.title == "Loss")
    assert [curve.at[0] for curve in loss.curves] == [120, 100]
    assert not window.frame.live


def test_that_dragging_on_the_track_scrubs(qtbot, make_window, reader):
    window = make_window(reader)
    track = window.timeline.track
    for step in (200, 150, 60):
        spot = track.rect().center()
        spot.setX(round(track.place(step)))
        qtbot.mouseClick(track, Qt.MouseButton.LeftButton, pos=spot)
    qtbot.waitUntil(lambda: abs(window.frame.step - 60) <= 1)


@pytest.mark.parametrize(
    ("key", "modifier", "step"),
    [
        (Qt.Key.Key_Left, Qt.KeyboardModifier.NoModifier, 119),
        (Qt.Key.Key_Right, Qt.KeyboardModifier.NoModifier, 121),
        (Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier, 130),
        (Qt.Key.Key_PageUp, Qt.KeyboardModifier.NoModifier, 100),
        (Qt.Key.Key_BracketRight, Qt.KeyboardModifier.NoModifier, 150),
        (Qt.Key.Key_Home, Qt.KeyboardModifier.NoModifier, 0),
        (Qt.Key.Key_End, Qt.KeyboardModifier.NoModifier, 229),
    ],
)
def test_that_keys_move_the_cursor(qtbot, make_window, reader, key, modifier, step):
    window = make_window(reader, step=120)
    qtbot.waitUntil(_at(window, 120))
    QTest.keyClick(window.timeline.track, key, modifier)
    qtbot.waitUntil(_at(window, step))


def test_that_space_plays_from_the_start_and_stops(qtbot, make_window, reader):
    window = make_window(reader)
    QTest.keyClick(window.timeline.track, Qt.Key.Key_Space)
    assert window.timeline.playing
    qtbot.waitUntil(lambda: not window.frame.live and 0 < window.frame.step < 229)
    QTest.keyClick(window.timeline.track, Qt.Key.Key_Space)
    assert not window.timeline.playing
    QTest.keyClick(window.timeline.track, Qt.Key.Key_L)
    qtbot.waitUntil(lambda: window.frame.live)


def test_that_playing_a_live_run_ends_in_following_it(qtbot, make_window, reader):
    window = make_window(reader, step=225)
    qtbot.waitUntil(_at(window, 225))
    window.timeline.set_speed(4.0)
    window.timeline.toggle_play()
    qtbot.waitUntil(lambda: window.timeline.wish is None)
    record_step(reader.training, 230)
    qtbot.waitUntil(_at(window, 230))


def test_that_arrows_belong_to_the_map_that_has_the_keyboard(qtbot, make_window, reader):
    window = make_window(reader, step=120)
    qtbot.waitUntil(_at(window, 120))
    heads = window.docks.grids["Attention"].cards[0]
    heads.choose(0, 0)
    heads.grid.setFocus()
    QTest.keyClick(heads.grid, Qt.Key.Key_Right)
    assert heads.selected == (0, 1)
    assert window.timeline.wish == 120


def test_that_a_growing_run_is_followed_and_its_end_is_told(qtbot, make_window, reader):
    window = make_window(reader)
    record_step(reader.training, 230)
    qtbot.waitUntil(_at(window, 230))
    reader.training.finish()
    qtbot.waitUntil(lambda: window.header.status.text() == "● finished")
    assert not window.knobs.rows["temperature"].slider.isEnabled()


def test_that_turning_a_knob_writes_to_the_run_file(qtbot, theme, tmp_path):
    path = tmp_path / "run.scope"
    scope = write_run(path, 5, finish=False)
    knob = scope.knob("pace", 1.0, 0.0, 2.0)
    window = MainWindow(theme)
    window.show()
    window.open_run(path)
    qtbot.waitUntil(lambda: "pace" in window.knobs.rows)
    row = window.knobs.rows["pace"]
    row.slider.setValue(250)
    qtbot.waitUntil(lambda: float(knob) == 0.5)
    row.field.selectAll()
    QTest.keyClicks(row.field, "1.25")
    QTest.keyClick(row.field, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: float(knob) == 1.25)
    QTest.mouseClick(row.default, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: float(knob) == 1.0)
    with RunReader(path) as file:
        assert {each.name: each.value for each in file.knobs()}["pace"] == 1.0
    window.close()
    window.deleteLater()
    scope.finish()


def test_that_typed_nonsense_leaves_a_knob_as_it_was(qtbot, make_window, reader):
    window = make_window(reader)
    row = window.knobs.rows["temperature"]
    row.field.selectAll()
    with qtbot.assertNotEmitted(row.turned):
        QTest.keyClicks(row.field, "hot")
        QTest.keyClick(row.field, Qt.Key.Key_Return)
    assert row.field.text() == "1"


def test_that_the_theme_repaints_every_panel(qtbot, make_window, reader, theme):
    window = make_window(reader)
    surfaces = set()
    for palette in (LIGHT, DARK):
        theme.set_mode(palette.name)
        assert {card.palette_ for grid in window.docks.grids.values() for card in grid.cards} == {palette}
        image = window.grab().toImage()
        surfaces.add(image.pixelColor(3, 3).name())
        assert image.pixelColor(3, 3).name() == palette.window
    assert len(surfaces) == 2
    QTest.keyClick(window, Qt.Key.Key_T)
    assert theme.palette is LIGHT


def test_that_a_problem_is_a_notice_over_the_last_picture(qtbot, make_window, reader):
    window = make_window(reader)
    reader.broken = RunFileError("run file: damaged")
    qtbot.waitUntil(lambda: window.header.notice.text() == "run file: damaged")
    assert window.header.notice.isVisible()
    assert len(_states(window)) == len(reader.panels())
    reader.broken = None
    qtbot.waitUntil(lambda: not window.header.notice.isVisible())


def test_that_a_file_that_is_no_run_says_so_in_the_window(qtbot, theme, tmp_path):
    path = tmp_path / "noise.scope"
    path.write_bytes(b"noise" * 1000)
    window = MainWindow(theme)
    window.show()
    window.open_run(path)
    qtbot.waitUntil(window.header.notice.isVisible)
    assert window.welcome.message.text() == "This run cannot be shown."
    assert window.docks.seen == []
    window.close()
    window.deleteLater()


def test_that_the_run_list_opens_the_newest_and_any_other(qtbot, theme, tmp_path):
    first, second = tmp_path / "first.scope", tmp_path / "second.scope"
    write_run(first, 5)
    watcher = RunWatcher([tmp_path], seconds=0.02)
    window = MainWindow(theme, session=Session(), watcher=watcher)
    window.show()
    qtbot.waitUntil(lambda: window.frame is not None)
    write_run(second, 7)
    qtbot.waitUntil(lambda: window.runs.list.count() == 2)
    assert window.frame.info.path == first
    QTest.keyClick(window, Qt.Key.Key_P)
    qtbot.waitUntil(lambda: window.frame is not None and window.frame.info.path == second)
    assert window.runs.list.currentRow() == 0
    QTest.keyClick(window, Qt.Key.Key_N)
    qtbot.waitUntil(lambda: window.frame is not None and window.frame.info.path == first)
    window.close()
    window.deleteLater()


def test_that_an_empty_directory_says_how_to_begin(qtbot, theme, tmp_path):
    window = MainWindow(theme, watcher=RunWatcher([tmp_path]), empty="No runs yet.")
    window.show()
    qtbot.waitUntil(lambda: window.welcome.message.isVisible() and window.runs.empty.isVisible())
    assert not window.timeline.caption.text()
    assert not any(button.isEnabled() for button in window.timeline.findChildren(QToolButton))
    window.close()
    window.deleteLater()


def test_that_events_take_the_cursor_to_their_step(qtbot, make_window, reader):
    window = make_window(reader)
    events = window.events.list
    rows = [events.item(row).text() for row in range(events.count())]
    assert rows[0].startswith("200 ")
    events.itemActivated.emit(events.item(rows.index("100   Sampled 65 characters.")))
    qtbot.waitUntil(_at(window, 100))
    reader.training.event("Loss spike", step=120, level="warning")
    qtbot.waitUntil(lambda: "Loss spike" in events.item(0).text())


def test_that_alerts_are_listed_with_the_events_at_their_step(qtbot, make_window, reader):
    window = make_window(reader)
    reader.training.scalars({"loss/train": float("nan")}, 150)
    told = "150   NaN origin: loss/train is NaN at step 150"
    qtbot.waitUntil(lambda: told in "\n".join(_texts(window.events.list)))
    texts = [text.partition("\n→ ") for text in _texts(window.events.list)]
    assert next(remedy for message, _, remedy in texts if message == told).startswith(
        "Go back to a checkpoint"
    )
    texts = [message for message, _, _ in texts]
    assert texts.index("200   Sampled 90 characters.") < texts.index(told)
    window.events.list.itemActivated.emit(window.events.list.item(texts.index(told)))
    qtbot.waitUntil(_at(window, 150))


def test_that_a_group_of_its_own_gets_a_dock(make_window, tmp_path):
    panels = [Panel("A", "lines", ("loss/train",), "Mine"), Panel("B", "lines", ("loss/*",), "Training")]
    window = make_window(FakeReader(tmp_path / "x.scope", 30, panels=panels))
    assert "Mine" in window.docks.seen
    assert isinstance(window.docks.grids["Mine"].cards[0].state, LinesState)


def test_that_the_help_page_lists_every_command_and_any_key_closes_it(make_window, reader):
    window = make_window(reader)
    listed = {text for entries in help_page().values() for _, text in entries}
    assert {command.text for command in COMMANDS} <= listed
    QTest.keyClick(window, Qt.Key.Key_F1)
    assert window.help.isVisible()
    QTest.keyClick(window.help, Qt.Key.Key_Escape)
    assert not window.help.isVisible()
    assert window.focusWidget() is window.timeline.track
    QTest.keyClick(window, "?")
    assert window.help.isVisible()


def test_that_the_gallery_gives_the_keyboard_back(qtbot, make_window, reader):
    window = make_window(reader)
    before = window.focusWidget()
    window.toggle_gallery()
    assert window.focusWidget() is window.gallery.filter
    QTest.keyClick(window.gallery, Qt.Key.Key_Escape)
    assert window.focusWidget() is before
    passing = window.knobs.rows["temperature"].field
    passing.setFocus()
    window.toggle_gallery()
    window.knobs.set_knobs((), live=False)
    qtbot.waitUntil(lambda: not isValid(passing))
    window.toggle_gallery()
    assert window.gallery.isHidden()


def test_that_all_that_can_be_used_has_a_name(make_window, reader):
    window = make_window(reader)
    window.docks.finish()
    window.toggle_gallery()
    kinds = (QAbstractButton, QLineEdit, QComboBox, QSlider, QListWidget, QTreeWidget, Card)
    used = [widget for kind in kinds for widget in window.findChildren(kind)]
    used = [widget for widget in used if not isinstance(widget.parentWidget(), QLineEdit | QComboBox)]
    assert len(used) > 40
    used = [widget for widget in used if not widget.objectName().startswith("qt_")]  # parts of Qt's own
    unnamed = [widget for widget in used if not widget.accessibleName() and not _text(widget)]
    assert [(type(each), type(each.parentWidget()), each.objectName()) for each in unnamed] == []
    loss = window.docks.grids["Training"].cards[0]
    assert loss.accessibleName() == "Loss"
    assert "train" in loss.accessibleDescription()


def _text(widget):
    return widget.text() if isinstance(widget, QAbstractButton) else ""


def test_that_every_command_can_be_done_and_no_key_is_given_twice():
    keys = [key for command in COMMANDS for key in command.keys]
    assert len(keys) == len(set(keys))
    for command in COMMANDS:
        assert callable(getattr(MainWindow, command.do))


def test_that_a_card_fills_its_dock_and_gives_the_place_back(make_window, reader):
    window = make_window(reader)
    grid = window.docks.grids["Training"]
    loss, other = grid.cards[:2]
    loss.setFocus()
    QTest.keyClick(loss, Qt.Key.Key_M)
    assert loss.isVisible()
    assert not other.isVisible()
    QTest.keyClick(loss, Qt.Key.Key_M)
    assert other.isVisible()


def test_that_views_are_reached_by_key(make_window, reader):
    window = make_window(reader)
    reached = []
    for _ in range(4):
        QTest.keyClick(window.focusWidget(), Qt.Key.Key_V)
        focus = window.focusWidget()
        reached += [name for name in window.docks.seen if window.docks.dock(name).isAncestorOf(focus)]
    assert reached == window.docks.seen[:4]


def test_that_layout_theme_and_speed_are_remembered(qtbot, make_window, reader, theme, tmp_path):
    def settings():
        return Settings(QSettings(str(tmp_path / "settings.ini"), QSettings.Format.IniFormat))

    window = make_window(reader, settings=settings())
    window.resize(790, 640)
    window.timeline.set_speed(2.0)
    window.docks.actions["Events"].setChecked(False)
    theme.set_mode("light")
    window.close()
    again = make_window(FakeReader(reader.path, 30), size=None, settings=settings())
    assert settings()["theme"] == "light"
    assert again.timeline.speed == 2.0
    assert again.width() == 790
    assert "Events" not in again.docks.seen
    again.reset_layout()
    assert "Events" in again.docks.seen
