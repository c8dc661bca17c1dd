import numpy as np
import pytest

from logitscope_app.models.timeline import PLAY_SECONDS, Timeline

STEPS = Timeline(np.array([0, 10, 20, 30, 100]), np.array([10, 100]))


@pytest.mark.parametrize(
    ("step", "near"), [(-5, 0), (4, 0), (6, 10), (16, 20), (64, 30), (66, 100), (1e9, 100)]
)
def test_that_a_step_snaps_to_the_nearest_recorded_one(step, near):
    assert STEPS.snapped(step) == near


@pytest.mark.parametrize(
    ("step", "by", "there"), [(10, 1, 20), (10, -1, 0), (0, -1, 0), (30, 9, 100), (15, 1, 20), (15, -1, 10)]
)
def test_that_moving_counts_recorded_steps_and_stays_inside(step, by, there):
    assert STEPS.moved(step, by) == there


def test_that_moving_by_pictures_skips_the_steps_between():
    assert STEPS.moved(10, 1, pictures=True) == 100
    assert STEPS.moved(100, -1, pictures=True) == 10


def test_that_playing_takes_the_same_time_for_every_run_and_stops_at_the_end():
    assert STEPS.advanced(0, PLAY_SECONDS / 2, 1.0) == 50
    assert STEPS.advanced(0, PLAY_SECONDS / 2, 0.5) == 25
    assert STEPS.advanced(90, PLAY_SECONDS, 4.0) == 100


@pytest.mark.parametrize(("last", "end"), [(0, 0), (19, 19), (239, 240), (1043, 1050), (9999, 10000)])
def test_that_axes_end_at_a_round_step_soon_after_the_last(last, end):
    assert Timeline(np.array([0, last])).span == (0, end)


def test_that_an_empty_run_has_no_steps():
    empty = Timeline()
    assert empty.span is empty.first is empty.last is empty.snapped(3) is empty.picture_at(None) is None
    assert empty.moved(7, 1) == 7
    assert empty.advanced(7.0, 1.0, 1.0) == 7.0
