"""The gallery starts every experiment that is built, in its short form, as a user would."""

import pytest
from PySide6.QtCore import Qt

from logitscope.experiments.paper import built_slugs
from logitscope.record import RunReader
from logitscope_app.main_window import MainWindow
from logitscope_app.models.run_data import RunData

pytest.importorskip("torch")
pytest.importorskip("sklearn")
PATIENCE_MS = 600_000


@pytest.fixture
def window(qtbot, theme, tmp_path, monkeypatch):
    monkeypatch.setenv("LOGITSCOPE_RUNS", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = MainWindow(theme)
    made.resize(1400, 1500)
    made.show()
    yield made
    made.close()
    made.deleteLater()


@pytest.mark.timeout(1200)  # all experiments, one after the other
def test_that_every_experiment_starts_and_its_panels_have_something_to_show(qtbot, window):
    gallery, laboratory = window.gallery, window.laboratory
    window.toggle_gallery()
    qtbot.waitUntil(lambda: bool(laboratory.experiments), timeout=PATIENCE_MS)
    assert len(built_slugs()) >= 8
    for slug in built_slugs():
        assert gallery.choose(slug)
        qtbot.mouseClick(gallery.start, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda slug=slug: laboratory.progress(slug).stage != "running", timeout=PATIENCE_MS)
        progress = laboratory.progress(slug)
        assert progress.stage == "finished", progress.verdict
        assert gallery.isHidden(), "the run is to be watched while it goes on"
        window.toggle_gallery()
        qtbot.waitUntil(lambda: "decides nothing" in gallery.verdict.toPlainText())
        states = newest_states(progress.run)
        assert {state.panel.title: state.message for state in states if state.message} == {}
        qtbot.waitUntil(lambda states=states: titles(window) == {state.panel.title for state in states})
        assert gallery.isAncestorOf(window.childAt(window.rect().center())), "a view lies above the gallery"


def newest_states(path):
    with RunReader(path) as run:
        data = RunData(run)
        data.refresh()
        return data.frame(None).panels


def titles(window):
    return {card.state.panel.title for grid in window.docks.grids.values() for card in grid.cards}


def test_that_a_paper_that_is_not_there_cannot_be_chosen(qtbot, window):
    window.toggle_gallery()
    qtbot.waitUntil(lambda: bool(window.laboratory.experiments), timeout=PATIENCE_MS)
    chosen = window.gallery.current
    assert not window.gallery.choose("no-such-paper")
    assert window.gallery.current == chosen
