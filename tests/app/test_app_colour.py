import numpy as np
import pytest

from logitscope_app.models.colour import LOG_DECADES, Scale, colorize, scale_of
from logitscope_app.theme.colormaps import MAPS, ordered, sample, table
from logitscope_app.theme.palette import DARK, LIGHT, contrast


def test_that_values_of_both_signs_get_a_symmetric_scale():
    assert scale_of(np.array([-1.0, 3.0])) == Scale(-3.0, 3.0, signed=True)
    assert scale_of(np.array([1.0, 3.0])) == Scale(1.0, 3.0)


@pytest.mark.parametrize("values", [[], [np.nan], [np.inf, -np.inf], [0.0], [-2.0, -2.0], [1e-40, 1e-39]])
@pytest.mark.parametrize("log", [False, True])
def test_that_every_array_has_a_scale_with_two_ends(values, log):
    scale = scale_of(np.array(values), log=log)
    assert scale.low < scale.high
    assert np.isfinite([scale.low, scale.high]).all()


@pytest.mark.parametrize("scale", [Scale(-2.0, 6.0), Scale(1e-4, 1.0, log=True)])
def test_that_value_inverts_position(scale):
    for position in (0.0, 0.3, 1.0):
        assert scale.position(np.array(scale.value(position))) == pytest.approx(position, abs=1e-6)


def test_that_a_log_scale_has_a_floor():
    scale = scale_of(np.array([1e-30, 1.0]), log=True)
    assert scale.low == pytest.approx(10.0**-LOG_DECADES)
    assert scale.position(np.array([0.0, 1e-30]))[0] == 0


def test_that_nan_has_a_colour_of_its_own_and_infinities_the_end_colours():
    image = colorize(np.array([[0.0, np.nan], [np.inf, -np.inf]]), Scale(0, 1), table("viridis"), (1, 2, 3))
    assert image.shape == (2, 2, 3)
    assert image[0, 1].tolist() == [1, 2, 3]
    assert image[1, 0].tolist() == table("viridis")[-1].tolist()
    assert image[1, 1].tolist() == image[0, 0].tolist() == table("viridis")[0].tolist()


@pytest.mark.parametrize("name", ["viridis", "ink"])
def test_that_maps_of_amounts_change_their_lightness_evenly(name):
    lightness = table(name) @ np.array([0.2126, 0.7152, 0.0722])
    change = np.diff(lightness)
    assert (change >= -0.6).all() or (change <= 0.6).all()


def test_that_tables_have_256_colours_and_are_shared_read_only():
    for name in MAPS:
        assert table(name).shape == (256, 3)
        assert table(name) is table(name)
        assert not table(name).flags.writeable


@pytest.mark.parametrize("palette", [DARK, LIGHT], ids=lambda palette: palette.name)
def test_that_text_and_lines_stand_out(palette):
    assert contrast(palette.text, palette.surface) >= 7
    for colour in (palette.muted, palette.good, palette.warn, palette.bad):
        assert contrast(colour, palette.surface) >= 4.5
    for colour in palette.series:
        assert contrast(colour, palette.surface) >= 3
    for colour in ordered(6, palette.ramp):
        assert contrast(colour, palette.surface) >= 1.6


def test_that_samples_are_held_inside():
    assert sample("viridis", -1.0) == sample("viridis", 0.0)
    assert ordered(1, (0.5, 1.0)) == (sample("viridis", 0.5),)
