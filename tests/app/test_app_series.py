import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from logitscope_app.models.series import Points, latest_index
from logitscope_app.models.smooth import FEWEST, smoothed


def _points(steps, values):
    return Points.empty().extended(np.array(steps, np.int64), np.array(values, float))


def test_that_late_steps_are_sorted_in_and_equal_ones_keep_their_order():
    points = _points([0, 10, 20], [1, 2, 3]).extended(np.array([10, 5]), np.array([9.0, 8.0]))
    assert points.steps.tolist() == [0, 5, 10, 10, 20]
    assert points.values.tolist() == [1, 8, 2, 9, 3]
    assert points.at(15) == (10, 9.0)


def test_that_nothing_new_gives_the_same_object():
    points = _points([1], [2])
    assert points.extended(np.empty(0, np.int64), np.empty(0)) is points


def test_that_a_step_before_the_first_point_has_no_value():
    points = _points([5, 7], [1, 2])
    assert points.at(4) is None
    assert points.at(None) == (7, 2.0)


@given(st.lists(st.integers(-50, 50), max_size=20), st.integers(-60, 60))
def test_that_the_latest_index_is_the_last_not_after_the_step(steps, step):
    ordered = np.array(sorted(steps), np.int64)
    before = [index for index, each in enumerate(ordered) if each <= step]
    assert latest_index(ordered, step) == (before[-1] if before else None)


def test_that_noise_is_smoothed_and_the_mean_kept():
    values = 5 + np.random.default_rng(0).standard_normal(800)
    smooth = smoothed(values)
    assert smooth is not None
    assert smooth.std() < 0.4 * values.std()
    assert abs(smooth.mean() - values.mean()) < 0.05
    assert smooth[0] == values[0]


def test_that_a_straight_line_a_short_one_and_one_with_a_nan_are_left_alone():
    noise = np.random.default_rng(0).standard_normal(FEWEST)
    assert smoothed(np.linspace(0, 1, 500)) is None
    assert smoothed(np.ones(500)) is None
    assert smoothed(noise[:-1]) is None
    assert smoothed(noise) is not None
    assert smoothed(np.append(noise, np.nan)) is None
