import numpy as np
import pytest
from fake_run import FakeReader
from PySide6.QtCore import Qt

from logitscope.record import Panel
from logitscope_app.models.resolve import resolve
from logitscope_app.models.run_data import RunData
from logitscope_app.models.states import WhatIfState
from logitscope_app.models.what_if import KNOBS, NORMALISERS, Question, answer
from logitscope_app.panels.what_if import WhatIfCard
from logitscope_app.theme.palette import DARK

L, D = 24, 8
Q, K = np.random.default_rng(0).normal(size=(2, 2, 4, L, D)).astype(np.float32) * 1.5
PANEL = Panel("What if", "what-if", ("attention/query", "attention/key"), "What if")


def weights(query, key, temperature=1.0, causal=True):
    scores = query @ key.T / np.sqrt(D) / temperature
    scores = np.where(np.tri(L) > 0, scores, -np.inf) if causal else scores
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 7.0])
@pytest.mark.parametrize("causal", [True, False])
def test_that_the_map_is_the_softmax_of_the_scores(temperature, causal):
    found = answer(Q[0, 1], K[0, 1], Question(temperature=temperature, causal=causal))
    np.testing.assert_allclose(found.map, weights(Q[0, 1], K[0, 1], temperature, causal), atol=2e-6)


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_that_every_normaliser_hides_what_a_row_must_not_see(normaliser):
    found = answer(Q[0, 0], K[0, 0], Question(normaliser=normaliser))
    assert np.isfinite(found.map).all()
    assert (found.map[np.triu_indices(L, 1)] == 0).all()
    windowed = answer(Q[0, 0], K[0, 0], Question(normaliser=normaliser, window=0.25)).map
    assert (windowed[np.tril_indices(L, -7)] == 0).all()
    assert (windowed[np.arange(6, L), np.arange(L - 6)] > 0).any()
    if normaliser != "sigmoid":
        np.testing.assert_allclose(found.map.sum(axis=1), 1, atol=1e-5)


def test_that_a_sink_takes_weight_and_a_cap_flattens():
    plain, sink, cap = (
        dict(answer(Q[1, 2], K[1, 2], question).figures)
        for question in (Question(), Question(sink=3.0), Question(softcap=0.5))
    )
    assert sink["weight in all"] < plain["weight in all"] == pytest.approx(1)
    assert cap["entropy"] > plain["entropy"]


@pytest.fixture
def card(qtbot):
    card = WhatIfCard(DARK)
    qtbot.addWidget(card)
    card.resize(800, 400)
    card.show()
    card.set_state(WhatIfState(PANEL, 5, query=Q, key=K[:, :2]))
    return card


def test_that_the_map_follows_the_knobs_at_once(qtbot, card):
    np.testing.assert_allclose(card.map._values, weights(Q[0, 0], K[0, 0]), atol=2e-6)
    card.head.setCurrentIndex(7)
    np.testing.assert_allclose(
        card.map._values, weights(Q[1, 3], K[1, 1]), atol=2e-6
    )  # two queries a key head
    field = card.rows["temperature"].field
    field.selectAll()
    qtbot.keyClicks(field, "0.5")
    qtbot.keyClick(field, Qt.Key.Key_Return)
    np.testing.assert_allclose(card.map._values, weights(Q[1, 3], K[1, 1], 0.5), atol=2e-6)
    assert "Entropy" in changed(card)
    np.testing.assert_allclose(card.recorded._values, weights(Q[1, 3], K[1, 1]), atol=2e-6)
    card.normaliser.setCurrentText("sparsemax")
    assert (card.map._values[-1] == 0).any()
    card.normaliser.setCurrentText("softmax")
    card.causal.click()
    np.testing.assert_allclose(card.map._values, weights(Q[1, 3], K[1, 1], 0.5, causal=False), atol=2e-6)
    card.set_state(WhatIfState(PANEL, 6, query=Q, key=K[:, :2]))
    assert not card.question.causal  # another step leaves the question as it is
    np.testing.assert_allclose(card.recorded._values, weights(Q[1, 3], K[1, 1]), atol=2e-6)
    card.reset()
    assert card.question == Question()
    assert changed(card) == []


def test_that_both_maps_stand_where_there_is_room(qtbot, card):
    assert card.recorded.isVisible()
    card.resize(500, 400)
    qtbot.waitUntil(lambda: not card.recorded.isVisible())
    assert card.map.isVisible()


def changed(card):
    """The figures that are not as they were recorded."""
    return [name.text() for name, recorded, now in card.figures if recorded.text() != now.text()]


def test_that_what_does_not_fit_is_told():
    reader = FakeReader("x.scope", 3, panels=[PANEL])
    for key, told in (
        (K[:, :, :, :4], "do not fit"),
        (K[:, :3], "do not fit"),
        (K[0], "are needed"),
        (K, ""),
    ):
        reader.training.array("attention/query", Q, 2)
        reader.training.array("attention/key", key, 2)
        data = RunData(reader)
        data.refresh()
        state = resolve(PANEL, data, None)
        assert told in state.message
        assert bool(told) == bool(state.message)
        reader._arrays.clear()


def test_that_the_knobs_start_where_nothing_changes():
    question = Question()
    assert {knob.name: knob.default for knob in KNOBS} == {
        knob.name: getattr(question, knob.name) for knob in KNOBS
    }
