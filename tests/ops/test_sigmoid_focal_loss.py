"""The focal loss of logits and factors of binary cross entropy: values, gradients, limits, bad input."""

import numpy as np
import pytest

import logitscope
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.loss import binary_cross_entropy_with_logits, sigmoid_focal_loss
from row_oracles import SIZES, assert_relative, normal

INF = np.inf


def by_formula(z, t, gamma, alpha):
    """The loss and its derivative in float64."""
    z, t = np.asarray(z, np.float64), np.asarray(t, np.float64)
    p, q = 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(z))
    u, cross = (1 - t) * p + t * q, (1 - t) * np.logaddexp(0, z) + t * np.logaddexp(0, -z)
    factor = 1 if alpha is None else alpha * t + (1 - alpha) * (1 - t)
    slope = gamma * u ** (gamma - 1) * (1 - 2 * t) * p * q * cross + u**gamma * ((1 - t) * p - t * q)
    return factor * u**gamma * cross, factor * slope


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("gamma", "alpha"), [(0, None), (0.5, 0.25), (2, 0.25), (3.5, None)])
@pytest.mark.parametrize("size", [1, 8, 16, 17, 61, 257])
def test_that_losses_and_gradients_are_those_of_the_formula(isa, size, dtype, gamma, alpha):
    logits, rng = normal((3, size), dtype, 4.0), np.random.default_rng(0)
    targets = rng.random((3, size)).astype(dtype)
    targets[0] = rng.integers(0, 2, size)
    options = {"gamma": gamma, "alpha": alpha, "reduction": "none"}
    loss, gradient = sigmoid_focal_loss(logits, targets, **options, return_grad=True)
    assert logitscope.last_kernel().startswith("sigmoid_focal_loss-")
    assert logitscope.last_kernel().endswith(isa)
    wanted, slope = by_formula(logits, targets, gamma, alpha)
    limit = 4e-6 if dtype is np.float32 else 1e-13
    assert_relative(loss, wanted, limit)
    assert_relative(gradient, slope, 4 * limit, 4 * limit)


def test_that_confident_logits_keep_their_digits(isa):
    logits, targets = np.float32([20, -20, 40, 0]), np.float32([1, 0, 0, 1])
    loss, gradient = sigmoid_focal_loss(logits, targets, reduction="none", return_grad=True)
    wanted, slope = by_formula(logits, targets, 2.0, 0.25)
    assert_relative(loss, wanted, 2e-5)
    assert_relative(gradient, slope, 2e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_that_infinite_logits_cost_nothing_where_they_are_right(isa, gamma):
    logits, targets = np.float32([INF, -INF, INF, -INF, np.nan]), np.float32([1, 0, 0, 1, 1])
    options = {"gamma": gamma, "alpha": None, "reduction": "none"}
    loss, gradient = sigmoid_focal_loss(logits, targets, **options, return_grad=True)
    np.testing.assert_array_equal(loss, [0, 0, INF, INF, np.nan])
    np.testing.assert_array_equal(gradient, [0, 0, 1, -1, np.nan])


def test_that_gamma_0_is_binary_cross_entropy():
    logits, targets = (
        normal((3, 20), np.float32, 5.0),
        np.random.default_rng(0).random((3, 20)).astype(np.float32),
    )
    for reduction in ("mean", "sum", "none"):
        options = {"reduction": reduction, "return_grad": True}
        got = sigmoid_focal_loss(logits, targets, gamma=0, alpha=None, **options)
        wanted = binary_cross_entropy_with_logits(logits, targets, **options)
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [(), (1,), (20,), (3, 1), (3, 20), (2, 1, 20), (2, 3, 20)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_that_weights_of_any_shape_multiply_the_losses(isa, shape, reduction):
    logits = normal((2, 3, 20), np.float64, 5.0)
    targets, weight = np.random.default_rng(0).random((2, 3, 20)), np.random.default_rng(1).random(shape)
    for function in (binary_cross_entropy_with_logits, sigmoid_focal_loss):
        losses, slopes = function(logits, targets, reduction="none", return_grad=True)
        got, gradient = function(logits, targets, weight=weight, reduction=reduction, return_grad=True)
        losses, divisor = losses * weight, losses.size if reduction == "mean" else 1
        wanted = losses if reduction == "none" else losses.sum() / divisor
        np.testing.assert_allclose(got, wanted, rtol=1e-13)
        np.testing.assert_allclose(gradient, slopes * weight / divisor, rtol=1e-13)


def test_that_one_weight_a_column_serves_all_pieces():
    logits, targets = normal((3000, 33), np.float32, 2.0), np.zeros((3000, 33), np.float32)
    weight = np.arange(33, dtype=np.float32)
    got = binary_cross_entropy_with_logits(logits, targets, weight=weight, reduction="none")
    whole = np.broadcast_to(weight, logits.shape)
    np.testing.assert_array_equal(
        got, binary_cross_entropy_with_logits(logits, targets, weight=whole, reduction="none")
    )
    np.testing.assert_array_equal(got[:, 0], np.zeros(3000))


@pytest.mark.parametrize("size", SIZES[:6])
def test_that_16_bit_logits_are_computed_in_float32_and_rounded_once(size):
    logits = normal((3, size), np.float16, 4.0)
    targets = np.random.default_rng(0).integers(0, 2, (3, size)).astype(np.float16)
    loss, gradient = sigmoid_focal_loss(logits, targets, weight=0.3, return_grad=True)
    wide = logits.astype(np.float32), targets.astype(np.float32)
    wanted, slope = sigmoid_focal_loss(*wide, weight=0.3, return_grad=True)
    assert (loss.dtype, gradient.dtype) == (np.float32, np.float16)
    assert loss == wanted
    np.testing.assert_array_equal(gradient, slope.astype(np.float16))


def test_that_it_means_what_torchvision_does():
    torch = pytest.importorskip("torch")
    logits, targets = torch.randn(40, dtype=torch.float64), torch.randint(0, 2, (40,)).double()
    p = torch.sigmoid(logits)
    cross = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p_t = p * targets + (1 - p) * (1 - targets)
    wanted = (0.25 * targets + 0.75 * (1 - targets)) * cross * (1 - p_t) ** 2
    torch.testing.assert_close(sigmoid_focal_loss(logits, targets, reduction="none"), wanted)
    assert sigmoid_focal_loss(logits.requires_grad_(), targets).requires_grad


X = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"gamma": -1}, ArgumentError, "gamma is -1.0; use a finite number of at least 0"),
        ({"gamma": np.nan}, ArgumentError, "gamma is NaN; use a finite number of at least 0"),
        ({"alpha": 1.5}, ArgumentError, "alpha is 1.5; use a number in 0..1, or None"),
        ({"reduction": "max"}, ArgumentError, "reduction is 'max'; use 'mean', 'sum' or 'none'"),
        ({"weight": [1.0, 2]}, ShapeError, r"weight has shape \(2,\); use one that broadcasts to \(2, 3\)"),
        ({"weight": -1.0}, ArgumentError, "weight is -1.0; use numbers of at least 0"),
        ({"weight": ["a"]}, DTypeError, "weight has dtype <U1; use float64"),
    ],
)
def test_that_bad_input_is_refused_with_what_came_and_what_would_work(options, error, message):
    with pytest.raises(error, match=f"^sigmoid_focal_loss: {message}"):
        sigmoid_focal_loss(X, X, **options)
    with pytest.raises(ShapeError, match=r"^sigmoid_focal_loss: targets has shape \(3,\); use \(2, 3\)$"):
        sigmoid_focal_loss(X, X[0])
