import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QPoint, QPointF, QRect, Qt

from logitscope_app.models.colour import Scale
from logitscope_app.models.pyramid import Pyramid
from logitscope_app.panels.map_view import MapView
from logitscope_app.theme.palette import DARK


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 6),
    st.sampled_from([np.array, np.abs, np.negative]),
)
def test_that_a_level_keeps_what_is_farthest_from_zero(rows, columns, number, of):
    values = of(np.random.default_rng(rows * 41 + columns).normal(size=(rows, columns)))
    level, size = Pyramid(values).level(number), 1 << number
    assert level.shape == (-(-rows // size), -(-columns // size))
    for row in range(level.shape[0]):
        for column in range(level.shape[1]):
            block = values[row * size : (row + 1) * size, column * size : (column + 1) * size]
            assert level[row, column] == block.flat[np.abs(block).argmax()]


def test_that_a_nan_is_seen_at_every_level():
    values = np.zeros((64, 64), np.float32)
    values[37, 11] = np.nan
    for number in range(7):
        for signed in (values, values - np.eye(64)):
            assert np.isnan(Pyramid(signed).level(number)).sum() == 1


@pytest.mark.parametrize("window", [(0, 0, 100, 100), (13, 7, 50, 61), (90, 99, 10, 1)])
def test_that_a_window_covers_what_is_asked_with_cells_enough(window):
    top, left, rows, columns = window
    pyramid = Pyramid(np.arange(10_000.0).reshape(100, 100))
    for pixels in ((10.0, 10.0), (40.0, 300.0), (500.0, 500.0)):
        cells, (y, x, height, width) = pyramid.window(*window, pixels)
        assert y <= top
        assert x <= left
        assert y + height >= top + rows
        assert x + width >= left + columns
        assert cells.shape[0] >= min(rows, pixels[0]) or cells.shape[1] >= min(columns, pixels[1])


@pytest.fixture
def view(qtbot):
    view = MapView(DARK)
    qtbot.addWidget(view)
    view.resize(500, 400)
    view.show()
    view.show_map(np.random.default_rng(0).random((200, 100)), Scale(0.0, 1.0))
    return view


def test_that_zooming_keeps_the_place_under_the_pointer(view):
    area = view._area()
    view.zoom(0.5, area.topLeft() + QPointF(area.width() * 0.3, area.height() * 0.5))
    assert view.view == QRect(15, 50, 50, 100)
    view.zoom(1e-9)
    assert view.view.size().toTuple() == (4, 4)
    view.zoom(1e9)
    assert view.view == QRect(0, 0, 100, 200)


def test_that_keys_zoom_at_the_cursor_and_the_view_follows_it(qtbot, view):
    view.point_at((100, 50))
    for _ in range(8):
        qtbot.keyClick(view, Qt.Key.Key_Z)
    shown = view.view
    assert shown.contains(50, 100)
    assert shown.width() < 30
    for _ in range(60):
        qtbot.keyClick(view, Qt.Key.Key_Right)
        assert view.view.left() <= view._cell[1] <= view.view.right()
    assert view.reading().startswith("row 100 → column 99")
    qtbot.keyClick(view, Qt.Key.Key_Z, Qt.KeyboardModifier.ShiftModifier)
    assert view.view.width() > shown.width()


def test_that_dragging_moves_and_the_reading_is_exact(qtbot, view):
    view.zoom(0.25)
    before, area = view.view.topLeft(), view._area()
    start = area.center().toPoint()
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=start)
    qtbot.mouseMove(view, start + QPoint(40, 0))
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=start + QPoint(40, 0))
    assert view.view.left() < before.x()
    qtbot.mouseMove(view, start)
    row, column = view._cell
    assert view.view.contains(column, row)
    assert str(round(float(view._values[row, column]), 4)) in view.reading()
    qtbot.mouseDClick(view, Qt.MouseButton.LeftButton, pos=start)
    assert view.view == QRect(0, 0, 100, 200)


