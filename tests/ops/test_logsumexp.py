"""Logsumexp: values, gradients, edges and bad input."""

import numpy as np
import pytest

import logitscope
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from row_oracles import SIZES, assert_relative, logsumexp, normal, softmax


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [*SIZES, 5000])
def test_values_and_gradients_agree_with_float64(isa, size, dtype):
    eps = float(np.finfo(dtype).eps)
    for offset in (0.0, 3e4):
        x = normal((3, size), dtype, 4.0) + dtype(offset)
        lse = logitscope.logsumexp(x)
        assert isa in logitscope.last_kernel()
        assert lse.dtype == dtype
        assert_relative(lse, logsumexp(x), 2 * eps, 2 * eps)
        dlse = dtype([1.0, -0.5, 3.0])
        dx = logitscope.logsumexp_backward(x, lse, dlse)
        assert isa in logitscope.last_kernel()
        # In float64 the oracle's own rounding of x - max counts.
        assert_relative(dx, softmax(x) * dlse[:, None], 4e-7 if dtype is np.float32 else 1e-12, 1e-37)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("keepdims", [False, True])
def test_any_axis_strides_and_kept_axes(axis, keepdims):
    x = normal((6, 8, 30), np.float32).transpose(1, 2, 0)[::2]
    lse = logitscope.logsumexp(x, axis, keepdims=keepdims)
    assert_relative(lse, logsumexp(x, axis, keepdims), 3e-7, 3e-7)
    dx = logitscope.logsumexp_backward(x, lse, np.ones_like(lse), axis)
    assert_relative(dx, softmax(x, axis), 1e-6)


def test_limits_are_kept():
    inf, nan = np.inf, np.nan
    x = np.array([[-inf, -inf], [inf, 1.0], [-inf, 2.5], [nan, inf], [nan, -inf]])
    np.testing.assert_array_equal(logitscope.logsumexp(x), [-inf, inf, 2.5, nan, nan])


def test_arrays_without_axes_or_without_elements():
    scalar = logitscope.logsumexp(np.float32([1.0, 1.0]))
    assert isinstance(scalar, np.float32)
    assert logitscope.logsumexp(np.array(2.0)) == 2.0
    assert logitscope.logsumexp(np.zeros((0, 4))).shape == (0,)
    with pytest.raises(
        ShapeError, match=r"^logsumexp: axis -1 of shape \(4, 0\) has no elements; use at least one$"
    ):
        logitscope.logsumexp(np.zeros((4, 0)))


def test_any_number_of_threads_gives_the_same_bits():
    x = normal((700, 513), np.float32)
    results = set()
    for threads in (1, 2, 3, 8):
        logitscope.set_num_threads(threads)
        results.add(logitscope.logsumexp(x).tobytes())
    logitscope.set_num_threads(None)
    assert len(results) == 1


def test_torch_tensors_come_back_as_tensors():
    torch = pytest.importorskip("torch")
    x = torch.randn(3, 4, 5)
    for axis in (0, 1, 2):
        torch.testing.assert_close(logitscope.logsumexp(x, axis), torch.logsumexp(x, axis))
    assert logitscope.logsumexp(x[0, 0]).shape == ()


def test_a_tensor_that_requires_a_gradient_gets_one():
    torch = pytest.importorskip("torch")
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    for keepdims in (False, True):
        lse = logitscope.logsumexp(x, 0, keepdims=keepdims)
        assert lse.shape == ((1, 5) if keepdims else (5,))
        dlse = torch.randn_like(lse)
        (gradient,) = torch.autograd.grad(lse, x, dlse)
        torch.testing.assert_close(gradient, logitscope.logsumexp_backward(x.detach(), lse.detach(), dlse, 0))


def test_bad_input_is_refused_with_what_came_and_what_would_work():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(
        np.exceptions.AxisError, match=r"^logsumexp: axis 2 is out of range for shape \(2, 3\); use -2..1$"
    ):
        logitscope.logsumexp(x, 2)
    with pytest.raises(
        DTypeError, match=r"^logsumexp: x has dtype int64; use float32, float64, float16 or bfloat16$"
    ):
        logitscope.logsumexp([1, 2])
    with pytest.raises(ShapeError, match=r"^logsumexp_backward: lse has shape \(3,\); use \(2,\)$"):
        logitscope.logsumexp_backward(x, np.zeros(3, np.float32), np.zeros(2, np.float32))
    with pytest.raises(DTypeError, match=r"^logsumexp_backward: dlse has dtype float64; use float32$"):
        logitscope.logsumexp_backward(x, np.zeros(2, np.float32), np.zeros(2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, -20_000.0, 1e6])
def test_a_pair_keeps_the_digits_that_a_large_logarithm_loses(isa, offset, dtype):
    x = np.round(normal((3, 500), dtype, 3.0) * 8) / 8
    mantissa, exponent = logitscope.logsumexp(x + dtype(offset), return_pair=True)
    assert isa in logitscope.last_kernel()
    assert mantissa.dtype == exponent.dtype == dtype
    assert ((mantissa >= 1) & (mantissa < 2) & (exponent == np.round(exponent))).all()
    log2 = (np.longdouble(offset) + logsumexp(x)) / np.log(np.longdouble(2))
    eps = float(np.finfo(dtype).eps)
    assert_relative(np.exp2((exponent - log2).astype(np.float64)) * mantissa, np.ones(3), max(2 * eps, 1e-12))


def test_pairs_have_limits_axes_and_torch_tensors():
    inf = np.inf
    mantissa, exponent = logitscope.logsumexp(
        np.array([[-inf, -inf], [inf, 1.0], [np.nan, inf], [np.nan, -inf], [0.0, -inf]]), return_pair=True
    )
    np.testing.assert_array_equal(mantissa, [0, inf, np.nan, np.nan, 1])
    np.testing.assert_array_equal(exponent, [-inf, 0, 0, np.nan, 0])
    torch = pytest.importorskip("torch")
    x = torch.randn(3, 4, 5)
    mantissa, exponent = logitscope.logsumexp(x, 1, keepdims=True, return_pair=True)
    torch.testing.assert_close(torch.log(mantissa) + exponent * np.log(2.0), torch.logsumexp(x, 1, True))
    with pytest.raises(
        ArgumentError, match=r"^logsumexp: return_pair is True but x requires a gradient; use"
    ):
        logitscope.logsumexp(x.requires_grad_(), return_pair=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_huge_row_agrees_and_has_the_same_bits_at_any_number_of_threads(isa, dtype):
    x = normal(300_001, dtype, 5.0)
    results = []
    for threads in (1, 2, 4):
        logitscope.set_num_threads(threads)
        results.append((logitscope.logsumexp(x).tobytes(), logitscope.log_softmax(x).tobytes()))
    logitscope.set_num_threads(None)
    assert len(set(results)) == 1
    eps = float(np.finfo(dtype).eps)
    assert_relative(logitscope.logsumexp(x), logsumexp(x), 4 * eps)
    assert_relative(logitscope.log_softmax(x), np.float64(x) - logsumexp(x), 16 * eps, 16 * eps)
