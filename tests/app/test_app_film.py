"""A film of a run: an animated PNG of the window at steps from the first to the last."""

import io
import struct

import numpy as np
import pytest

from logitscope import record
from logitscope.__main__ import main
from logitscope_app.models.film import Film
from logitscope_app.services.filming import chosen

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def run(tmp_path):
    with record.start("filmed", path=tmp_path / "run.scope") as scope:
        scope.panel("Loss", "lines", ["loss/*"], group="Training")
        for step in range(0, 200, 10):
            scope.scalar("loss/train", 4.0 / (step + 1), step)
    return scope.path


def test_that_a_film_shows_every_picture_exactly():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (20, 30, 3), np.uint8)]
    for place in range(4):
        pictures.append(pictures[-1].copy())
        pictures[-1][place : place + 5, 7 : 7 + 2 * place] ^= 255  # the first of these changes nothing
    film = Film()
    for picture in pictures:
        film.add(picture, 50)
    with Image.open(io.BytesIO(film.data())) as opened:
        assert opened.n_frames == len(pictures)
        for number, picture in enumerate(pictures):
            opened.seek(number)
            assert opened.info["duration"] == 50
            np.testing.assert_array_equal(np.array(opened.convert("RGB")), picture)


def test_that_steps_are_spread_over_the_run():
    assert chosen(np.arange(0, 1001, 10), 11) == list(range(0, 1001, 100))
    assert chosen(np.array([5]), 60) == [5]
    assert chosen(np.array([], np.int64), 60) == []


def test_that_the_command_line_makes_a_film(run, tmp_path, capsys):
    target = tmp_path / "film.apng"
    assert main(["dashboard", str(run), "--film", str(target), "--frames", "4", "--size", "800x500"]) == 0
    data = target.read_bytes()
    assert struct.unpack(">I", data[data.index(b"acTL") + 4 :][:4]) == (4,)
    with Image.open(target) as opened:
        assert (opened.size, opened.n_frames) == ((800, 500), 4)
        first = np.array(opened.convert("RGB"))
        opened.seek(3)
        assert (np.array(opened.convert("RGB")) != first).any()
    assert main(["export", str(run), "--format", "apng", "--out", str(tmp_path / "no" / "x.apng")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_that_a_run_without_steps_cannot_be_filmed(tmp_path, capsys):
    with record.start("empty", path=tmp_path / "empty.scope") as scope:
        pass
    assert main(["dashboard", str(scope.path), "--film", str(tmp_path / "x.apng"), "--frames", "2"]) == 2
    assert "no step to film" in capsys.readouterr().err


@pytest.mark.parametrize("stopped", [False, True])
def test_that_the_window_films_and_comes_back(make_window, qtbot, tmp_path, stopped):
    from fake_run import FakeReader

    window = make_window(FakeReader(tmp_path / "run.scope", 30))
    target = tmp_path / "film.png"
    window.timeline.go(window.frame.timeline.steps[3])
    wish = window.timeline.wish
    filming = window.film(target)
    with qtbot.waitSignal(filming.done):
        if stopped:
            qtbot.waitUntil(lambda: len(filming._film) > 1)
            filming.stop()
    assert target.exists() != stopped
    assert window.timeline.wish == wish
