import numpy as np
import pytest
from fake_run import FakeReader, record_step

from logitscope.errors import RunFileError
from logitscope.record import Panel
from logitscope_app.models.run_data import RunData
from logitscope_app.models.states import HeadsState, LinesState


@pytest.fixture
def reader(tmp_path):
    return FakeReader(tmp_path / "demo.scope", 120)


def _data(reader):
    data = RunData(reader)
    data.refresh()
    return data


def _state(frame, kind):
    return next(state for state in frame.panels if isinstance(state, kind))


def test_that_a_frame_shows_the_newest_step_unless_asked(reader):
    data = _data(reader)
    assert (data.frame(None).step, data.frame(None).live) == (119, True)
    frame = data.frame(60, request=4)
    assert (frame.step, frame.live, frame.request) == (60, False, 4)
    assert _state(frame, HeadsState).step == 50


def test_that_unchanged_panels_keep_their_state(reader):
    data = _data(reader)
    first = data.frame(60)
    again = data.frame(60)
    assert all(a is b for a, b in zip(first.panels, again.panels, strict=True))
    moved = data.frame(61)
    assert _state(moved, HeadsState) is _state(first, HeadsState)
    assert _state(moved, LinesState) is not _state(first, LinesState)


def test_that_only_new_rows_are_read(reader):
    data = _data(reader)
    before = data.points("loss/train")
    record_step(reader.training, 120)
    data.refresh()
    assert len(data.points("loss/train")) == len(before) + 1
    assert data.frame(None).timeline.last == 120


def test_that_steps_written_out_of_order_are_found(reader):
    training = reader.training
    for step in (30, 10, 20):
        training.array("late/weights", np.full((2, 2), float(step)), step)
    data = _data(reader)
    found = [data.array("late/weights", step) for step in (9, 10, 29, 99)]
    assert [None if each is None else each.array[0, 0] for each in found] == [None, 10.0, 20.0, 30.0]


def test_that_arrays_are_read_once(reader):
    data = _data(reader)
    first = data.array("attention/map", 60)
    reader.broken = RunFileError("gone")
    assert data.array("attention/map", 70) is first


def test_that_damage_takes_away_only_the_panels_that_need_it(reader, monkeypatch):
    data = _data(reader)
    read = reader.array

    def damaged(tag, step=None):
        if tag == "attention/map":
            message = "the array does not match its checksum"
            raise RunFileError(message)
        return read(tag, step)

    monkeypatch.setattr(reader, "array", damaged)
    frame = data.frame(None)
    messages = {state.panel.title: state.message for state in frame.panels if state.message}
    assert messages["Attention maps"] == "the array does not match its checksum"
    assert not any("checksum" in text for title, text in messages.items() if title != "Attention maps")


def test_that_a_run_without_anything_has_a_frame():
    frame = _data(FakeReader("empty.scope", panels=())).frame(None)
    assert (frame.step, frame.panels, frame.timeline.last) == (None, (), None)


def test_that_a_panel_for_a_tag_of_another_kind_is_a_message(tmp_path):
    reader = FakeReader(tmp_path / "x.scope", 3, panels=[Panel("X", "heatmap", ("loss/train",))])
    assert _data(reader).frame(None).panels[0].message
