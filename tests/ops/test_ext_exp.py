"""Exponentials as pairs, their sums, and what stands for 0 and infinity."""

import numpy as np
import pytest

import logitscope
from logitscope.errors import DTypeError, ShapeError
from row_oracles import SIZES, normal

inf = np.inf


def value(pair, shift=0.0):
    """The number of a pair times exp(-shift), in float64."""
    mantissa, exponent = (np.asarray(part, np.float64) for part in pair)
    return mantissa * np.exp(exponent * np.log(2) - shift)


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 4e-7), (np.float64, 1e-12)])
@pytest.mark.parametrize("size", SIZES)
def test_that_pairs_are_the_exponential(isa, dtype, limit, size):
    x = normal((3, size), dtype, 100.0)
    mantissa, exponent = logitscope.ext_exp(x)
    assert logitscope.last_kernel().startswith("ext_exp-")
    assert mantissa.dtype == exponent.dtype == dtype
    assert ((mantissa > 0.69) & (mantissa < 1.45)).all()
    np.testing.assert_array_equal(exponent, np.round(exponent))
    np.testing.assert_allclose(value((mantissa, exponent)), np.exp(x.astype(np.float64)), rtol=limit)
    total = logitscope.ext_sum(x)
    np.testing.assert_allclose(value(total), np.exp(x.astype(np.float64)).sum(-1), rtol=limit)


def test_that_adding_pairs_commutes_has_a_zero_and_gives_the_sum_of_a_row():
    x = normal((64, 33), np.float32, 300.0)
    mantissa, exponent = logitscope.ext_exp(x)
    one, other = (mantissa[:, 0], exponent[:, 0]), (mantissa[:, 1], exponent[:, 1])
    np.testing.assert_array_equal(logitscope.ext_add(one, other), logitscope.ext_add(other, one))
    zero = np.float32(0), np.float32(-inf)
    np.testing.assert_array_equal(logitscope.ext_add(one, zero), one)
    total, tree = zero, [(mantissa[:, place], exponent[:, place]) for place in range(33)]
    for pair in tree:
        total = logitscope.ext_add(total, pair)
    while len(tree) > 1:
        pairs = [logitscope.ext_add(*tree[at : at + 2]) for at in range(0, len(tree) - 1, 2)]
        tree = pairs + tree[2 * len(pairs) :]
    shift = x.max(-1).astype(np.float64)
    wanted = value(logitscope.ext_sum(x), shift)
    np.testing.assert_allclose(value(total, shift), wanted, rtol=2e-6)
    np.testing.assert_allclose(value(tree[0], shift), value(total, shift), rtol=2e-6)


def test_that_limits_have_pairs_of_their_own():
    x = np.array([-inf, inf, np.nan, 0.0, -1e300])
    mantissa, exponent = logitscope.ext_exp(x)
    np.testing.assert_array_equal(mantissa, [0, inf, np.nan, 1, 0])
    np.testing.assert_array_equal(exponent, [-inf, 0, np.nan, 0, -inf])
    zero = np.array(0.0), np.array(-inf)
    np.testing.assert_array_equal(logitscope.ext_add(zero, zero), zero)
    infinite = logitscope.ext_add((np.array(inf), np.array(0.0)), (np.array(1.0), np.array(5000.0)))
    np.testing.assert_array_equal(infinite, (inf, 5000))
    np.testing.assert_array_equal(logitscope.ext_sum(np.array([-inf, -inf])), zero)
    far = logitscope.ext_add((np.array(1.0), np.array(1e5)), (np.array(1.0), np.array(-1e5)))
    np.testing.assert_array_equal(far, (1.0, 1e5))


def test_that_axes_strides_and_tensors_are_kept():
    torch = pytest.importorskip("torch")
    whole = normal((6, 7, 20), np.float32, 50.0)
    for x in (whole[::2, ::-1, ::3], whole.transpose(2, 0, 1)):
        np.testing.assert_array_equal(logitscope.ext_exp(x), logitscope.ext_exp(np.ascontiguousarray(x)))
        mantissa, exponent = logitscope.ext_sum(x, 1, keepdims=True)
        assert mantissa.shape == exponent.shape == (x.shape[0], 1, x.shape[2])
    pair = logitscope.ext_exp(torch.from_numpy(whole))
    assert all(isinstance(one, torch.Tensor) for one in (*pair, *logitscope.ext_add(pair, pair)))
    assert logitscope.ext_exp(np.array(0.0))[0].shape == ()
    assert logitscope.ext_exp(np.zeros((0, 3)))[0].shape == (0, 3)


def test_that_16_bit_numbers_have_pairs_of_float32():
    x = normal((3, 20), np.float16, 30.0)
    pair = logitscope.ext_exp(x)
    np.testing.assert_array_equal(pair, logitscope.ext_exp(x.astype(np.float32)))
    assert pair[0].dtype == np.float32


def test_that_bad_input_is_refused_with_what_came_and_what_would_work():
    x, short = np.zeros(3), np.zeros(2)
    with pytest.raises(DTypeError, match=r"^ext_exp: x has dtype int64; use float32"):
        logitscope.ext_exp(np.zeros(3, np.int64))
    with pytest.raises(
        ShapeError, match=r"^ext_add: the shapes \(3,\), \(3,\), \(2,\), \(2,\) do not broadcast; use"
    ):
        logitscope.ext_add((x, x), (short, short))
    with pytest.raises(
        DTypeError, match=r"^ext_add: b\[1\] has dtype float32, a\[0\] has float64; use one dtype$"
    ):
        logitscope.ext_add((x, x), (x, x.astype(np.float32)))
