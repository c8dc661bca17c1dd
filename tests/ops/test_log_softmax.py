"""Log-softmax: values, gradients, edges and bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import logitscope
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from row_oracles import LIMITS, SIZES, assert_relative, logsumexp, normal, softmax


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients_agree_with_float64(isa, size, dtype):
    x, dy = normal((3, size), dtype, 4.0), normal((3, size), dtype, seed=1)
    y = logitscope.log_softmax(x)
    assert isa in logitscope.last_kernel()
    assert y.dtype == dtype
    eps = float(np.finfo(dtype).eps)
    assert_relative(y, x - logsumexp(x, keepdims=True), 3 * eps, 4e-7 if dtype is np.float32 else 1e-14)
    dx = logitscope.log_softmax_backward(y, dy)
    assert isa in logitscope.last_kernel()
    wanted = dy - softmax(x) * dy.sum(-1, keepdims=True, dtype=np.float64)
    assert_relative(dx, wanted, LIMITS[dtype], LIMITS[dtype] * np.abs(wanted).max())


def test_a_temperature_divides_the_logits():
    x, dy = normal((3, 40), np.float64), normal((3, 40), np.float64, seed=1)
    y = logitscope.log_softmax(x, temperature=0.3)
    np.testing.assert_allclose(y, logitscope.log_softmax(x / 0.3), rtol=1e-14)
    dx = logitscope.log_softmax_backward(y, dy, temperature=0.3)
    np.testing.assert_allclose(dx, logitscope.log_softmax_backward(y, dy) / 0.3, rtol=1e-14)


@pytest.mark.parametrize("gap", [10.0, 17.0, 40.0, 80.0])
def test_the_logarithm_of_a_probability_near_one_keeps_its_digits(isa, gap):
    y = logitscope.log_softmax(np.float32([gap, 0.0]))
    assert_relative(y, [-np.log1p(np.exp(-gap)), -gap - np.log1p(np.exp(-gap))], 5e-7)


@pytest.mark.parametrize("offset", [1e4, -1e6, 1.6e7])
def test_a_common_offset_costs_no_digits(offset):
    x = np.float32([0.0, 1.0, 3.0])
    assert_relative(logitscope.log_softmax(x + np.float32(offset)), x - logsumexp(x), 3e-7)


def test_special_values():
    row = np.float32([1, 2, 3])
    for bad in (np.nan, np.inf):
        x = np.stack([row, row, row])
        x[1, 2] = bad
        y = logitscope.log_softmax(x)
        assert np.isnan(y[1]).all()
        assert np.isfinite(y[[0, 2]]).all()
    assert np.isnan(logitscope.log_softmax(np.full(5, -np.inf))).all()
    np.testing.assert_array_equal(logitscope.log_softmax(np.array([-np.inf, 2.0])), [-np.inf, 0.0])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_any_axis_strides_and_out(axis):
    x = normal((30, 40), np.float32)[::2, ::-1]
    wanted = x - logsumexp(x, axis, keepdims=True)
    out = np.empty_like(x)
    assert logitscope.log_softmax(x, axis, out=out) is out
    assert_relative(out, wanted, 1e-6)
    same = x.copy()
    np.testing.assert_array_equal(logitscope.log_softmax(same, axis, out=same), out)


@settings(deadline=None)
@given(hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-50, 50, width=32)))
def test_its_exponential_is_the_softmax(x):
    y = logitscope.log_softmax(x)
    assert (y <= 0).all()
    assert_relative(np.exp(y.astype(np.float64)), logitscope.softmax(x), 2e-5, 1e-37)


def test_any_number_of_threads_gives_the_same_bits():
    x = normal((700, 513), np.float32)
    results = set()
    for threads in (1, 2, 3, 8):
        logitscope.set_num_threads(threads)
        results.add(logitscope.log_softmax(x).tobytes())
    logitscope.set_num_threads(None)
    assert len(results) == 1


def test_a_tensor_that_requires_a_gradient_gets_one():
    torch = pytest.importorskip("torch")
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    dy = torch.randn(3, 5, dtype=torch.float64)
    for temperature in (1.0, 0.5):
        y = logitscope.log_softmax(x, temperature=temperature)
        (gradient,) = torch.autograd.grad(y, x, dy)
        wanted = logitscope.log_softmax_backward(y.detach(), dy, temperature=temperature)
        torch.testing.assert_close(gradient, wanted)
    with pytest.raises(ArgumentError, match=r"^log_softmax: out is given but x requires a gradient; use"):
        logitscope.log_softmax(x, out=torch.empty(3, 5, dtype=torch.float64))


def test_bad_input_is_refused_with_what_came_and_what_would_work():
    with pytest.raises(
        np.exceptions.AxisError, match=r"^log_softmax: axis -2 is out of range for shape \(3,\); use -1..0$"
    ):
        logitscope.log_softmax(np.zeros(3), -2)
    with pytest.raises(
        DTypeError, match=r"^log_softmax: x has dtype bool; use float32, float64, float16 or bfloat16$"
    ):
        logitscope.log_softmax(np.zeros(3, bool))
    with pytest.raises(ArgumentError, match=r"^log_softmax: temperature is 0.0; use"):
        logitscope.log_softmax(np.zeros(3), temperature=0)
    with pytest.raises(ShapeError, match=r"^log_softmax_backward: dy has shape \(2,\); use \(3,\)$"):
        logitscope.log_softmax_backward(np.zeros(3), np.zeros(2))
    with pytest.raises(ShapeError, match=r"^log_softmax: axis -1 of shape \(0,\) has no elements"):
        logitscope.log_softmax(np.zeros(0))
