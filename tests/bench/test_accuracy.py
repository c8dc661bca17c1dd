"""Errors are measured as they are defined, and ours are nowhere larger than torch's."""

import numpy as np
import pytest

from logitscope.bench import accuracy


def test_that_the_next_number_is_one_unit_away():
    one = np.float32([1, 3, -3, 1e30])
    truth = one.astype(np.float64)
    np.testing.assert_array_equal(accuracy.ulps(one, truth), [0, 0, 0, 0])
    np.testing.assert_array_equal(accuracy.ulps(np.nextafter(one, np.float32(np.inf)), truth), [1, 1, 1, 1])


def test_that_what_is_lost_counts_and_what_is_too_small_does_not():
    got = np.float32([np.nan, np.inf, 0, 0])
    np.testing.assert_array_equal(accuracy.ulps(got, np.array([1, 1, 1, 1e-38])), [np.inf, np.inf, 2**23])


def test_that_the_truth_keeps_its_digits():
    x, own = np.array([[80.0, 0.0], [0.0, 80.0]]), np.array([0, 0])
    p = np.exp(-80.0)
    np.testing.assert_allclose(accuracy._loss(x, own), [p, 80 + p], rtol=1e-14)
    np.testing.assert_allclose(accuracy._log_softmax(x, own), [[-p, -80], [-80, -p]], rtol=1e-14)
    np.testing.assert_allclose(accuracy._gradient(x, own), [[-p, p], [-1, 1]], rtol=1e-14)


def test_that_no_error_is_larger_than_torchs():
    """Below 1 ULP is as good as a float can be asked to be: there no order is claimed."""
    torch = pytest.importorskip("torch")
    errors = {}
    for one in accuracy.measure(torch, ((64, 17), (16, 1000))):
        errors.setdefault((one.operation, one.logits), {})[one.who] = one.largest
    assert len(errors) == len(accuracy.OPERATIONS) * len(accuracy.LOGITS)
    worse = {key: both for key, both in errors.items() if both["logitscope"] > max(both["torch"], 1.0)}
    assert not worse
