"""Softmax over the k largest: values, ties, gradients, edges and bad input."""

import numpy as np
import pytest

import logitscope
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from row_oracles import SIZES, assert_relative, normal, softmax


def truth(x, k, axis=-1):
    indices = np.take(np.argsort(-np.asarray(x, np.float64), axis, kind="stable"), np.arange(k), axis)
    return softmax(np.take_along_axis(x, indices, axis), axis), indices


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_values_and_indices_agree_with_a_stable_sort(isa, size, dtype):
    # Rounded, so that there are ties.
    x = np.round(normal((3, size), dtype, 4.0) * 2) / 2
    for k in {1, min(2, size), min(8, size), min(33, size), min(200, size), size}:
        indices, weights = logitscope.topk_softmax(x, k, return_indices=True)
        assert logitscope.last_kernel().startswith("topk_softmax-")
        assert logitscope.last_kernel().endswith(isa)
        wanted, places = truth(x, k)
        np.testing.assert_array_equal(indices, places)
        assert weights.dtype == dtype
        assert indices.dtype == np.int64
        # In float64 the oracle rounds as well.
        assert_relative(
            weights, wanted, (4 if dtype is np.float32 else 40) * float(np.finfo(dtype).eps), 1e-37
        )
        dense = np.zeros_like(x)
        np.put_along_axis(dense, indices, weights, -1)
        np.testing.assert_array_equal(logitscope.topk_softmax(x, k), dense)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_limits_of_k_are_softmax_and_the_largest_alone(dtype):
    x = normal((5, 40), dtype, 3.0)
    limit = 4 * float(np.finfo(dtype).eps)
    assert_relative(logitscope.topk_softmax(x, 40), softmax(x), 10 * limit)
    np.testing.assert_array_equal(logitscope.topk_softmax(x, 1), x == x.max(-1, keepdims=True))
    for k in (1, 2, 7, 33, 40):
        y = logitscope.topk_softmax(x, k)
        np.testing.assert_allclose(y.sum(-1), 1, rtol=10 * limit)
        np.testing.assert_array_equal((y > 0).sum(-1), k)
    # Whole numbers keep their differences when they are moved.
    whole = np.round(x)
    np.testing.assert_array_equal(logitscope.topk_softmax(whole + 1000, 5), logitscope.topk_softmax(whole, 5))


@pytest.mark.parametrize("k", [2, 8, 40])
def test_weights_are_those_of_torch_topk_softmax_and_scatter(k):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(normal((64, 40), np.float32, 3.0))
    values, indices = x.topk(k)
    # In float64: torch's own softmax is off by more than 1e-7 in float32.
    wanted = torch.zeros(x.shape).double().scatter(-1, indices, torch.softmax(values.double(), -1))
    torch.testing.assert_close(logitscope.topk_softmax(x, k).double(), wanted, rtol=0, atol=1e-7)


