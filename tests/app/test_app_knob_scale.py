import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitscope.record import KnobInfo
from logitscope_app.models.knob_scale import position, typed, value_at

LINEAR = KnobInfo("pace", 1.0, 0.0, 4.0, 1.0, 1.0)
LOG = KnobInfo("rate", 1e-3, 1e-5, 1e-1, 1e-3, 1e-3, log=True)


@pytest.mark.parametrize("knob", [LINEAR, LOG])
@given(place=st.floats(0, 1))
def test_that_a_place_and_its_value_belong_together(knob, place):
    assert position(knob, value_at(knob, place)) == pytest.approx(place, abs=6e-3)


def test_that_the_ends_are_the_ends():
    assert (value_at(LOG, 0.0), value_at(LOG, 1.0)) == (1e-5, 1e-1)
    assert (position(LINEAR, -9), position(LINEAR, 9)) == (0.0, 1.0)


def test_that_a_logarithmic_knob_from_zero_falls_back_to_linear():
    knob = KnobInfo("k", 0.0, 0.0, 10.0, 0.0, 0.0, log=True)
    assert value_at(knob, 0.5) == 5.0
    assert position(KnobInfo("k", 1.0, 1.0, 1.0, 1.0, 1.0), 1.0) == 0.0


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2.0), (" 0,5 ", 0.5), ("1e9", 4.0), ("−3", 0.0), ("", None), ("nan", None), ("x", None)],
)
def test_that_typed_values_are_held_inside_or_refused(text, value):
    assert typed(LINEAR, text) == value
