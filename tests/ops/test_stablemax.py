"""StableMax and its logarithm: values, gradients, edges and bad input."""

import numpy as np
import pytest

import logitscope
from logitscope.errors import DTypeError, ShapeError
from row_oracles import SIZES, assert_relative, normal


def grow(x):
    z = np.asarray(x, np.longdouble)
    return np.where(z < 0, 1 / (1 + np.abs(z)), 1 + np.abs(z))


def stablemax(x, axis=-1):
    s = grow(x)
    return (s / s.sum(axis, keepdims=True)).astype(np.float64)


def log_stablemax(x):
    s = grow(x)
    total = s.sum(-1, keepdims=True)
    others = np.stack([np.delete(s, k, -1).sum(-1) for k in range(s.shape[-1])], -1)
    return np.where(s > total / 2, np.log1p(-np.minimum(others / total, 0.9)), np.log(s / total)).astype(
        np.float64
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [size for size in SIZES if size < 300])
def test_values_agree_with_extended_precision(isa, size, dtype):
    eps = float(np.finfo(dtype).eps)
    for deviation in (1.0, 1e4, 1e30):
        x = normal((3, size), dtype, deviation)
        x[0, 0] = 1e6 * deviation
        assert_relative(logitscope.stablemax(x), stablemax(x), 8 * eps, 2e-38)
        assert logitscope.last_kernel().startswith("stablemax-")
        assert logitscope.last_kernel().endswith(isa)
        y = logitscope.log_stablemax(x)
        assert y.dtype == dtype
        assert (y <= 0).all()
        assert_relative(y, log_stablemax(x), 8 * eps, 1e-38)


@pytest.mark.parametrize("size", SIZES)
def test_gradients_agree_with_float64(isa, size):
    for dtype, limit in ((np.float32, 2e-6), (np.float64, 1e-14)):
        x, dy = normal((3, size), dtype, 3.0), normal((3, size), dtype, seed=1)
        x[:, 0] = 0
        p = stablemax(x)
        wanted = p * (dy - (p * dy).sum(-1, keepdims=True)) / (1 + np.abs(np.float64(x)))
        dx = logitscope.stablemax_backward(x, logitscope.stablemax(x), dy)
        assert_relative(dx, wanted, limit, limit)
        wanted = (dy - p * dy.sum(-1, keepdims=True, dtype=np.float64)) / (1 + np.abs(np.float64(x)))
        dx = logitscope.log_stablemax_backward(x, logitscope.log_stablemax(x), dy)
        assert_relative(dx, wanted, limit, 4 * limit)


@pytest.mark.parametrize("name", ["stablemax", "log_stablemax"])
def test_gradients_agree_with_finite_differences(name):
    forward, backward = getattr(logitscope, name), getattr(logitscope, f"{name}_backward")
    x, dy = normal((2, 5), np.float64), normal((2, 5), np.float64, seed=1)
    x[0, 0] = 0  # both slopes are 1 there
    dx = backward(x, forward(x), dy)
    for index in np.ndindex(x.shape):
        moved = np.zeros_like(x)
        moved[index] = 1e-6
        slope = (forward(x + moved) - forward(x - moved)) / 2e-6
        assert abs((slope * dy).sum() - dx[index]) < 1e-6


@pytest.mark.parametrize("lane", [0, 15, 16, 66])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_or_inf_in_any_lane_spoils_its_row_alone(isa, bad, lane):
    clean = normal((3, 67), np.float32)
    for function in (logitscope.stablemax, logitscope.log_stablemax):
        x = clean.copy()
        x[1, lane] = bad
        y = function(x)
        assert np.isnan(y[1]).all()
        np.testing.assert_array_equal(y[[0, 2]], function(clean)[[0, 2]])


def test_negative_infinity_has_probability_zero_and_alone_no_result(isa):
    x = np.full((2, 19), -np.inf, np.float32)
    x[0, [3, 7]] = 5, 5
    np.testing.assert_array_equal(logitscope.stablemax(x)[0], 0.5 * np.isin(np.arange(19), (3, 7)))
    y = logitscope.log_stablemax(x)
    assert_relative(y[0, [3, 7]], [-np.log(2)] * 2, 1e-7)
    assert (y[0, [0, 18]] == -np.inf).all()
    assert np.isnan(y[1]).all()
    assert np.isnan(logitscope.stablemax(x)[1]).all()


def test_layouts_threads_and_tensors():
    torch = pytest.importorskip("torch")
    whole = normal((6, 7, 20), np.float32, 3.0)
    for x in (whole, whole[::2, ::-1, ::3], whole.transpose(2, 0, 1)):
        for axis in range(3):
            assert_relative(logitscope.stablemax(x, axis), stablemax(x, axis), 1e-6)
    tensor = torch.from_numpy(whole)
    torch.testing.assert_close(logitscope.log_stablemax(tensor).exp(), logitscope.stablemax(tensor))
    assert logitscope.stablemax(np.array(3.0)) == 1
    assert logitscope.log_stablemax(np.zeros((0, 3))).shape == (0, 3)
    x, results = normal((700, 513), np.float32), set()
    for threads in (1, 2, 8):
        logitscope.set_num_threads(threads)
        results.add((logitscope.stablemax(x).tobytes(), logitscope.log_stablemax(x).tobytes()))
    logitscope.set_num_threads(None)
    assert len(results) == 1


def test_bad_input_is_refused_with_what_came_and_what_would_work():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(
        DTypeError, match=r"^stablemax: x has dtype int64; use float32, float64, float16 or bfloat16$"
    ):
        logitscope.stablemax(np.zeros(3, np.int64))
    with pytest.raises(ShapeError, match=r"^log_stablemax_backward: dy has shape \(3,\); use \(2, 3\)$"):
        logitscope.log_stablemax_backward(x, x, x[0])
    with pytest.raises(np.exceptions.AxisError, match=r"^log_stablemax: axis 2 is out of range for shape"):
        logitscope.log_stablemax(x, 2)
