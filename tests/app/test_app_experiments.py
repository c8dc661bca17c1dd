import json
import sys
from dataclasses import replace

import pytest
from fake_run import FakeReader
from PySide6.QtCore import Qt

from logitscope_app.models.experiments import catalogue, last_run, sifted
from logitscope_app.panels.gallery import Gallery
from logitscope_app.services.laboratory import Laboratory

GOES_WELL = """
import sys, time
print("good: run file " + sys.argv[-1], file=sys.stderr, flush=True)
print("good: 40 %, 0:12 left  seed 1", file=sys.stderr, flush=True)
sys.stdin.readline() if "wait" in sys.argv else None
print("good (0:01 minutes, seeds 0)\\n  reproduced")
"""
FAILS = "import sys; sys.exit('bad needs torch; use pip install torch')"


def _entry(slug, program=None, **other):
    command = None if program is None else [sys.executable, "-c", program]
    words = {
        "title": slug.title(),
        "authors": "A. Author",
        "arxiv": "1",
        "area": "softmax",
        "claim": "It is so.",
    }
    return {"slug": slug, "year": 2020, "url": "https://arxiv.org", "command": command, **words, **other}


CATALOGUE = [_entry("planned"), _entry("good", GOES_WELL), _entry("bad", FAILS, area="losses")]


@pytest.fixture
def laboratory(qtbot):
    made = Laboratory([sys.executable, "-c", f"print({json.dumps(json.dumps(CATALOGUE))})"])
    yield made
    made.close()


@pytest.fixture
def gallery(qtbot, laboratory, make_window, tmp_path):
    window = make_window(FakeReader(tmp_path / "demo.scope", 20), laboratory=laboratory)
    window.toggle_gallery()
    qtbot.waitUntil(lambda: window.gallery.list.count() == 3)
    return window.gallery


def test_that_the_catalogue_of_this_library_is_understood(qtbot):
    laboratory = Laboratory()
    with qtbot.waitSignal(laboratory.listed):
        laboratory.load()
    assert laboratory.trouble == ""
    assert len(laboratory.experiments) >= 50
    assert any(one.command for one in laboratory.experiments)
    laboratory.close()


@pytest.mark.parametrize("text", ["", "{}", "[3]", '[{"slug": "x"}]'])
def test_that_another_text_is_no_catalogue(text):
    with pytest.raises(ValueError, match=r".+"):
        catalogue(text)


def test_that_papers_are_sifted_and_those_to_run_come_first():
    papers = catalogue(json.dumps(CATALOGUE))
    assert [one.slug for one in sifted(papers, "", built=False)] == ["good", "bad", "planned"]
    assert [one.slug for one in sifted(papers, "softmax author", built=True)] == ["good"]


def test_that_the_last_run_of_an_experiment_is_found():
    info = FakeReader("x.scope", 1).info
    runs = [
        replace(info, meta={"experiment": slug}, name=str(index))
        for index, slug in enumerate(["a", "b", "a"])
    ]
    assert last_run("a", runs).name == "0"
    assert last_run("c", runs) is None


def test_that_a_command_that_is_not_there_is_told(qtbot):
    laboratory = Laboratory(["/nowhere/python"])
    with qtbot.waitSignal(laboratory.listed):
        laboratory.load()
    assert laboratory.trouble.startswith("The catalogue of experiments cannot be read")
    laboratory.close()


def test_that_an_experiment_is_started_and_its_verdict_shown(qtbot, gallery, laboratory, tmp_path):
    begun = []
    laboratory.begun.connect(begun.append)
    assert gallery.current.slug == "good"
    gallery.smoke.setChecked(False)
    gallery.options.setText(str(tmp_path / "good.scope"))
    qtbot.mouseClick(gallery.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: laboratory.progress("good").stage == "finished")
    assert begun == [tmp_path / "good.scope"]
    assert gallery.verdict.toPlainText().endswith("reproduced")
    assert gallery.now.text() == "Finished."
    assert gallery.start.isEnabled()


def test_that_progress_is_shown_and_a_stop_is_no_failure(qtbot, gallery, laboratory):
    gallery.smoke.setChecked(False)
    gallery.options.setText("wait")
    qtbot.mouseClick(gallery.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: gallery.now.text() == "Running  ·  40 %  ·  0:12 left  ·  seed 1")
    assert (gallery.bar.value(), gallery.start.isEnabled()) == (40, False)
    qtbot.mouseClick(gallery.stop, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: laboratory.progress("good").stage == "stopped")


def test_that_a_failure_says_why(qtbot, gallery, laboratory):
    qtbot.keyClicks(gallery.filter, "losses")
    assert gallery.current.slug == "bad"
    qtbot.mouseClick(gallery.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: laboratory.progress("bad").stage == "failed")
    assert gallery.verdict.toPlainText() == "bad needs torch; use pip install torch"


def test_that_closing_ends_what_goes_on(qtbot, laboratory):
    with qtbot.waitSignal(laboratory.listed):
        laboratory.load()
    laboratory.start(next(one for one in laboratory.experiments if one.slug == "good"), ["wait"])
    process = laboratory._processes["good"]
    laboratory.close()
    assert process.state() == process.ProcessState.NotRunning


def test_that_escape_closes_the_gallery(qtbot, gallery):
    assert isinstance(gallery, Gallery)
    qtbot.keyClick(gallery, Qt.Key.Key_Escape)
    assert not gallery.isVisible()
