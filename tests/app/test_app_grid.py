"""A view of very many panels: they are made as they come into view, and work before that."""

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from logitscope.record import Panel
from logitscope_app.models.series import Points
from logitscope_app.models.states import Curve, LinesState
from logitscope_app.panels.grid import PanelGrid
from logitscope_app.theme.palette import DARK, LIGHT

COUNT = 100


def _state(name, top=1.0):
    points = Points(np.arange(9), np.linspace(0, top, 9))
    return LinesState(Panel(name, "lines", (name,)), None, "", (Curve(name, name, points, None),))


STATES = [_state(f"tag{index}") for index in range(COUNT)]


@pytest.fixture
def grid(qtbot, theme):
    grid = PanelGrid(DARK)
    grid.resize(800, 600)
    with qtbot.waitExposed(grid):
        grid.show()
    grid.set_states(STATES)
    yield grid
    grid.close()
    grid.deleteLater()


def _made(grid):
    return [index for index, card in enumerate(grid.cards) if not card.is_waiting]


def _in_view(grid):
    return [index for index, card in enumerate(grid.cards) if not card.visibleRegion().isEmpty()]


def test_that_cards_come_in_batches_into_places_known_at_once(qtbot, grid):
    early = [card.geometry() for card in grid.cards]
    height = grid.verticalScrollBar().maximum()
    assert 0 < len(early) < COUNT // 2
    assert grid.count == COUNT
    qtbot.waitUntil(lambda: len(grid.cards) == COUNT)
    assert [card.state for card in grid.cards] == STATES
    assert [card.geometry() for card in grid.cards][: len(early)] == early
    assert grid.verticalScrollBar().maximum() == height
    grid.set_states(STATES[50:])
    assert [card.state for card in grid.cards] == STATES[50:]
    grid.set_states(STATES[::-1])
    grid.finish()
    assert [card.state for card in grid.cards] == STATES[::-1]


def test_that_what_is_in_view_is_made_and_nothing_else(qtbot, grid):
    assert len(_made(grid)) < 4  # a turn of the window's loop makes one or two
    qtbot.waitUntil(lambda: len(grid.cards) == COUNT)
    assert [card.title.text() for card in grid.cards] == [state.panel.title for state in STATES]
    assert grid.verticalScrollBar().maximum() > 5 * grid.height()  # the scroll bar knows of all
    first = _in_view(grid)
    qtbot.waitUntil(lambda: _made(grid) == first)
    assert 4 <= len(first) < COUNT // 2
    grid.verticalScrollBar().setValue(grid.verticalScrollBar().maximum())
    last = _in_view(grid)
    assert last[-1] == COUNT - 1
    assert first[-1] < last[0]
    qtbot.waitUntil(lambda: _made(grid) == [*first, *last])
    QTest.qWait(30)
    assert len(_made(grid)) == len(first) + len(last)


def test_that_a_panel_out_of_view_can_be_turned_restyled_saved_and_brought(qtbot, grid, tmp_path):
    grid.finish()
    first, last = _made(grid), grid.cards[-1]
    assert first == _in_view(grid)
    grid.set_palette(LIGHT)
    last.log_action.trigger()
    grid.set_states([_state(state.panel.title, top=5.0) for state in STATES])
    assert _made(grid) == first
    last.save(tmp_path / "last.csv")
    assert (tmp_path / "last.csv").read_text().rstrip().endswith("5.0")
    assert last.plot.widget.backgroundBrush().color().name() == LIGHT.surface.lower()
    for card in (grid.cards[50], last):
        grid.enlarge(card)
        grid.finish()
        assert card.isVisible()
        assert card.legend.isHidden()  # drawn: one curve needs none
        grid.enlarge(card)


def test_that_the_keyboard_brings_panels_into_view(qtbot, grid):
    grid.finish()
    made = _made(grid)
    grid.cards[made[-1]].setFocus()
    for _ in range(3):
        QTest.keyClick(grid.focusWidget(), Qt.Key.Key_Tab)
    qtbot.waitUntil(lambda: not grid.cards[made[-1] + 3].is_waiting)
