"""Any shape, axis, strides and values: every operation on rows against float64, written as in a textbook."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import logitscope
import row_oracles
from logitscope import loss

TOLERANCES = {8: 1e-12, 4: 5e-6, 2: 2e-2}
STEPS = (slice(None), slice(None, None, 2), slice(1, None), slice(None, None, -1))


@st.composite
def views(draw, reach=50.0):
    """An array of up to four axes, seldom contiguous, and one of its axes."""
    dtype = draw(st.sampled_from(row_oracles.DTYPES))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=9))
    whole = draw(hnp.arrays(np.float64, shape, elements=st.floats(-reach, reach), fill=st.nothing()))
    steps = [draw(st.sampled_from(STEPS)) if side > 1 else slice(None) for side in shape]
    view = whole.astype(dtype)[tuple(steps)].transpose(draw(st.permutations(range(len(shape)))))
    return view, draw(st.integers(-view.ndim, view.ndim - 1))


def log_softmax(x, axis):
    """The logarithm of what is next to 1 by what is missing to 1."""
    z = np.moveaxis(x, axis, -1)
    others = np.exp(z[..., None, :] - z[..., :, None])
    others[..., np.arange(z.shape[-1]), np.arange(z.shape[-1])] = 0
    return np.moveaxis(-np.log1p(others.sum(-1)), -1, axis)


def sparsemax(x, axis):
    """The threshold from the sorted row (Martins and Astudillo, 2016)."""
    z = -np.sort(-np.moveaxis(x, axis, -1), -1)
    counts = np.arange(1, z.shape[-1] + 1)
    sums = z.cumsum(-1)
    size = (1 + counts * z > sums).sum(-1, keepdims=True)
    threshold = (np.take_along_axis(sums, size - 1, -1) - 1) / size
    return np.moveaxis(np.maximum(np.moveaxis(x, axis, -1) - threshold, 0), -1, axis)


def entmax15(x, axis):
    """The threshold by halving."""
    z = x / 2
    high = z.max(axis, keepdims=True)
    low = high - 1
    for _ in range(200):
        middle = (low + high) / 2
        above = (np.maximum(z - middle, 0) ** 2).sum(axis, keepdims=True) >= 1
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.maximum(z - low, 0) ** 2


def stablemax(x, axis):
    s = np.where(x >= 0, x + 1, 1 / (1 - np.minimum(x, 0)))
    return s / s.sum(axis, keepdims=True)


ORACLES = {
    "softmax": row_oracles.softmax,
    "log_softmax": log_softmax,
    "logsumexp": row_oracles.logsumexp,
    "sparsemax": sparsemax,
    "entmax15": entmax15,
    "stablemax": stablemax,
    "log_stablemax": lambda x, axis: np.log(stablemax(x, axis)),
}


def assert_near(got, wanted, dtype):
    tolerance = TOLERANCES[dtype.itemsize]
    assert got.dtype == dtype or (dtype.itemsize == 2 and got.dtype == np.float32)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got.astype(np.float64), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ORACLES)
@settings(deadline=None)
@given(views())
def test_values_agree_with_float64(name, drawn):
    x, axis = drawn
    before = x.copy()
    got = np.asarray(getattr(logitscope, name)(x, axis))
    assert_near(got, np.asarray(ORACLES[name](x.astype(np.float64), axis)), x.dtype)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sparsemax", "entmax15"])
@settings(deadline=None)
@given(views(reach=3.0), st.integers(0, 2**32 - 1))
def test_gradients_agree_with_float64(name, drawn, seed):
    """By the formula of each: J dy, J being symmetric but for log-softmax."""
    x, axis = drawn
    dy = np.random.default_rng(seed).standard_normal(x.shape).astype(x.dtype)
    y = getattr(logitscope, name)(x, axis)
    got = getattr(logitscope, f"{name}_backward")(y, dy, axis)
    y, dy = y.astype(np.float64), dy.astype(np.float64)
    if name == "log_softmax":
        wanted = dy - np.exp(y) * dy.sum(axis, keepdims=True)
    else:
        slope = {"softmax": y, "sparsemax": y > 0, "entmax15": np.sqrt(y)}[name]
        mean = (slope * dy).sum(axis, keepdims=True) / slope.sum(axis, keepdims=True)
        wanted = slope * (dy - mean)
    assert_near(got, wanted, x.dtype)


@settings(deadline=None)
@given(views(), st.integers(1, 9))
def test_the_largest_are_selected_as_by_a_stable_sort(drawn, k):
    x, axis = drawn
    k = min(k, x.shape[axis])
    indices, weights = logitscope.topk_softmax(x, k, axis, return_indices=True)
    order = np.argsort(-x.astype(np.float64), axis, kind="stable").take(range(k), axis)
    np.testing.assert_array_equal(indices, order)
    chosen = np.take_along_axis(x.astype(np.float64), order, axis)
    wanted = row_oracles.softmax(chosen, axis)
    assert_near(weights, wanted, x.dtype)
    dense = np.zeros(x.shape)
    np.put_along_axis(dense, order, wanted, axis)
    assert_near(logitscope.topk_softmax(x, k, axis), dense, x.dtype)


@settings(deadline=None)
@given(views())
def test_statistics_agree_with_float64(drawn):
    x, axis = drawn
    stats = logitscope.softmax_stats(x, axis)
    z = x.astype(np.float64)
    log_p = log_softmax(z, axis)
    np.testing.assert_array_equal(np.asarray(stats.max, np.float64), z.max(axis))
    np.testing.assert_array_equal(stats.argmax, z.argmax(axis))
    for got, wanted in (
        (stats.lse, row_oracles.logsumexp(z, axis)),
        (stats.entropy, -(np.exp(log_p) * log_p).sum(axis)),
        (stats.logit_mean, z.mean(axis)),
        (stats.logit_std, z.std(axis)),
    ):
        assert_near(np.asarray(got), np.asarray(wanted), x.dtype)


@settings(deadline=None)
@given(views(), st.data())
def test_losses_agree_with_float64(drawn, data):
    x, axis = drawn
    rows = np.moveaxis(x, axis, -1)
    targets = data.draw(hnp.arrays(np.int64, rows.shape[:-1], elements=st.integers(-1, rows.shape[-1] - 1)))
    losses, gradient = loss.cross_entropy(
        x, targets, axis=axis, ignore_index=-1, reduction="none", return_grad=True
    )
    flat, live = rows.reshape(-1, rows.shape[-1]), targets.reshape(-1) >= 0
    wanted, wanted_gradient = row_oracles.cross_entropy(flat, np.maximum(targets.reshape(-1), 0))
    wanted, wanted_gradient = np.where(live, wanted, 0), np.where(live[:, None], wanted_gradient, 0)
    tolerance = TOLERANCES[x.dtype.itemsize]
    np.testing.assert_allclose(
        np.asarray(losses).astype(np.float64).reshape(-1), wanted, rtol=tolerance, atol=tolerance
    )
    assert (np.asarray(losses) >= 0).all()
    assert_near(np.moveaxis(gradient, axis, -1), wanted_gradient.reshape(rows.shape), x.dtype)
