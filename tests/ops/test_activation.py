"""PolyReLU and PolyNorm: values, gradients, limits, layouts and bad input."""

import numpy as np
import pytest

import logitscope
from logitscope.activation import poly_norm, poly_norm_backward, poly_relu, poly_relu_backward
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from row_oracles import SIZES, normal

WEIGHT = np.array([0.3, -0.7, 0.9])
THIRD = np.ones(3) / 3
LIMITS = {np.float32: 1e-6, np.float64: 1e-14}
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def relu_terms(x, weight=WEIGHT, bias=0.25):
    """The terms of PolyReLU in float64, the constant first."""
    p = np.maximum(np.asarray(x, np.float64), 0)
    return np.stack([np.full_like(p, bias), *(w * p ** (k + 1) for k, w in enumerate(weight[::-1]))])


def norm_terms(x, weight=WEIGHT, bias=0.25, eps=1e-6, axis=-1, scale="rms"):
    """The terms of PolyNorm in float64 as the official code computes them, the constant first."""
    x = np.asarray(x, np.float64)
    terms = [np.full_like(x, bias)]
    for k, w in enumerate(weight[::-1]):
        u = x ** (k + 1)
        squares = (u * u).mean(axis, keepdims=True) if scale == "rms" else (u * u).sum(axis, keepdims=True)
        terms.append(w * u / np.sqrt(squares + eps))
    return np.stack(terms)


def assert_near(got, terms, limit):
    """Within a few rounding errors of the largest term."""
    assert got.shape == terms.shape[1:]
    error = np.abs(got - terms.sum(0))
    assert (error <= limit * np.abs(terms).sum(0)).all(), error.max()


@dtypes
@pytest.mark.parametrize("size", SIZES)
def test_that_values_are_those_of_the_formulas(isa, dtype, size):
    x = normal((3, size), dtype, 1.5)
    assert_near(poly_relu(x, WEIGHT, 0.25), relu_terms(x), LIMITS[dtype])
    assert logitscope.last_kernel() == f"poly_relu-{np.dtype(dtype).kind}{8 * np.dtype(dtype).itemsize}-{isa}"
    for scale in ("rms", "l2"):
        y = poly_norm(x, WEIGHT, 0.25, scale=scale)
        assert y.dtype == dtype
        assert_near(y, norm_terms(x, scale=scale), 2 * LIMITS[dtype])
    assert logitscope.last_kernel().startswith("poly_norm-")


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_that_every_order_has_its_gradients(order):
    weight, x, dy = (
        normal(order, np.float64, seed=2),
        normal((4, 6), np.float64),
        normal((4, 6), np.float64, seed=1),
    )

    def slope(function, *arguments, place):
        """Of the sum of dy times the function in each element of an argument."""
        whole = np.asarray(arguments[place], np.float64)
        result = np.empty(whole.shape)
        for index in np.ndindex(whole.shape):
            moved = [whole.copy(), whole.copy()]
            moved[0][index] += 1e-6
            moved[1][index] -= 1e-6
            high, low = (function(*arguments[:place], one, *arguments[place + 1 :]).sum(0) for one in moved)
            result[index] = ((high - low) * dy).sum() / 2e-6
        return result

    for function, terms in ((poly_relu, relu_terms), (poly_norm, norm_terms)):
        if function is poly_relu:
            found = poly_relu_backward(x, dy, weight)
        else:
            found = poly_norm_backward(x, dy, weight, poly_norm(x, weight, 0.5, return_saved=True)[1])
        for place, gradient in enumerate(found):
            np.testing.assert_allclose(
                gradient, slope(terms, x, weight, 0.5, place=place), rtol=1e-6, atol=1e-7
            )


def test_that_relu_is_the_first_power():
    x = normal((5, 40), np.float32)
    np.testing.assert_array_equal(poly_relu(x, [0, 0, 1.0]), np.maximum(x, 0))
    np.testing.assert_array_equal(poly_relu(x, [1.0]), np.maximum(x, 0))
    np.testing.assert_array_equal(poly_relu(x, [0, 1.0, 0]), np.maximum(x, 0) ** 2)
    dx, _, _ = poly_relu_backward(np.float32([-1, 0, 2]), np.ones(3, np.float32), [0, 0, 1.0])
    np.testing.assert_array_equal(dx, [0, 0, 1])


def test_that_polynomials_and_products_are_sums_of_a_few_units():
    x, y = normal(1000, np.float64, 3.0), normal(1000, np.float64, 3.0, seed=1)
    # -2 x³ + x² - 4 x + 3 from the right and from the left.
    whole = poly_relu(x, [-2.0, 1, -4], 3) + poly_relu(-x, [2.0, 1, 4])
    np.testing.assert_allclose(whole, np.polyval([-2, 1, -4, 3], x), rtol=1e-12, atol=1e-9)
    square = [0.25, 0]
    product = poly_relu(x + y, square) + poly_relu(-x - y, square)
    product -= poly_relu(x - y, square) + poly_relu(y - x, square)
    np.testing.assert_allclose(product, x * y, rtol=1e-9, atol=1e-12)


