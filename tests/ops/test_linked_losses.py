"""The losses of the target's probability alone."""

import numpy as np
import pytest

from logitscope.loss import (
    comp_sum_loss,
    cross_entropy,
    focal_loss,
    generalized_cross_entropy,
    poly_loss,
    symmetric_cross_entropy,
)
from row_oracles import SIZES, assert_relative, normal

# Loss, its options, its formula in p, and the derivative of the formula with respect to p.
LOSSES = {
    "comp-sum 0": (comp_sum_loss, {"tau": 0.0}, lambda p: 1 / p - 1, lambda p: -(p**-2.0)),
    "comp-sum 0.3": (comp_sum_loss, {"tau": 0.3}, lambda p: (p**-0.7 - 1) / 0.7, lambda p: -(p**-1.7)),
    "comp-sum 1": (comp_sum_loss, {"tau": 1.0}, lambda p: -np.log(p), lambda p: -1 / p),
    "comp-sum 1.7": (comp_sum_loss, {"tau": 1.7}, lambda p: (1 - p**0.7) / 0.7, lambda p: -(p**-0.3)),
    "comp-sum 3": (comp_sum_loss, {"tau": 3.0}, lambda p: (1 - p**2) / 2, lambda p: -p),
    "gce": (generalized_cross_entropy, {"q": 0.7}, lambda p: (1 - p**0.7) / 0.7, lambda p: -(p**-0.3)),
    "truncated gce": (
        generalized_cross_entropy,
        {"q": 0.7, "k": 0.1},
        lambda p: (1 - np.maximum(p, 0.1) ** 0.7) / 0.7,
        lambda p: np.where(p > 0.1, -(p**-0.3), 0),
    ),
    "focal": (
        focal_loss,
        {"gamma": 2.0},
        lambda p: -((1 - p) ** 2) * np.log(p),
        lambda p: 2 * (1 - p) * np.log(p) - (1 - p) ** 2 / p,
    ),
    "poly": (poly_loss, {"epsilon": 1.5}, lambda p: -np.log(p) + 1.5 * (1 - p), lambda p: -1 / p - 1.5),
    "symmetric": (
        symmetric_cross_entropy,
        {"a": 0.1, "b": 0.5, "log_zero": -4.0},
        lambda p: -0.1 * np.log(p) + 2 * (1 - p),
        lambda p: -0.1 / p - 2,
    ),
}
every_loss = pytest.mark.parametrize(("function", "options", "value", "slope"), LOSSES.values(), ids=LOSSES)


@every_loss
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_losses_and_gradients_agree_with_the_formulas(isa, size, dtype, function, options, value, slope):
    logits, targets = normal((4, size), dtype, 2.0), np.random.default_rng(0).integers(0, size, 4)
    got, gradient = function(logits, targets, reduction="none", return_grad=True, **options)
    z = logits.astype(np.float64)
    probabilities = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    rows = np.arange(4)
    p = probabilities[rows, targets]
    onehot = np.eye(size)[targets]
    wanted_gradient = (slope(p) * p)[:, None] * (onehot - probabilities)
    limit = 1e-5 if dtype is np.float32 else 1e-11
    floor = 1e-6 if dtype is np.float32 else 1e-13
    assert_relative(got, value(p), limit, floor)
    assert_relative(gradient, wanted_gradient, limit, floor)
    assert np.abs(gradient.sum(-1, dtype=np.float64)).max() <= floor * (1 + np.abs(gradient).max())


@every_loss
def test_a_confident_row_keeps_a_loss(isa, function, options, value, slope):
    loss, gradient = function(np.float32([[40, 0]]), np.array([0]), return_grad=True, **options)
    v = np.exp(-40.0)
    if function is focal_loss:
        assert loss == pytest.approx(v**3 if v**3 > 1e-38 else 0)
    else:
        # Near p = 1 every one of them is a multiple of v.
        factor = -slope(np.array(1.0))
        assert loss == pytest.approx(factor * v, rel=1e-6)
        assert_relative(gradient, [[-factor * v, factor * v]], 1e-6)


def test_near_tau_1_comp_sum_is_cross_entropy():
    logits, targets = normal((20, 9), np.float64, 3.0), np.arange(20) % 9
    wanted = cross_entropy(logits, targets)
    assert comp_sum_loss(logits, targets, 1.0) == wanted
    for tau in (1 - 1e-7, 1 + 1e-7):
        assert comp_sum_loss(logits, targets, tau) == pytest.approx(wanted, rel=1e-6)


def test_a_loss_that_overflows_is_infinite_and_not_nan(isa):
    logits = np.float32([[-100, 0, -300], [0, 1, 2]])
    loss, gradient = comp_sum_loss(logits, np.array([0, 0]), 0.0, reduction="none", return_grad=True)
    assert loss[0] == np.inf
    np.testing.assert_array_equal(gradient[0], [-np.inf, np.inf, 0])
    assert np.isfinite(loss[1])
    assert np.isfinite(gradient[1]).all()
    loss, gradient = comp_sum_loss(np.float32([[-np.inf, 0]]), np.array([0]), 2.0, return_grad=True)
    assert loss == 1
    np.testing.assert_array_equal(gradient, [[0, 0]])


def test_spread_targets_are_mixtures_of_losses():
    logits, rng = normal((6, 5), np.float64, 2.0), np.random.default_rng(0)
    weight, soft = rng.uniform(0.5, 2, 5), rng.dirichlet(np.ones(5), 6)
    every = np.stack([comp_sum_loss(logits, np.full(6, k), 1.4, reduction="none") for k in range(5)], axis=1)
    got, gradient = comp_sum_loss(
        logits, soft, 1.4, weight=weight, label_smoothing=0.2, reduction="sum", return_grad=True
    )
    masses = weight * (0.8 * soft + 0.04)
    assert got == pytest.approx((masses * every).sum(), rel=1e-12)
    wanted = sum(
        comp_sum_loss(logits[i : i + 1], np.array([k]), 1.4, return_grad=True)[1]
        * masses[i, k]
        * np.eye(6)[:, [i]]
        for i in range(6)
        for k in range(5)
    )
    np.testing.assert_allclose(gradient, wanted, rtol=0, atol=1e-13)


@every_loss
def test_tensors_that_require_a_gradient_get_one(function, options, value, slope):
    torch = pytest.importorskip("torch")
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 2, -100, 1])
    weight = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(function(logits, targets, weight=weight, **options), logits)
    _, wanted = function(logits.detach(), targets, weight=weight, return_grad=True, **options)
    torch.testing.assert_close(gradient, wanted)