def test_gradients_agree_with_finite_differences():
    x, dy = normal((2, 7), np.float64), normal((2, 7), np.float64, seed=1)
    dx = logitscope.topk_softmax_backward(logitscope.topk_softmax(x, 3), dy)
    for index in np.ndindex(x.shape):
        moved = np.zeros_like(x)
        moved[index] = 1e-6
        slope = logitscope.topk_softmax(x + moved, 3) - logitscope.topk_softmax(x - moved, 3)
        assert abs((slope * dy).sum() / 2e-6 - dx[index]) < 1e-8
    indices, weights = logitscope.topk_softmax(x, 3, return_indices=True)
    own = np.take_along_axis(dy, indices, -1)
    sparse = logitscope.topk_softmax_backward(weights, own, indices=indices, size=7)
    np.testing.assert_allclose(sparse, dx, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("k", [2, 40])
def test_special_values(isa, k):
    inf, nan = np.inf, np.nan
    x = np.zeros((4, 70), np.float32)
    x[0] = -inf
    x[1, [5, 69]] = inf
    x[2, [3, 69]] = -inf, nan
    x[3, 1:] = -inf
    indices, weights = logitscope.topk_softmax(x, k, return_indices=True)
    dense = logitscope.topk_softmax(x, k)
    assert np.isnan(dense[2]).all()
    np.testing.assert_array_equal(dense[[0, 3]], [np.zeros(70), np.arange(70) == 0])
    np.testing.assert_array_equal(dense[1], 0.5 * np.isin(np.arange(70), [5, 69]))
    np.testing.assert_array_equal(weights[0], np.zeros(k))
    np.testing.assert_array_equal(weights[1], 0.5 * (np.arange(k) < 2))
    assert np.isnan(weights[2]).all()
    np.testing.assert_array_equal(weights[3], np.arange(k) == 0)
    np.testing.assert_array_equal(indices[[0, 2, 3]], [np.arange(k)] * 3)
    np.testing.assert_array_equal(indices[1, :2], [5, 69])


def test_huge_logits_and_offsets():
    x = np.float32([[1e30, -1e30, 1e30, 0]])
    indices, weights = logitscope.topk_softmax(x, 2, return_indices=True)
    np.testing.assert_array_equal(weights, [[0.5, 0.5]])
    np.testing.assert_array_equal(indices, [[0, 2]])
    np.testing.assert_array_equal(logitscope.topk_softmax(np.float32([3, 1, 2]), 1), [1, 0, 0])


def test_layouts_threads_and_tensors():
    torch = pytest.importorskip("torch")
    whole = normal((6, 7, 20), np.float32)
    for x in (whole, whole[::2, ::-1, ::3], whole.transpose(2, 0, 1)):
        for axis in range(3):
            k = min(3, x.shape[axis])
            indices, weights = logitscope.topk_softmax(x, k, axis, return_indices=True)
            wanted, places = truth(x, k, axis)
            np.testing.assert_array_equal(indices, places)
            assert_relative(weights, wanted, 1e-6)
            dense = np.zeros_like(x)
            np.put_along_axis(dense, indices, weights, axis)
            np.testing.assert_array_equal(logitscope.topk_softmax(x, k, axis), dense)
            dx = logitscope.topk_softmax_backward(
                weights, np.ones_like(weights), axis, indices=indices, size=x.shape[axis]
            )
            assert dx.shape == x.shape
            assert np.abs(dx).max() < 1e-6
    indices, weights = logitscope.topk_softmax(torch.from_numpy(whole), 4, return_indices=True)
    values, places = torch.from_numpy(whole).topk(4)
    torch.testing.assert_close(weights, torch.softmax(values, -1))
    torch.testing.assert_close(indices, places)
    assert logitscope.topk_softmax(np.array(3.0), 1) == 1
    assert logitscope.topk_softmax(np.array(3.0), 1, return_indices=True) == (0, 1)
    assert logitscope.topk_softmax(np.zeros((0, 3)), 2, return_indices=True)[1].shape == (0, 2)
    assert logitscope.topk_softmax(np.zeros((0, 3)), 2).shape == (0, 3)
    x, results = normal((700, 513), np.float32), set()
    for threads in (1, 2, 8):
        logitscope.set_num_threads(threads)
        indices, weights = logitscope.topk_softmax(x, 6, return_indices=True)
        results.add((weights.tobytes(), indices.tobytes(), logitscope.topk_softmax(x, 6).tobytes()))
    logitscope.set_num_threads(None)
    assert len(results) == 1


def test_bad_input_is_refused_with_what_came_and_what_would_work():
    x = np.zeros((2, 3), np.float32)
    indices, weights = logitscope.topk_softmax(x, 2, return_indices=True)
    for k in (0, 4, -1):
        with pytest.raises(ArgumentError, match=rf"^topk_softmax: k is {k}; use 1..3$"):
            logitscope.topk_softmax(x, k)
    with pytest.raises(DTypeError, match=r"^topk_softmax: x has dtype int64; use float32, float64, float16"):
        logitscope.topk_softmax(np.zeros(3, np.int64), 1)
    with pytest.raises(
        ShapeError, match=r"^topk_softmax_backward: indices has shape \(2, 1\); use \(2, 2\)$"
    ):
        logitscope.topk_softmax_backward(weights, weights, indices=indices[:, :1], size=3)
    with pytest.raises(DTypeError, match=r"^topk_softmax_backward: indices has dtype float32; use int64$"):
        logitscope.topk_softmax_backward(weights, weights, indices=weights, size=3)
    with pytest.raises(ArgumentError, match=r"^topk_softmax_backward: indices reach from 0 to 1; use 0..0$"):
        logitscope.topk_softmax_backward(weights, weights, indices=indices, size=1)
    with pytest.raises(
        ArgumentError, match=r"^topk_softmax_backward: size is None; use the length of the axis"
    ):
        logitscope.topk_softmax_backward(weights, weights, indices=indices)