def test_that_rows_may_be_scaled_and_terms_are_even_or_odd():
    x = normal((3, 50), np.float64, 10.0)
    np.testing.assert_allclose(poly_norm(x * 7, THIRD), poly_norm(x, THIRD), rtol=0, atol=1e-6)
    for index, sign in enumerate((-1, 1, -1)):
        one = np.eye(3)[index]
        np.testing.assert_allclose(poly_norm(-x, one), sign * poly_norm(x, one), rtol=0, atol=1e-15)
        root = np.sqrt((poly_norm(x, one) ** 2).mean(-1))
        assert (root <= 1 + 1e-12).all()
        np.testing.assert_allclose(np.sqrt((poly_norm(x * 1e3, one) ** 2).mean(-1)), 1, atol=1e-12)
    small = np.sqrt((poly_norm(x * 1e-3, [1.0, 0, 0]) ** 2).mean(-1))
    assert (small < 0.1).all()  # eps counts


@pytest.mark.parametrize("size", [0.0, 1e-20, 1e-10, 1e10, 1e37])
def test_that_huge_and_tiny_rows_are_those_of_float64(isa, size):
    shape = np.array([[1.0, -0.5, 0.25, 2.0]])
    x, dy = (size * shape).astype(np.float32), np.float32([[1, 0.5, -0.25, 0.125]])
    y, saved = poly_norm(x, THIRD, 0.5, return_saved=True)
    assert_near(y, norm_terms(x, THIRD, 0.5), 1e-6)
    dx, dweight, dbias = poly_norm_backward(x, dy, THIRD, saved)
    _, wide_saved = poly_norm(x.astype(float), THIRD, 0.5, return_saved=True)
    wanted = poly_norm_backward(x.astype(float), dy.astype(float), THIRD, wide_saved)
    for got, want in zip((dx, dweight, dbias), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6 * np.abs(want).max() + 1e-37)
    if size < 1e-9:
        np.testing.assert_allclose(dx, THIRD[2] * dy / np.sqrt(1e-6), rtol=1e-5)
        np.testing.assert_allclose(y, 0.5, atol=1e-6)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_that_16_bit_rows_are_computed_in_float32_and_rounded_once(isa, name):
    dtype = np.dtype(name) if name == "float16" else pytest.importorskip("ml_dtypes").bfloat16
    for x in (normal((4, 61), np.float32, 3.0).astype(dtype), np.full((1, 8), 100, dtype)):
        dy, wide = normal(x.shape, np.float32, seed=1).astype(dtype), x.astype(np.float32)
        y, saved = poly_norm(x, THIRD, return_saved=True)
        wanted, wide_saved = poly_norm(wide, THIRD, return_saved=True)
        assert (y.dtype, saved.dtype) == (dtype, np.float32)
        assert np.isfinite(y.astype(np.float32)).all()
        np.testing.assert_array_equal(y, wanted.astype(dtype))
        np.testing.assert_array_equal(
            poly_relu(x[:, ::3] / 8, THIRD), poly_relu(wide[:, ::3] / 8, THIRD).astype(dtype)
        )
        dx, dweight, dbias = poly_norm_backward(x, dy, THIRD, saved)
        wide_dx, *sums = poly_norm_backward(wide, dy.astype(np.float32), THIRD, wide_saved)
        np.testing.assert_array_equal(dx, wide_dx.astype(dtype))
        np.testing.assert_array_equal([*dweight, dbias], [*sums[0], sums[1]])
        dx, dweight, _ = poly_relu_backward(x, dy, THIRD)
        wide_dx, wide_dweight, _ = poly_relu_backward(wide, dy.astype(np.float32), THIRD)
        np.testing.assert_array_equal(dx, wide_dx.astype(dtype))
        np.testing.assert_array_equal(dweight, wide_dweight)
        assert dweight.dtype == np.float32


def test_that_nan_stays_in_its_row(isa):
    x = normal((3, 40), np.float32)
    x[1, 33] = np.nan
    y, saved = poly_norm(x, THIRD, return_saved=True)
    assert np.isnan(y).all(-1).tolist() == [False, True, False]
    assert np.isfinite(y[[0, 2]]).all()
    dx, _, _ = poly_norm_backward(x, np.ones_like(x), THIRD, saved)
    assert np.isnan(dx).all(-1).tolist() == [False, True, False]
    assert np.isfinite(dx[[0, 2]]).all()
    assert np.isnan(poly_relu(x, THIRD)).sum() == 1


