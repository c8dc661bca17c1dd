import threading

import pytest
from fake_run import FakeReader, record_step, write_run

from logitscope.errors import RunFileError
from logitscope_app.services.follower import Follower


@pytest.fixture
def follow(qtbot):
    followers = []

    def make(followed):
        if isinstance(followed, FakeReader):
            followed.path.touch()
            follower = Follower(followed.path, open_reader=lambda _: followed, poll_seconds=0.01)
        else:
            follower = Follower(followed, poll_seconds=0.01)
        followers.append(follower)
        return follower

    yield make
    for follower in followers:
        follower.close()


def _next_frame(qtbot, follower, condition=lambda frame: True):
    frames = []

    def arrived():
        frame = follower.take()
        if frame is not None:
            frames.append(frame)
        return bool(frames) and condition(frames[-1])

    qtbot.waitUntil(arrived)
    return frames[-1]


def test_that_the_first_frame_is_the_newest_step(qtbot, follow, tmp_path):
    follower = follow(FakeReader(tmp_path / "a.scope", 30))
    with qtbot.waitSignal(follower.ready):
        follower.start()
    frame = follower.take()
    assert (frame.step, frame.live) == (29, True)
    assert follower.take() is None


def test_that_new_rows_make_new_frames(qtbot, follow, tmp_path):
    reader = FakeReader(tmp_path / "a.scope", 30)
    follower = follow(reader)
    follower.start()
    _next_frame(qtbot, follower)
    record_step(reader.training, 30)
    assert _next_frame(qtbot, follower, lambda frame: frame.step == 30).live


def test_that_a_held_step_stays_while_the_run_grows(qtbot, follow, tmp_path):
    reader = FakeReader(tmp_path / "a.scope", 30)
    follower = follow(reader)
    follower.start()
    follower.ask(10, 1)
    _next_frame(qtbot, follower, lambda frame: frame.request == 1)
    record_step(reader.training, 30)
    frame = _next_frame(qtbot, follower, lambda frame: frame.timeline.last == 30)
    assert (frame.step, frame.live, frame.request) == (10, False, 1)


def test_that_frames_are_made_off_the_gui_thread_and_only_the_last_wish_counts(qtbot, follow, tmp_path):
    reader = FakeReader(tmp_path / "a.scope", 30)
    seen, gate, asked = [], threading.Event(), threading.Event()
    poll = reader.poll

    def slow_poll():
        seen.append(threading.current_thread())
        asked.set()
        gate.wait(60)
        return poll()

    reader.poll = slow_poll
    follower = follow(reader)
    follower.start()
    assert asked.wait(60)
    for request, step in enumerate((3, 4, 5), 1):
        follower.ask(step, request)
    gate.set()
    frame = _next_frame(qtbot, follower, lambda frame: frame.request == 3)
    assert frame.step == 5
    assert threading.current_thread() not in seen


def test_that_a_broken_file_is_a_notice_on_the_last_picture_and_heals(qtbot, follow, tmp_path):
    reader = FakeReader(tmp_path / "a.scope", 30)
    follower = follow(reader)
    follower.start()
    _next_frame(qtbot, follower)
    reader.broken = RunFileError("run file: the disk\nis gone")
    frame = _next_frame(qtbot, follower, lambda frame: bool(frame.notice))
    assert (frame.notice, frame.step, len(frame.panels)) == (
        "run file: the disk is gone",
        29,
        len(reader.panels()),
    )
    follower.ask(5, 7)
    assert _next_frame(qtbot, follower, lambda frame: frame.request == 7).notice
    reader.broken = None
    assert _next_frame(qtbot, follower, lambda frame: not frame.notice).step == 5


def test_that_a_file_that_cannot_be_opened_is_told_once_and_tried_again(qtbot, follow, tmp_path):
    path = tmp_path / "late.scope"
    follower = follow(path)
    said = []
    follower.failed.connect(said.append)
    follower.start()
    qtbot.waitUntil(lambda: bool(said))
    qtbot.wait(50)
    assert len(said) == 1
    assert str(path) in said[0]
    write_run(path, 5)
    assert _next_frame(qtbot, follower, lambda frame: frame.step == 4).live


def test_that_a_deleted_file_is_a_notice_and_a_new_one_is_followed(qtbot, follow, tmp_path):
    path = tmp_path / "run.scope"
    write_run(path, 5)
    follower = follow(path)
    follower.start()
    assert _next_frame(qtbot, follower).step == 4
    path.unlink()
    assert "deleted" in _next_frame(qtbot, follower, lambda frame: bool(frame.notice)).notice
    follower.ask(2, 9)
    assert _next_frame(qtbot, follower, lambda frame: frame.request == 9).step == 2
    follower.ask(None, 10)
    write_run(path, 8)
    assert not _next_frame(qtbot, follower, lambda frame: frame.step == 7).notice


def test_that_the_last_of_many_turns_of_a_knob_is_written(qtbot, follow, tmp_path):
    path = tmp_path / "run.scope"
    scope = write_run(path, 5, finish=False)
    follower = follow(path)
    follower.start()
    for value in (0.5, 0.6, 0.7):
        follower.set_knob("temperature", value)
    frame = _next_frame(qtbot, follower, lambda frame: frame.knobs[0].value == 0.7)
    assert frame.knobs[0].name == "temperature"
    follower.set_knob("temperature", 2.0)
    follower.close()
    from logitscope.record import RunReader

    with RunReader(path) as reader:
        assert reader.knobs()[0].value == 2.0
    scope.finish()


def test_that_the_reader_is_closed_with_the_follower(qtbot, follow, tmp_path):
    reader = FakeReader(tmp_path / "a.scope", 3)
    follower = follow(reader)
    follower.start()
    _next_frame(qtbot, follower)
    follower.close()
    assert reader.closed