def test_that_what_is_painted_is_what_is_seen(view):
    values = np.zeros((64, 64), np.float32)
    values[:32] = 1.0
    view.show_map(values, Scale(0.0, 1.0))
    top = view.grab().toImage().pixelColor(view._area().center().toPoint() - QPoint(0, 40))
    view._look_at(QRect(0, 40, 64, 20))
    below = view.grab().toImage().pixelColor(view._area().center().toPoint() - QPoint(0, 40))
    assert top != below


def test_that_a_large_map_is_drawn_from_as_many_cells_as_there_are_pixels(view):
    view.show_map(np.random.default_rng(0).random((3000, 3000), np.float32), Scale(0.0, 1.0))
    view.grab()
    assert view._image.width() <= 2 * view.width()
    image = view._image
    view.point_at((5, 5))
    view.grab()
    assert view._image is image  # a moved cursor colours nothing anew


def large(value, rows=3000):
    values = np.zeros((rows, 3000), np.float32)
    values[1501, 1501] = value  # no cell of the first, rough look
    return values


@pytest.fixture
def held(monkeypatch):
    """Pyramids are built only when this event is set; the threads that built them are in its list."""
    go, build = threading.Event(), Pyramid.build
    go.threads, go.built = [], []

    def wait(pyramid):
        assert go.wait(60)
        go.threads.append(threading.current_thread())
        go.built.append(pyramid)
        build(pyramid)

    monkeypatch.setattr(Pyramid, "build", wait)
    yield go
    go.set()


def test_that_a_large_map_is_halved_by_another_thread_and_shown_roughly_before(qtbot, view, held):
    view.show_map(large(1.0), Scale(0.0, 1.0))
    rough = view.grab().toImage()
    assert view.preparing
    assert len(view._pyramid._levels) == 1  # nothing was halved to paint it
    held.set()
    qtbot.waitUntil(lambda: (view.grab(), not view.preparing)[1], timeout=60_000)
    assert held.threads
    assert threading.main_thread() not in held.threads
    assert view.grab().toImage() != rough
    assert view._pyramid.window(0, 0, 3000, 3000, (300.0, 300.0))[0].max() == 1.0


def test_that_a_zoomed_large_map_needs_no_preparing(view, held):
    view.show_map(large(1.0), Scale(0.0, 1.0))
    view._look_at(QRect(1400, 1400, 200, 200))
    view.grab()
    assert not view.preparing
    assert view._image.width() == 200


def test_that_a_newer_map_takes_the_place_of_one_that_is_prepared(qtbot, view, held):
    maps = [large(value) for value in (1.0, 2.0, 3.0)]
    pyramids = []
    for values in maps:
        view.show_map(values, Scale(0.0, 3.0))
        view.grab()
        pyramids.append(view._pyramid)
    held.set()
    qtbot.waitUntil(lambda: (view.grab(), not view.preparing)[1], timeout=60_000)
    assert held.built == [pyramids[0], pyramids[2]]  # the one between was never begun
    assert view._pyramid.window(0, 0, 3000, 3000, (300.0, 300.0))[0].max() == 3.0


def test_that_a_map_that_cannot_be_prepared_stays_rough_and_the_next_is_prepared(qtbot, view, monkeypatch):
    build, tried, error = Pyramid.build, [], MemoryError("Unable to allocate 2 GiB")

    def fail(pyramid):
        tried.append(pyramid)
        if len(tried) == 1:
            raise error
        build(pyramid)

    monkeypatch.setattr(Pyramid, "build", fail)
    view.show_map(large(1.0), Scale(0.0, 1.0))
    rough = view.grab().toImage()
    qtbot.waitUntil(lambda: not view.preparing, timeout=60_000)
    told = view.grab().toImage()
    assert told != rough  # says why
    assert view._note == "one cell for many: Unable to allocate 2 GiB"
    view.resize(450, 350)
    view.grab()
    assert not view.preparing, "it is not tried again"
    view.show_map(large(1.0), Scale(0.0, 1.0))
    view.grab()
    assert view.preparing
    qtbot.waitUntil(lambda: (view.grab(), not view.preparing)[1], timeout=60_000)
    assert view._pyramid.is_built
    assert tried == [tried[0], view._pyramid]
