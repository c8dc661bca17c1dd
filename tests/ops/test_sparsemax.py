"""Sparsemax and 1.5-entmax: values, gradients, edges and bad input."""

import numpy as np
import pytest
import torch

import logitscope
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from row_oracles import SIZES, assert_relative, normal

NAMES = pytest.mark.parametrize("name", ["sparsemax", "entmax15"])


def truth(name, x, axis=-1):
    """The threshold by bisection in extended precision."""
    power = 1 if name == "sparsemax" else 2
    z = np.moveaxis(np.asarray(x, np.longdouble), axis, -1)
    u = (z - z.max(-1, keepdims=True)) / power
    low, high = np.full((*u.shape[:-1], 1), -1, np.longdouble), np.zeros((*u.shape[:-1], 1), np.longdouble)
    for _ in range(90):
        middle = (low + high) / 2
        above = (np.maximum(u - middle, 0) ** power).sum(-1, keepdims=True) > 1
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.moveaxis((np.maximum(u - low, 0) ** power).astype(np.float64), -1, axis)


@NAMES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_values_agree_with_bisection(isa, size, dtype, name):
    eps = float(np.finfo(dtype).eps)
    for deviation in (0.01, 1.0, 30.0):
        x = normal((3, size), dtype, deviation)
        y = getattr(logitscope, name)(x)
        assert logitscope.last_kernel().startswith(f"{name}-")
        assert logitscope.last_kernel().endswith(isa)
        assert y.dtype == dtype
        assert_relative(y, truth(name, x), 2 * eps, 2e-15)
        assert np.abs(y.sum(-1, dtype=np.float64) - 1).max() < 1e-6


@NAMES
def test_gradients_agree_with_finite_differences(name):
    forward, backward = getattr(logitscope, name), getattr(logitscope, f"{name}_backward")
    x, dy = normal((4, 6), np.float64, 0.7), normal((4, 6), np.float64, seed=1)
    y = forward(x)
    assert (y == 0).any()
    dx = backward(y, dy)
    for index in np.ndindex(x.shape):
        moved = np.zeros_like(x)
        moved[index] = 1e-7
        slope = (forward(x + moved) - forward(x - moved)) / 2e-7
        assert abs((slope * dy).sum() - dx[index]) < 1e-6


@NAMES
def test_special_values(isa, name):
    function = getattr(logitscope, name)
    clean = normal((3, 67), np.float32)
    for lane in (0, 16, 66):
        for bad in (np.nan, np.inf):
            x = clean.copy()
            x[1, lane] = bad
            y = function(x)
            assert np.isnan(y[1]).all()
            np.testing.assert_array_equal(y[[0, 2]], function(clean)[[0, 2]])
    x = np.full((2, 19), -np.inf, np.float32)
    x[0, [2, 18]] = 3e38
    y = function(x)
    np.testing.assert_array_equal(y[0], 0.5 * np.isin(np.arange(19), (2, 18)))
    assert np.isnan(y[1]).all()
    huge = np.float32([3e38, 3e38, -3e38, 3e38, -3e38])
    assert_relative(function(huge), np.array([1, 1, 0, 1, 0]) / 3, 1e-6)
    assert np.isnan(getattr(logitscope, f"{name}_backward")(y, np.zeros_like(y))[1]).all()


@NAMES
def test_layouts_threads_and_tensors(name):
    torch = pytest.importorskip("torch")
    function = getattr(logitscope, name)
    whole = normal((6, 7, 20), np.float32)
    for x in (whole, whole[::2, ::-1, ::3], whole.transpose(2, 0, 1)):
        for axis in range(3):
            assert_relative(function(x, axis), truth(name, x, axis), 1e-6, 1e-9)
    torch.testing.assert_close(function(torch.from_numpy(whole)), torch.from_numpy(function(whole)))
    assert function(np.array(3.0)) == 1
    assert function(np.zeros((0, 3))).shape == (0, 3)
    x, results = normal((700, 513), np.float32), set()
    for threads in (1, 2, 8):
        logitscope.set_num_threads(threads)
        results.add(function(x).tobytes())
    logitscope.set_num_threads(None)
    assert len(results) == 1


@NAMES
def test_bad_input_is_refused_with_what_came_and_what_would_work(name):
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(
        DTypeError, match=rf"^{name}: x has dtype int64; use float32, float64, float16 or bfloat16$"
    ):
        getattr(logitscope, name)(np.zeros(3, np.int64))
    with pytest.raises(ShapeError, match=rf"^{name}_backward: dy has shape \(3,\); use \(2, 3\)$"):
        getattr(logitscope, f"{name}_backward")(x, x[0])
    with pytest.raises(np.exceptions.AxisError, match=rf"^{name}: axis 2 is out of range for shape"):
        getattr(logitscope, name)(x, 2)


@pytest.mark.parametrize(
    "function", [logitscope.sparsemax, logitscope.entmax15, logitscope.stablemax, logitscope.log_stablemax]
)
def test_the_result_goes_into_a_given_array_or_in_place(function):
    x = normal((4, 6, 33), np.float32, 2.0)
    for axis in (-1, 1):
        wanted = function(x, axis)
        out = np.full_like(x, 7)
        assert function(x, axis, out=out) is out
        np.testing.assert_array_equal(out, wanted)
        given = x.copy()
        function(given, axis, out=given)
        np.testing.assert_array_equal(given, wanted)
    with pytest.raises(ShapeError, match=r"out has shape \(2,\); use \(4, 6, 33\)"):
        function(x, out=np.zeros(2, np.float32))
    with pytest.raises(ArgumentError, match="out is given but x requires a gradient"):
        function(torch.ones(3, requires_grad=True), out=torch.ones(3))
