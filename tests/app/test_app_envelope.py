import numpy as np
import pytest
from fake_run import FakeReader

from logitscope.record import Panel
from logitscope_app.models.envelope import LONG, Envelope
from logitscope_app.models.series import Points
from logitscope_app.models.states import Curve, LinesState
from logitscope_app.panels.lines import LinesCard
from logitscope_app.theme.palette import DARK

STEPS = np.arange(200_003.0)
VALUES = np.random.default_rng(0).normal(size=len(STEPS)).cumsum()


@pytest.mark.parametrize(
    "window", [(0, 2e5), (-np.inf, np.inf), (1000, 1500), (70_000, 190_000), (199_990, 3e5)]
)
def test_that_a_window_has_the_extremes_of_the_curve_in_it(window):
    low, high = window
    steps, values = Envelope(STEPS, VALUES).window(low, high, 1000)
    seen = (low <= STEPS) & (high >= STEPS)
    inside = (steps >= low) & (steps <= high)
    assert len(steps) <= 16 * 1000 + 4
    assert len(steps) >= min(1000, seen.sum())
    assert (np.diff(steps) >= 0).all()
    assert values[inside].min() == VALUES[seen].min()
    assert values[inside].max() == VALUES[seen].max()
    assert (steps[0], steps[-1]) == (STEPS[0], STEPS[-1])
    np.testing.assert_array_equal(values, VALUES[steps.astype(int)])


def test_that_a_nan_does_not_hide_its_neighbours():
    values = VALUES.copy()
    values[5000:5300] = np.nan
    _, seen = Envelope(STEPS, values).window(-np.inf, np.inf, 500)
    assert np.isnan(seen).any()
    assert np.nanmax(seen) == np.nanmax(values)


def test_that_a_long_curve_is_drawn_from_few_points_and_in_full_when_zoomed(qtbot):
    card = LinesCard(DARK)
    qtbot.addWidget(card)
    card.resize(600, 300)
    card.show()
    points = Points(STEPS.astype(np.int64), VALUES)
    assert len(points) > LONG
    card.set_state(LinesState(Panel("x", "lines", ("x",)), 100, "", (Curve("x", "x", points, None),)))
    line = card._lines[0]._strong
    assert len(line.xData) < 40_000
    card.plot.view.setXRange(1000, 1100, padding=0)
    inside = (line.xData >= 1000) & (line.xData <= 1100)
    np.testing.assert_array_equal(line.xData[inside], np.arange(1000, 1101))
    card.plot.item.enableAutoRange()
    qtbot.waitUntil(lambda: card.plot.view.viewRange()[0][1] > 200_000)
    short = FakeReader("x.scope", 20).scalars("loss/train")
    few = Points(short.steps, short.values)
    card.set_state(LinesState(Panel("x", "lines", ("x",)), 10, "", (Curve("x", "x", few, None),)))
    assert len(line.xData) == 20