def test_that_axes_strides_and_shapes_are_those_of_the_array():
    whole = normal((6, 9, 20), np.float32)
    for x in (whole, whole[::2, ::-1, ::3], whole.transpose(2, 0, 1)):
        assert_near(poly_relu(x, WEIGHT, 0.25), relu_terms(x), 1e-6)
        dy = normal(x.shape, np.float32, seed=1)
        wanted = poly_relu_backward(np.ascontiguousarray(x), dy, WEIGHT)
        for got, want in zip(poly_relu_backward(x, dy, WEIGHT), wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5)
        for axis in range(3):
            y, saved = poly_norm(x, WEIGHT, 0.25, axis=axis, return_saved=True)
            assert_near(y, norm_terms(x, axis=axis), 2e-6)
            dx, dweight, _ = poly_norm_backward(x, dy, WEIGHT, saved, axis)
            moved = np.ascontiguousarray(np.moveaxis(x, axis, -1))
            _, own = poly_norm(moved, WEIGHT, 0.25, return_saved=True)
            wanted = poly_norm_backward(moved, np.ascontiguousarray(np.moveaxis(dy, axis, -1)), WEIGHT, own)
            np.testing.assert_allclose(dx, np.moveaxis(wanted[0], -1, axis), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(dweight, wanted[1], rtol=1e-5, atol=1e-5)
    assert poly_relu(np.array(2.0), [1.0]).shape == ()
    assert poly_relu(np.zeros((0, 3)), [1.0]).shape == (0, 3)
    assert poly_relu_backward(np.zeros((3, 0)), np.zeros((3, 0)), [1.0])[1] == 0
    assert poly_norm(np.zeros((0, 3)), [1.0]).shape == (0, 3)


def test_that_what_is_kept_for_the_gradient_is_four_numbers_a_row():
    x = normal((7, 11, 100), np.float32)
    assert poly_norm(x, THIRD, return_saved=True)[1].shape == (7, 11, 4)


def test_that_sums_have_the_same_bits_at_any_number_of_threads():
    x, dy, results = normal((700, 513), np.float32), normal((700, 513), np.float32, seed=1), set()
    for threads in (1, 2, 8):
        logitscope.set_num_threads(threads)
        _, saved = poly_norm(x, THIRD, return_saved=True)
        found = (*poly_norm_backward(x, dy, THIRD, saved), *poly_relu_backward(x, dy, THIRD))
        results.add(b"".join(array.tobytes() for array in found))
    logitscope.set_num_threads(None)
    assert len(results) == 1


def test_that_tensors_give_tensors():
    torch = pytest.importorskip("torch")
    x, weight = torch.from_numpy(normal((3, 8), np.float32)), torch.ones(3) / 3
    for function in (poly_relu, poly_norm):
        y = function(x, weight, 0.5)
        assert isinstance(y, torch.Tensor)
        np.testing.assert_array_equal(y, function(x.numpy(), weight.numpy(), 0.5))
        assert function(x, weight.requires_grad_()).requires_grad
        weight = weight.detach()
    assert all(isinstance(one, torch.Tensor) for one in poly_relu_backward(x, x, weight))


X = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: poly_relu(X.astype(int), [1.0]), DTypeError, "poly_relu: x has dtype int64; use "),
        (lambda: poly_relu(X, []), ShapeError, r"poly_relu: weight has shape \(0,\); use \(r,\), 1 to 5 "),
        (
            lambda: poly_norm(X, np.ones(6)),
            ShapeError,
            r"poly_norm: weight has shape \(6,\); use \(r,\), 1 to 5 ",
        ),
        (lambda: poly_norm(X, ["a"]), DTypeError, "poly_norm: weight has dtype <U1; use numbers"),
        (
            lambda: poly_relu(X, [1.0], [1.0, 2]),
            ShapeError,
            r"poly_relu: bias is float64 of shape \(2,\); use one",
        ),
        (
            lambda: poly_norm(X, [1.0], eps=0),
            ArgumentError,
            "poly_norm: eps is 0.0; use a positive finite number",
        ),
        (
            lambda: poly_norm(X, [1.0], scale="max"),
            ArgumentError,
            "poly_norm: scale is 'max'; use 'rms' or 'l2'",
        ),
        (
            lambda: poly_norm(X[:, :0], [1.0]),
            ShapeError,
            r"poly_norm: axis -1 of shape \(2, 0\) has no elements",
        ),
        (lambda: poly_norm(X, [1.0], axis=2), np.exceptions.AxisError, "poly_norm: axis 2 is out of range"),
        (
            lambda: poly_relu_backward(X, X[:1], [1.0]),
            ShapeError,
            r"poly_relu_backward: dy has shape \(1, 3\); use",
        ),
        (
            lambda: poly_norm_backward(X, X, [1.0], X),
            ShapeError,
            r"poly_norm_backward: saved has shape \(2, 3\); use \(2, 2\), as poly_norm returned it",
        ),
    ],
)
def test_that_bad_input_is_refused_with_what_came_and_what_would_work(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()
