from pathlib import Path

from fake_run import FakeReader, record_step
from PySide6.QtCore import QObject, Signal

from logitscope_app.models.run_data import RunData
from logitscope_app.services.session import Session


class _Follower(QObject):
    """A follower by hand: the test decides when it answers."""

    ready = Signal()
    failed = Signal(str)

    def __init__(self, path):
        super().__init__()
        self.path, self.asked, self.knobs, self.closed, self.mail = path, [], [], False, None
        self._data = RunData(FakeReader(path, 20))
        self._data.refresh()

    def start(self):
        pass

    def ask(self, step, request):
        self.asked.append((step, request))

    def set_knob(self, name, value):
        self.knobs.append((name, value))

    def take(self):
        mail, self.mail = self.mail, None
        return mail

    def close(self):
        self.closed = True

    def answer(self, which=-1):
        step, request = self.asked[which]
        self.mail = self._data.frame(step, request=request)
        self.ready.emit()


def _session():
    followers, frames = [], []

    def make(path):
        followers.append(_Follower(path))
        return followers[-1]

    session = Session(make)
    session.framed.connect(frames.append)
    session.open(Path("a.scope"))
    return session, followers, frames


def test_that_stale_answers_are_dropped(qtbot):
    session, (follower,), frames = _session()
    follower.answer()
    session.show_step(3)
    follower.answer(0)
    qtbot.wait(80)
    assert len(frames) == 1
    follower.answer(1)
    qtbot.waitUntil(lambda: len(frames) == 2)
    assert frames[-1].step == 3
    session.close()


def test_that_one_request_is_under_way_and_the_last_wish_follows(qtbot):
    session, (follower,), frames = _session()
    follower.answer()
    for step in (1, 2, 3, 4):
        session.show_step(step)
    assert [step for step, _ in follower.asked] == [None, 1]
    follower.answer()
    qtbot.waitUntil(lambda: len(follower.asked) == 3)
    assert [step for step, _ in follower.asked] == [None, 1, 4]
    follower.answer()
    qtbot.waitUntil(lambda: len(frames) == 3)
    assert [frame.step for frame in frames] == [19, 1, 4]
    session.close()


def test_that_frames_that_come_too_fast_are_skipped_not_queued(qtbot):
    session, (follower,), frames = _session()
    follower.answer()
    for _ in range(20):
        follower.answer()
    assert len(frames) == 1
    qtbot.waitUntil(lambda: len(frames) == 2)
    qtbot.wait(80)
    assert len(frames) == 2
    session.close()


def test_that_another_run_ends_the_first_and_its_late_answers(qtbot):
    session, followers, frames = _session()
    session.open(Path("b.scope"))
    assert followers[0].closed
    followers[0].answer()
    followers[1].answer()
    assert [frame.info.path for frame in frames] == [Path("b.scope")]
    session.close()


def test_that_a_failure_is_told_and_lets_later_wishes_through(qtbot):
    session, (follower,), _ = _session()
    said = []
    session.failed.connect(said.append)
    session.show_step(2)
    follower.failed.emit("no run file")
    assert said == ["no run file"]
    assert follower.asked[-1][0] == 2
    session.close()


def test_that_knobs_go_to_the_run(qtbot):
    session, (follower,), _ = _session()
    session.set_knob("temperature", 0.5)
    assert follower.knobs == [("temperature", 0.5)]
    session.close()
    session.set_knob("temperature", 0.6)
    session.show_step(1)
    assert session.path is None


def test_that_a_live_run_keeps_coming(qtbot, make_session, tmp_path):
    reader = FakeReader(tmp_path / "a.scope", 10)
    session, frames = make_session(reader), []
    session.framed.connect(frames.append)
    session.open(reader.path)
    for step in range(10, 14):
        record_step(reader.training, step)
        qtbot.waitUntil(lambda step=step: bool(frames) and frames[-1].step == step)
    assert all(frame.live for frame in frames)
