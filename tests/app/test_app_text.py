import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitscope_app.models import text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (1.0, "1"),
        (2.34567, "2.346"),
        (-2.5, "−2.5"),
        (21500.4, "21,500"),
        (1e-3, "0.001"),
        (1.015e-4, "1.015e−4"),
        (-3e9, "−3e9"),
        (math.nan, "NaN"),
        (-math.inf, "−∞"),
    ],
)
def test_that_numbers_read_well(value, shown):
    assert text.number(value) == shown


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300))
def test_that_a_number_keeps_four_digits(value):
    back = float(text.number(value).replace("−", "-").replace(",", ""))
    assert math.isclose(back, value, rel_tol=6e-4, abs_tol=1e-300)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (59.9, "59 s"), (200, "3 min 20 s"), (7200, "2 h"), (90061, "1 d 1 h")]
)
def test_that_durations_have_two_units(seconds, shown):
    assert text.duration(seconds) == shown


def test_that_labels_drop_what_all_share():
    assert text.short_labels(("loss/train", "loss/validation")) == ("train", "validation")
    assert text.short_labels(("loss/train",)) == ("train",)
    assert text.short_labels(("a/b/c", "a/d")) == ("b/c", "d")
    assert text.short_labels(("grad_norm", "grad_norm/head")) == ("grad_norm", "head")
    assert text.short_labels(("loss", "lossy/x")) == ("loss", "lossy/x")


def test_that_tokens_show_their_white_space():
    assert text.token(" a\n") == "·a⏎"
    assert text.token("") == "∅"
    assert text.token("\x07") == "�"
    assert len(text.token("x" * 50)) == 12


@pytest.mark.parametrize("stored", ["", "{", '"abc"', "[1, 2]", "[" * 100_000])
def test_that_what_is_no_token_list_gives_no_tokens(stored):
    assert text.token_list(stored) == ()


def test_that_bins_cover_all_tokens_in_order():
    tokens = text.token_list(json.dumps(list("abcdefg")))
    assert text.bin_labels(tokens, 3) == ("ab", "cd", "efg")
    assert text.bin_labels(tokens, 7) == tuple("abcdefg")
    assert text.bin_labels(tokens, 8) == ()
    assert text.bin_labels(tokens, 0) == ()
