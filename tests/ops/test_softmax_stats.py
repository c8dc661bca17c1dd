"""Statistics of logits: values, limits, layouts, threads and bad input."""

import numpy as np
import pytest

import logitscope
from logitscope.errors import DTypeError, ShapeError
from row_oracles import SIZES, assert_relative, logsumexp, normal, softmax


def truth(x, axis=-1):
    z, p = np.asarray(x, np.float64), softmax(x, axis)
    entropy = -(p * np.log(p, where=p > 0, out=np.zeros_like(p))).sum(axis)
    return z.max(axis), z.argmax(axis), logsumexp(z, axis), entropy, z.mean(axis), z.std(axis)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [*SIZES, 5000])
def test_values_agree_with_float64(isa, size, dtype):
    eps = float(np.finfo(dtype).eps)
    for deviation, offset in ((1.0, 0.0), (12.0, -40.0), (0.01, 300.0)):
        x = normal((3, size), dtype, deviation) + dtype(offset)
        got = logitscope.softmax_stats(x)
        assert logitscope.last_kernel().startswith("softmax_stats-")
        assert logitscope.last_kernel().endswith(isa)
        largest, argmax, lse, entropy, mean, std = truth(x)
        np.testing.assert_array_equal(got.max, largest)
        np.testing.assert_array_equal(got.argmax, argmax)
        assert got.argmax.dtype == np.int64
        assert got.lse.dtype == got.entropy.dtype == got.logit_std.dtype == dtype
        assert_relative(got.lse, lse, 2 * eps, 4 * eps)
        assert_relative(got.entropy, entropy, 10 * eps, 10 * eps)
        assert_relative(got.logit_mean, mean, 4 * eps, 4 * eps * deviation)
        assert_relative(got.logit_std, std, 20 * eps, 4 * eps)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_any_axis_and_any_strides(axis):
    whole = normal((6, 8, 30), np.float32)
    for x in (whole, whole[::2, ::-1], whole.transpose(2, 0, 1)):
        for got, wanted in zip(logitscope.softmax_stats(x, axis), truth(x, axis), strict=True):
            assert_relative(got, wanted, 1e-5, 1e-6)


def test_the_first_of_equal_largest_is_named():
    x = np.zeros((2, 5000), np.float32)
    x[0, [17, 1500, 4000]] = 2
    x[1, [1024, 2048]] = 2
    np.testing.assert_array_equal(logitscope.softmax_stats(x).argmax, [17, 1024])


@pytest.mark.parametrize("size", [3, 40, 3000, 200_000])
def test_limits(isa, size):
    inf, nan = np.inf, np.nan
    x = np.zeros((4, size), np.float32)
    x[0] = -inf
    x[1, -1] = inf
    x[2, [1, size - 1]] = nan, inf
    x[3, 0] = -inf
    got = logitscope.softmax_stats(x)
    np.testing.assert_array_equal(got.max, [-inf, inf, nan, 0])
    np.testing.assert_array_equal(got.argmax, [0, size - 1, 1, 1])
    assert_relative(got.lse[3], np.log(size - 1), 1e-6)
    np.testing.assert_array_equal(got.lse[:3], [-inf, inf, nan])
    np.testing.assert_array_equal(got.entropy[:3], [nan, nan, nan])
    assert_relative(got.entropy[3], np.log(size - 1), 1e-6)
    np.testing.assert_array_equal(got.logit_mean, [-inf, inf, nan, -inf])
    assert np.isnan(got.logit_std).all()


def test_a_huge_row_agrees_and_has_the_same_bits_at_any_number_of_threads(isa):
    x = normal(300_001, np.float32, 5.0)
    results = []
    for threads in (1, 2, 4):
        logitscope.set_num_threads(threads)
        results.append(tuple(float(number) for number in logitscope.softmax_stats(x)))
    logitscope.set_num_threads(None)
    assert len(set(results)) == 1
    for got, wanted in zip(results[0], truth(x), strict=True):
        assert abs(got - wanted) <= 2e-6 * max(1, abs(wanted))


def test_tensors_scalars_and_empty_arrays():
    torch = pytest.importorskip("torch")
    x = torch.randn(3, 4)
    stats = logitscope.softmax_stats(x, 0)
    torch.testing.assert_close(stats.lse, torch.logsumexp(x, 0))
    torch.testing.assert_close(stats.argmax, x.argmax(0))
    assert logitscope.softmax_stats(np.array(2.0)).max == 2
    assert logitscope.softmax_stats(np.zeros((0, 3))).entropy.shape == (0,)


def test_bad_input_is_refused_with_what_came_and_what_would_work():
    with pytest.raises(DTypeError, match=r"^softmax_stats: x has dtype int64; use float32, float64, float16"):
        logitscope.softmax_stats(np.zeros(3, np.int64))
    with pytest.raises(ShapeError, match=r"^softmax_stats: axis -1 of shape \(2, 0\) has no elements; use"):
        logitscope.softmax_stats(np.zeros((2, 0)))
