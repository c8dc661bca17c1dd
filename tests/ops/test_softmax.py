"""Softmax: values, gradients, edges, layouts and bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import logitscope
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from row_oracles import LIMITS, SIZES, assert_relative, logsumexp, normal, softmax

ALGORITHMS = ["three_pass_recompute", "three_pass_reload", "two_pass", "online"]
TINY = {np.float32: 4e-38, np.float64: 1e-307}

rows = hnp.arrays(
    np.float32,
    st.integers(1, 70),
    elements=st.floats(-1e4, 1e4, width=32),
)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_probabilities_agree_with_float64_however_small(isa, size, dtype, algorithm):
    for deviation in (1.0, 20.0):
        x = normal((3, size), dtype, deviation)
        y = logitscope.softmax(x, algorithm=algorithm)
        element = "f32" if dtype is np.float32 else "f64"
        assert logitscope.last_kernel() == f"softmax_{algorithm}-{element}-{isa}"
        assert y.dtype == dtype
        # The oracle itself rounds x - max: half a unit of it in float64.
        assert_relative(y, softmax(x), 4e-7 if dtype is np.float32 else 1e-13, TINY[dtype])
        if size == 1:
            assert (y == 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_gradients_agree_with_float64(isa, size, dtype):
    x, dy = normal((3, size), dtype, 2.0), normal((3, size), dtype, seed=1)
    y = logitscope.softmax(x, temperature=0.5)
    p = softmax(x, temperature=0.5)
    wanted = p * (dy - (p * dy).sum(-1, keepdims=True)) / 0.5
    dx = logitscope.softmax_backward(y, dy, temperature=0.5)
    assert isa in logitscope.last_kernel()
    assert_relative(dx, wanted, LIMITS[dtype], LIMITS[dtype] * np.abs(wanted).max())


def test_gradients_agree_with_finite_differences():
    x, dy = normal((2, 5), np.float64), normal((2, 5), np.float64, seed=1)
    dx = logitscope.softmax_backward(logitscope.softmax(x), dy)
    step = 1e-6
    for index in np.ndindex(x.shape):
        moved = np.zeros_like(x)
        moved[index] = step
        slope = (logitscope.softmax(x + moved) - logitscope.softmax(x - moved)) / (2 * step)
        assert abs((slope * dy).sum() - dx[index]) < 1e-8


@pytest.mark.parametrize("size", [8192, 131_072, 131_073, 200_003])
def test_long_rows_agree_by_either_algorithm(size):
    x = normal(size, np.float32, 5.0)
    wanted = softmax(x)
    for algorithm in ("auto", *ALGORITHMS):
        y = logitscope.softmax(x, algorithm=algorithm)
        assert_relative(y, wanted, 4e-7, TINY[np.float32])
        assert abs(float(y.sum(dtype=np.float64)) - 1) < 1e-6


def test_ten_million_probabilities_sum_to_one():
    x = normal(10_000_000, np.float32)
    for algorithm in ALGORITHMS:
        total = logitscope.softmax(x, algorithm=algorithm).sum(dtype=np.float64)
        assert abs(total - 1) <= 1e-6


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_any_axis_and_any_strides(axis):
    whole = normal((6, 7, 20), np.float32, 3.0)
    for x in (whole, whole[::2, ::-1, ::3], whole.transpose(2, 0, 1), np.asfortranarray(whole)):
        y = logitscope.softmax(x, axis)
        assert_relative(y, softmax(x, axis), 4e-7)
        dy = normal(x.shape, np.float32, seed=1)
        dx = logitscope.softmax_backward(y, dy, axis)
        wanted = y * (dy - (np.float64(y) * dy).sum(axis, keepdims=True))
        assert_relative(dx, wanted, 1e-5, 1e-7)


@pytest.mark.parametrize("size", [1, 1000, 2001])
def test_blocks_smaller_than_the_array_change_nothing(monkeypatch, size):
    from logitscope.ops import _rows

    x = normal((2, 30, 40), np.float32)
    wanted = [logitscope.softmax(np.ascontiguousarray(x.T), axis) for axis in range(3)]
    monkeypatch.setattr(_rows, "BLOCK_BYTES", size)
    for axis in range(3):
        np.testing.assert_array_equal(logitscope.softmax(x.T, axis), wanted[axis])
        assert_relative(logitscope.logsumexp(x.T, axis), logsumexp(x.T, axis), 1e-6, 1e-6)


def test_out_takes_the_result_and_may_be_the_input():
    x = normal((5, 33), np.float32)
    wanted = logitscope.softmax(x)
    out = np.full((5, 66), 7.0, np.float32)
    assert logitscope.softmax(x, out=out[:, ::2]).base is out
    np.testing.assert_array_equal(out[:, ::2], wanted)
    assert (out[:, 1::2] == 7).all()
    assert logitscope.softmax(x, out=x) is x
    np.testing.assert_array_equal(x, wanted)


def test_out_that_cannot_take_the_result_is_refused():
    x = np.zeros((4, 6), np.float32)
    buffer = np.zeros(30, np.float32)
    read_only = np.zeros((4, 6), np.float32)
    read_only.flags.writeable = False
    shifted = buffer[:24].reshape(4, 6), buffer[6:].reshape(4, 6)
    with pytest.raises(ShapeError, match=r"^softmax: out has shape \(4, 5\); use \(4, 6\)$"):
        logitscope.softmax(x, out=np.zeros((4, 5), np.float32))
    with pytest.raises(DTypeError, match=r"^softmax: out has dtype float64; use float32$"):
        logitscope.softmax(x, out=np.zeros((4, 6)))
    with pytest.raises(DTypeError, match=r"^softmax: out is a list; use"):
        logitscope.softmax(x, out=[0.0])
    with pytest.raises(ArgumentError, match=r"^softmax: out is read-only; use"):
        logitscope.softmax(x, out=read_only)
    with pytest.raises(ArgumentError, match=r"^softmax: out overlaps x in part; use"):
        logitscope.softmax(shifted[0], out=shifted[1])


def test_arrays_without_axes_or_without_elements():
    assert logitscope.softmax(np.array(3.0)) == 1.0
    assert logitscope.softmax(np.array(3.0), 0).shape == ()
    assert logitscope.softmax(np.zeros((0, 5), np.float32)).shape == (0, 5)
    assert logitscope.softmax(np.zeros((2, 0)), 0).shape == (2, 0)
    assert logitscope.softmax_backward(np.zeros((0, 5)), np.zeros((0, 5))).shape == (0, 5)
    with pytest.raises(
        ShapeError, match=r"^softmax: axis -1 of shape \(2, 0\) has no elements; use at least one$"
    ):
        logitscope.softmax(np.zeros((2, 0)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_or_inf_in_any_lane_spoils_its_row_alone(isa, bad, algorithm):
    clean = normal((3, 67), np.float32)
    wanted = logitscope.softmax(clean, algorithm=algorithm)
    for lane in range(67):
        x = clean.copy()
        x[1, lane] = bad
        y = logitscope.softmax(x, algorithm=algorithm)
        assert np.isnan(y[1]).all()
        np.testing.assert_array_equal(y[[0, 2]], wanted[[0, 2]])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_negative_infinity_is_probability_zero_and_alone_an_empty_row(algorithm):
    x = np.full((2, 19), -np.inf, np.float32)
    x[0, 3] = 5
    y = logitscope.softmax(x, algorithm=algorithm)
    np.testing.assert_array_equal(y[0], np.arange(19) == 3)
    assert np.isnan(y[1]).all()
    assert (logitscope.softmax(x, algorithm=algorithm, empty="zero")[1] == 0).all()


@pytest.mark.parametrize("offset", [1e4, -1e5, 65_536.0])
def test_a_common_offset_changes_nothing(offset):
    x = np.round(normal(500, np.float32, 5.0) * 64) / 64
    assert_relative(logitscope.softmax(x + np.float32(offset)), logitscope.softmax(x), 4e-7)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("huge", [88.8, 1e3, 1e6, 1e8, 3e38])
def test_huge_logits_do_not_overflow(huge, algorithm):
    x = np.float32([huge, -huge, huge])
    np.testing.assert_array_equal(logitscope.softmax(x, algorithm=algorithm), [0.5, 0, 0.5])


def test_no_denormal_is_written():
    x = np.linspace(0, -120, 5000, dtype=np.float32)
    for algorithm in ALGORITHMS:
        y = logitscope.softmax(x, algorithm=algorithm)
        assert ((y == 0) | (y >= np.finfo(np.float32).tiny)).all()


def test_any_number_of_threads_gives_the_same_bits():
    x, dy = normal((700, 513), np.float32), normal((700, 513), np.float32, seed=1)
    results = []
    for threads in (1, 2, 3, 8):
        logitscope.set_num_threads(threads)
        y = logitscope.softmax(x)
        results.append((y.tobytes(), logitscope.softmax_backward(y, dy).tobytes()))
    logitscope.set_num_threads(None)
    assert len(set(results)) == 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_huge_row_has_the_same_bits_at_any_number_of_threads(isa, algorithm):
    x = normal(400_001, np.float32, 6.0)
    results = set()
    for threads in (1, 2, 4):
        logitscope.set_num_threads(threads)
        results.add(logitscope.softmax(x, algorithm=algorithm).tobytes())
    logitscope.set_num_threads(None)
    assert len(results) == 1


@settings(deadline=None)
@given(rows, st.sampled_from(ALGORITHMS))
def test_probabilities_sum_to_one_and_keep_the_order(x, algorithm):
    y = logitscope.softmax(x, algorithm=algorithm)
    assert abs(float(y.sum(dtype=np.float64)) - 1) <= 1e-6
    order = np.argsort(x, kind="stable")
    assert (np.diff(y[order]) >= 0).all()
    assert (y >= 0).all()
    assert (y <= 1).all()


@settings(deadline=None)
@given(rows, st.randoms(use_true_random=False))
def test_permuted_logits_give_permuted_probabilities(x, random):
    order = list(range(len(x)))
    random.shuffle(order)
    assert_relative(logitscope.softmax(x[order]), logitscope.softmax(x)[order], 3e-7, 4e-38)


def test_torch_tensors_come_back_as_tensors():
    torch = pytest.importorskip("torch")
    x = torch.randn(3, 4, 5)
    for given_ in (x, x.transpose(0, 2), x[:, ::2]):
        torch.testing.assert_close(logitscope.softmax(given_, 1), torch.softmax(given_, 1))
    out = torch.empty(3, 4, 5)
    assert logitscope.softmax(x, out=out) is out
    torch.testing.assert_close(out, torch.softmax(x, -1))
    assert logitscope.softmax(torch.tensor(2.0)).shape == ()


def test_a_tensor_that_requires_a_gradient_gets_one():
    torch = pytest.importorskip("torch")
    x = torch.randn(3, 5, dtype=torch.float64)
    x[1] = -torch.inf
    dy = torch.randn(3, 5, dtype=torch.float64)
    for empty in ("nan", "zero"):
        leaf = x.clone().requires_grad_()
        y = logitscope.softmax(leaf, temperature=0.5, empty=empty)
        np.testing.assert_array_equal(y.detach(), logitscope.softmax(x, temperature=0.5, empty=empty))
        (gradient,) = torch.autograd.grad(y, leaf, dy)
        wanted = logitscope.softmax_backward(y.detach(), dy, temperature=0.5)
        torch.testing.assert_close(gradient, wanted, equal_nan=True)
        assert torch.isnan(gradient[1]).all() == (empty == "nan")
    with pytest.raises(ArgumentError, match=r"^softmax: out is given but x requires a gradient; use"):
        logitscope.softmax(leaf, out=torch.empty(3, 5, dtype=torch.float64))
    with torch.no_grad():
        assert not logitscope.softmax(leaf, out=torch.empty(3, 5, dtype=torch.float64)).requires_grad


def test_bad_input_is_refused_with_what_came_and_what_would_work():
    x = np.zeros((2, 8, 64), np.float32)
    with pytest.raises(
        np.exceptions.AxisError, match=r"^softmax: axis 3 is out of range for shape \(2, 8, 64\); use -3..2$"
    ):
        logitscope.softmax(x, 3)
    with pytest.raises(
        DTypeError, match=r"^softmax: x has dtype int64; use float32, float64, float16 or bfloat16$"
    ):
        logitscope.softmax(np.zeros(3, np.int64))
    for temperature in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ArgumentError, match=r"^softmax: temperature is .*; use a positive finite number"):
            logitscope.softmax(x, temperature=temperature)
    with pytest.raises(
        ArgumentError,
        match=r"^softmax: algorithm is 'fast'; use 'auto', 'three_pass_recompute', "
        r"'three_pass_reload', 'two_pass', 'online'$",
    ):
        logitscope.softmax(x, algorithm="fast")
    with pytest.raises(ArgumentError, match=r"^softmax: empty is 'none'; use 'nan' or 'zero'$"):
        logitscope.softmax(x, empty="none")
    with pytest.raises(ShapeError, match=r"^softmax_backward: dy has shape \(64,\); use \(2, 8, 64\)$"):
        logitscope.softmax_backward(x, x[0, 0])
    with pytest.raises(DTypeError, match=r"^softmax_backward: dy has dtype float64; use float32$"):
        logitscope.softmax_backward(x, x.astype(np.float64))
