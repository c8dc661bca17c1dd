"""What an experiment found: read from run files, which may hold anything, and shown."""

import json

import pytest
from fake_run import FakeReader

from logitscope import record
from logitscope.experiments import Check
from logitscope.experiments import Verdict as Found
from logitscope.experiments.running import in_words
from logitscope.record import Panel
from logitscope_app.models.run_data import RunData
from logitscope_app.models.states import TextState, VerdictState
from logitscope_app.models.verdict import TAG, as_page, verdict_of
from logitscope_app.services.verdicts import Verdicts
from logitscope_app.theme.palette import DARK

COLOURS = {name: getattr(DARK, name) for name in ("good", "bad", "warn", "muted")}
FOUND = Found(
    claim="Less <b>loss</b>",
    measured={"loss": 1.5, "time": float("inf")},
    baseline={"loss of softmax": 2.0},
    checks=(Check("gain", 0.5, "at least", 0.25), Check("time", 3.0, "at most", 2.0)),
    caveats=("one seed",),
)
PANEL = Panel("Verdict", "text", ("verdict", TAG), "Text")


def write(path, data, words="reproduced"):
    with record.start("x", path=path) as scope:
        scope.scalar("loss", 1.0, 0)
        scope.text(TAG, data, 0)
        scope.text("verdict", words, 0)
    return path


@pytest.fixture
def reading():
    made = Verdicts()
    yield made
    made.close()


@pytest.mark.parametrize("smoke", [False, True])
def test_that_what_an_experiment_writes_is_understood(smoke):
    verdict = verdict_of(json.dumps(FOUND.as_dict()), in_words(FOUND, smoke=smoke))
    assert (verdict.claim, verdict.reproduced, verdict.smoke) == (FOUND.claim, FOUND.reproduced, smoke)
    assert [(check.name, check.holds) for check in verdict.checks] == [("gain", True), ("time", False)]
    assert verdict.measured[0] == ("loss", 1.5)
    page = as_page(verdict, COLOURS, 400)
    assert ("Not reproduced" in page) != smoke
    assert "&lt;b&gt;" in page, "words of a run file are words, not markup"
    assert "<b>loss" not in page


@pytest.mark.parametrize(
    "text", ["", "3", "[]", "{}", '{"checks": 3}', "[" * 100_000, '{"checks": [{"name": 1}]}']
)
def test_that_another_text_is_no_verdict(text):
    assert verdict_of(text) is None


def test_that_the_verdict_of_a_file_is_read_beside_the_window(qtbot, reading, tmp_path):
    path = write(tmp_path / "a.scope", json.dumps(FOUND.as_dict()))
    verdicts = reading
    with qtbot.waitSignal(verdicts.found):
        assert verdicts.of(path) is None
    assert verdicts.of(path).claim == FOUND.claim
    for other in (tmp_path / "missing.scope", write(tmp_path / "b.scope", "none"), None):
        assert verdicts.of(other) is None
    verdicts.close()
    assert verdicts.of(tmp_path / "b.scope") is None


def test_that_a_verdict_takes_the_place_of_its_words():
    reader = FakeReader("x.scope", 3, panels=[PANEL])
    data = RunData(reader)
    for text, kind in (("none", TextState), (json.dumps(FOUND.as_dict()), VerdictState)):
        reader.training.text(TAG, text, 2)
        reader.training.text("verdict", "in words", 2)
        data.refresh()
        assert [type(state) for state in data.frame(None).panels if state.panel == PANEL] == [kind]
