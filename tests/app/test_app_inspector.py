"""The inspector: every tag in figures, sorted, sifted and copied."""

import numpy as np
import pytest
from fake_run import FakeReader
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication

from logitscope.record import TagInfo
from logitscope_app.models.inspect import COLUMNS, Inspected, Inspector
from logitscope_app.models.run_data import RunData
from logitscope_app.models.series import Points
from logitscope_app.panels.inspector import InspectorPanel


def rows(*figures):
    return tuple(Inspected(f"tag{n}", "scalar", 1, at=figure, last=n) for n, figure in enumerate(figures))


def test_that_a_curve_is_told_at_the_step_that_is_seen():
    points = Points(np.array([0, 5, 10]), np.array([4.0, np.nan, 1.0]))
    inspector, tag = Inspector(), TagInfo("loss", "scalar", 3)
    assert inspector.scalar(tag, points, 10) == Inspected(
        "loss", "scalar", 3, 1.0, pytest.approx(np.nan, nan_ok=True), 1.0, 2.5, 4.0, 10
    )
    assert inspector.scalar(tag, points, 4).at == 4.0
    early = inspector.scalar(TagInfo("late", "scalar", 1), Points(np.array([9]), np.array([2.0])), 3)
    assert (early.last, early.texts()[1]) == (None, "–")


def test_that_all_tags_of_a_run_are_there_and_nothing_is_made_anew_without_need():
    reader = FakeReader("demo.scope", 60)
    data = RunData(reader)
    data.refresh()
    frame = data.frame(30)
    assert [row.tag for row in frame.inspected] == [tag.name for tag in reader.tags()]
    assert {row.kind for row in frame.inspected} == {"scalar", "array", "text"}
    assert data.frame(30).inspected is frame.inspected
    assert data.frame(31).inspected is not frame.inspected


@pytest.fixture
def panel(qtbot):
    panel = InspectorPanel()
    qtbot.addWidget(panel)
    panel.show()
    return panel


def test_that_figures_are_sorted_as_figures_and_missing_ones_stand_last(panel):
    panel.set_rows(rows(10.0, np.nan, 9.0, -1.0))
    column = COLUMNS.index("now")
    panel.table.sortByColumn(column, Qt.SortOrder.AscendingOrder)
    assert [row.tag for row in panel.seen()] == ["tag3", "tag2", "tag0", "tag1"]
    panel.table.sortByColumn(column, Qt.SortOrder.DescendingOrder)
    assert [row.tag for row in panel.seen()] == ["tag0", "tag2", "tag3", "tag1"]


def test_that_the_filter_takes_words_and_copy_takes_what_is_chosen(panel, qtbot):
    panel.set_rows(rows(*range(12)))
    qtbot.keyClicks(panel.filter, "TAG1 scalar")
    assert [row.tag for row in panel.seen()] == ["tag1", "tag10", "tag11"]
    assert panel.count.text() == "3 of 12 tags"
    panel.copy()
    assert len(QApplication.clipboard().text().splitlines()) == 4
    panel.table.selectRow(1)
    qtbot.keyClick(panel.table, "C", Qt.KeyboardModifier.ControlModifier)
    head, line = QApplication.clipboard().text().splitlines()
    assert head.split("\t") == list(COLUMNS)
    assert line.split("\t")[:2] == ["tag10", "10"]


def test_that_a_selection_stays_while_figures_change(panel):
    panel.set_rows(rows(1.0, 2.0, 3.0))
    panel.table.selectRow(2)
    panel.set_rows(rows(4.0, 5.0, 6.0))
    assert [index.row() for index in panel.table.selectionModel().selectedRows()] == [2]
    assert panel.table.model().index(2, 1).data() == "6"


def test_that_a_key_opens_it(make_window, qtbot, tmp_path):
    window = make_window(FakeReader(tmp_path / "demo.scope", 60))
    qtbot.keyClick(window.timeline.track, "I")
    assert window.inspector.filter.hasFocus()
    assert window.inspector.model.rowCount() == len(window.frame.inspected) > 5


def test_that_the_columns_fill_a_wide_panel_until_one_is_drawn(panel):
    header, view = panel.table.horizontalHeader(), panel.table.viewport()
    for width in (1600, 1000):
        panel.resize(width, 300)
        assert 0 <= view.width() - header.length() < len(COLUMNS)
        assert header.sectionSize(0) > 2 * header.sectionSize(1)
    panel.resize(400, 300)
    assert header.length() > view.width()  # a narrow one is scrolled
    header.resizeSection(0, 100)
    panel.resize(1600, 300)
    assert header.sectionSize(0) == 100
