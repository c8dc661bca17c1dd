"""Pictures held against others: a histogram over its steps, maps against those of another run."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from fake_run import FakeReader

from logitscope.record import Panel, StepArray
from logitscope_app.models.history import BINS, MOMENTS, history_of
from logitscope_app.models.run_data import RunData
from logitscope_app.models.states import HeadsState, History
from logitscope_app.panels.heads import HeadsCard
from logitscope_app.panels.histogram import HistogramCard
from logitscope_app.theme.palette import DARK


def data_of(histograms):
    """Histograms by step: edges and counts each."""
    steps = np.array(sorted(histograms), np.int64)

    def array(_tag, step):
        edges, counts = histograms[int(steps[np.searchsorted(steps, step, side="right") - 1])]
        return StepArray(step, np.stack([edges, np.append(counts, 0.0)]))

    return SimpleNamespace(steps=lambda _: steps, array=array)


def test_that_shares_stand_on_one_axis_whatever_the_edges():
    data = data_of(
        {0: (np.linspace(0, 1, 5), np.ones(4)), 10: (np.linspace(-3, 1, 5), np.array([0.0, 0, 0, 6]))}
    )
    history = history_of("h", data, None)
    assert history.shares.shape == (BINS, 2)
    assert (history.edges[0], history.edges[-1], history.steps) == (1.0, -3.0, (0, 10))
    np.testing.assert_allclose(history.shares.sum(axis=0), 1)
    np.testing.assert_allclose(
        history.shares[:, 0], history.shares[:, 1], atol=1e-12
    )  # even from 0 to 1 in both
    assert history_of("h", data, 9).steps == (0,)
    assert history_of("h", data, -1).steps == ()


def test_that_many_steps_are_thinned_out_and_the_newest_stays():
    data = data_of({step: (np.array([0.0, 1.0]), np.ones(1)) for step in range(500)})
    history = history_of("h", data, 300)
    assert len(history.steps) == MOMENTS
    assert (history.steps[0], history.steps[-1]) == (0, 300)


def test_that_broken_and_empty_histograms_are_left_out():
    data = data_of({0: (np.array([0.0, np.nan]), np.ones(1)), 5: (np.array([0.0, 0.0]), np.zeros(1))})
    assert history_of("h", data, 0).steps == ()
    assert history_of("h", data, 5).shares.sum() == 0


def test_that_a_key_shows_a_histogram_over_time(qtbot):
    from test_app_cards import STATES, HistogramState

    card = HistogramCard(DARK)
    qtbot.addWidget(card)
    card.show()
    history = History(np.eye(3), np.array([3.0, 2, 1, 0]), (0, 5, 9))
    card.set_state(dataclasses.replace(STATES[HistogramState], history=history))
    assert not card.map.isVisible()
    card.time_action.trigger()
    assert card.map.isVisible()
    assert not card.plot.widget.isVisible()
    card.map.point_at((0, 2))
    assert "2.5" in card.aside.text()
    card.time_action.trigger()
    assert card.plot.widget.isVisible()


@pytest.fixture
def heads(qtbot):
    card = HeadsCard(DARK)
    qtbot.addWidget(card)
    card.resize(900, 600)
    card.show()
    maps = np.tril(np.random.default_rng(0).random((2, 2, 6, 6)))
    state = HeadsState(
        Panel("M", "heads", ("map",)), 3, tag="map", maps=maps, others=(("other run", maps * 0.5),)
    )
    card.set_state(state)
    return card


def test_that_maps_are_held_against_another_run_with_both_below(heads):
    heads.choose(1, 0)
    assert not heads.pair[0].isVisible()
    heads.run_action.trigger()
    assert heads.aside.text() == "against other run"
    maps = heads.state.maps
    np.testing.assert_array_equal(heads.large._values, maps[1, 0] * 0.5)
    np.testing.assert_array_equal(heads.pair[0]._values, maps[1, 0] * 0.5)
    np.testing.assert_array_equal(heads.pair[1]._values, maps[1, 0])
    assert heads.pair[0].isVisible()
    heads.run_action.trigger()
    assert not heads.pair[0].isVisible()
    assert heads.aside.text() == ""


def test_that_without_a_run_to_compare_the_card_says_what_to_do(heads):
    heads.set_state(dataclasses.replace(heads.state, others=()))
    heads.run_action.trigger()
    assert "tick a run" in heads.aside.text()
    assert not heads.pair[0].isVisible()


def test_that_a_compared_run_hands_over_its_maps_of_the_step():
    data, other = (RunData(FakeReader(f"{name}.scope", steps)) for name, steps in (("a", 60), ("b", 40)))
    for one in (data, other):
        one.refresh()
    alone = data.frame(30)
    data.compare_with([other])
    (state,) = (state for state in data.frame(30).panels if isinstance(state, HeadsState))
    ((name, maps),) = state.others
    assert name == other.name
    np.testing.assert_array_equal(maps, other.array(state.tag, 30).array)
    assert all(not state.others for state in alone.panels if isinstance(state, HeadsState))
