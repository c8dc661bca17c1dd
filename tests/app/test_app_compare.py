import numpy as np
import pytest
from fake_run import FakeReader, record_step
from PySide6.QtCore import Qt

from logitscope_app.models.run_data import RunData
from logitscope_app.panels.lines import LinesCard
from logitscope_app.panels.runs import RunsPanel
from logitscope_app.services.follower import Follower
from logitscope_app.theme.palette import DARK


def _data(reader):
    data = RunData(reader)
    data.refresh()
    return data


def _panel(frame, title):
    return next(state for state in frame.panels if state.panel.title == title)


@pytest.fixture
def panel(qtbot, tmp_path):
    panel = RunsPanel(DARK)
    qtbot.addWidget(panel)
    panel.set_runs([FakeReader(tmp_path / f"{name}.scope", 3).info for name in ("one", "two", "three")])
    return panel


def test_that_curves_of_other_runs_are_drawn_beside():
    data, other = _data(FakeReader("a.scope", 60)), _data(FakeReader("b.scope", 30))
    alone = _panel(data.frame(None), "Loss")
    data.compare_with([other])
    both = _panel(data.frame(None), "Loss")
    assert [(curve.tag, curve.run) for curve in both.curves] == [
        ("loss/train", 0),
        ("loss/validation", 0),
        ("loss/train", 1),
        ("loss/validation", 1),
    ]
    assert both.curves[2].label == "demo · train"
    assert both.curves[2].points is other.points("loss/train")
    assert _panel(data.frame(None), "Loss") is both  # nothing has changed: not resolved again
    data.compare_with([])
    assert len(_panel(data.frame(None), "Loss").curves) == len(alone.curves)


def test_that_one_tag_has_a_colour_a_run_and_several_tags_keep_theirs(qtbot):
    data = _data(FakeReader("a.scope", 60))
    data.compare_with([_data(FakeReader("b.scope", 30)), _data(FakeReader("c.scope", 30))])
    card = LinesCard(DARK)
    qtbot.addWidget(card)
    card.show()
    card.set_state(_panel(data.frame(None), "Weight norm"))
    assert [entry.colour for entry in card.legend.entries] == list(DARK.series[:3])
    card.set_state(_panel(data.frame(None), "Loss"))
    assert [entry.colour for entry in card.legend.entries] == 3 * list(DARK.series[:2])
    card.set_state(_panel(data.frame(None), "Attention entropy"))
    colours = [entry.colour for entry in card.legend.entries]
    assert colours[:4] == colours[4:8] == colours[8:]


def test_that_a_follower_reads_the_others_live_and_leaves_out_what_is_no_run(qtbot, tmp_path):
    readers = {name: FakeReader(tmp_path / f"{name}.scope", 20) for name in ("a", "b")}
    for reader in readers.values():
        reader.path.touch()

    def open_reader(path):
        if path.stem not in readers:
            raise FileNotFoundError(path)
        return readers[path.stem]

    follower = Follower(readers["a"].path, open_reader=open_reader, poll_seconds=0.01)
    frames = []

    def shows(steps):
        frame = follower.take()
        if frame is not None:
            frames.append(frame)
        found = [len(c.points) for c in _panel(frames[-1], "Weight norm").curves if c.run] if frames else None
        return found == steps

    follower.start()
    follower.compare([tmp_path / "a.scope", tmp_path / "gone.scope", tmp_path / "b.scope"])
    qtbot.waitUntil(lambda: shows([20]))
    record_step(readers["b"].training, 20)
    qtbot.waitUntil(lambda: shows([21]))
    follower.compare([])
    qtbot.waitUntil(lambda: shows([]))
    assert readers["b"].closed
    follower.close()


def test_that_a_tick_compares_and_a_filter_sifts(qtbot, panel):
    asked, chosen = [], []
    panel.compared.connect(asked.append)
    panel.chosen.connect(chosen.append)
    panel.list.item(1).setCheckState(Qt.CheckState.Checked)
    panel.list.itemClicked.emit(panel.list.item(1))  # Qt tells of a click on the box, too
    assert chosen == []
    assert asked == [[panel.runs[1].path]]
    panel.set_runs(list(panel.runs))
    assert panel.list.item(1).checkState() == Qt.CheckState.Checked
    assert len(asked) == 1
    qtbot.wait(1)
    panel.list.itemClicked.emit(panel.list.item(2))
    assert chosen == [panel.runs[2].path]
    panel.list.setCurrentRow(1)
    panel.toggle_compared()
    assert asked[-1] == []
    qtbot.keyClicks(panel.filter, "running two")
    assert [panel.list.item(row).isHidden() for row in range(3)] == [True, False, True]


def test_that_the_heads_are_sorted_and_changes_shown(make_window, tmp_path, qtbot):
    window = make_window(FakeReader(tmp_path / "x.scope", 230), step=100)
    card = window.docks.grids["Attention"].cards[0]
    qtbot.waitUntil(lambda: card.state is not None and card.state.step == 100)
    before = card.state.maps
    entropy = dict(card.state.figures)["entropy"]
    card.sort_action.setChecked(True)
    places = {
        (layer, head): (round(card.grid.tile(layer, head).top()), card.grid.tile(layer, head).left())
        for layer in range(4)
        for head in range(4)
    }
    assert sorted(places, key=places.get) == sorted(places, key=lambda head: entropy[head])
    card.sort_action.setChecked(False)
    card.change_action.setChecked(True)
    window.timeline.go(220)
    qtbot.waitUntil(lambda: card.state.step == 200)
    np.testing.assert_allclose(card._shown(1, 2), card.state.maps[1, 2] - before[1, 2])
    assert card.aside.text() == "change since step 100"
    assert card._scale(1, 2).signed
    card.change_action.setChecked(False)
    np.testing.assert_array_equal(card._shown(1, 2), card.state.maps[1, 2])
