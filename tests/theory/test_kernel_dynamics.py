"""Training with a fixed kernel: exact for linear models, finite for singular kernels."""

import math

import numpy as np
import pytest

pytest.importorskip("torch")
from logitscope.errors import ArgumentError, ShapeError
from logitscope.theory import KernelDynamics, nngp_kernel, ntk_kernel


def problem(outputs: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((7, 4)), rng.standard_normal((7, *outputs)), rng.standard_normal((4, *outputs))


@pytest.mark.parametrize("outputs", [(), (3,)])
def test_that_gradient_descent_of_a_linear_model_is_followed(outputs) -> None:
    x, y, weight = problem(outputs)
    dynamics = KernelDynamics(x @ x.T, y, x @ weight)
    lr = 0.9 * dynamics.max_stable_lr()
    for step in range(40):
        residual = dynamics.eigvecs.T @ (x @ weight - y)
        np.testing.assert_allclose(dynamics.components_gd(step, lr), residual, atol=1e-10)
        weight = weight - lr * x.T @ (x @ weight - y) / len(x)


def test_that_the_largest_stable_rate_is_where_training_turns() -> None:
    x, y, _ = problem()
    dynamics = KernelDynamics(x @ x.T, y)
    start, limit = np.abs(dynamics.components_gd(0, 0.0)), dynamics.max_stable_lr()
    assert np.abs(dynamics.components_gd(500, 0.999 * limit))[0] < start[0]
    assert np.abs(dynamics.components_gd(500, 1.001 * limit))[0] > start[0]
    assert KernelDynamics(np.zeros((2, 2)), np.ones(2)).max_stable_lr() == math.inf


def test_that_training_begins_at_the_start_and_ends_at_the_targets() -> None:
    x, y, weight = problem()
    dynamics = KernelDynamics(ntk_kernel(x, depth=2), y, x @ weight)
    np.testing.assert_allclose(dynamics.train_at(0.0), x @ weight, rtol=1e-12)
    np.testing.assert_allclose(dynamics.train_at(math.inf), y, rtol=1e-12)
    # A kernel of rank 4: the targets within its range are reached, what is outside stays.
    low = KernelDynamics(x @ x.T, y, x @ weight)
    onto = x @ np.linalg.pinv(x)
    np.testing.assert_allclose(
        low.train_at(math.inf), onto @ y + (np.eye(7) - onto) @ (x @ weight), atol=1e-10
    )


@pytest.mark.parametrize("t", [0.0, 0.3, 50.0, math.inf])
def test_that_predictions_on_the_training_inputs_are_the_training(t: float) -> None:
    x, y, weight = problem()
    theta = ntk_kernel(x, depth=3)
    dynamics = KernelDynamics(theta, y, x @ weight)
    np.testing.assert_allclose(dynamics.predict(theta, t, x @ weight), dynamics.train_at(t), rtol=1e-8)


def test_that_infinite_time_is_kernel_regression() -> None:
    x, y, _ = problem((2,))
    other = np.random.default_rng(1).standard_normal((3, 4))
    theta, between = ntk_kernel(x, depth=2), ntk_kernel(other, x, depth=2)
    wanted = between @ np.linalg.solve(theta, y)
    np.testing.assert_allclose(KernelDynamics(theta, y).predict(between, math.inf), wanted, rtol=1e-9)


def test_that_a_singular_kernel_gives_finite_predictions() -> None:
    x, y, _ = problem()
    doubled, targets = np.concatenate([x, x]), np.concatenate([y, y + 1])
    theta = ntk_kernel(doubled, depth=2)
    dynamics = KernelDynamics(theta, targets)
    for t in (0.0, 1.0, 1e9, math.inf):
        predicted = dynamics.predict(theta, t)
        assert np.isfinite(predicted).all()
        np.testing.assert_allclose(predicted[:7], predicted[7:], atol=1e-6)
    np.testing.assert_allclose(dynamics.predict(theta, math.inf)[:7], y + 0.5, rtol=1e-6)


@pytest.mark.parametrize("t", [0.0, 0.5, 30.0, math.inf])
def test_that_the_covariance_over_starts_is_positive(t: float) -> None:
    x, y, _ = problem()
    other = np.random.default_rng(2).standard_normal((5, 4))
    dynamics = KernelDynamics(ntk_kernel(x, depth=3), y)
    between, covariance = ntk_kernel(other, x, depth=3), nngp_kernel(other, depth=3)
    across, inside = nngp_kernel(other, x, depth=3), nngp_kernel(x, depth=3)
    mean, spread = dynamics.gaussian(between, covariance, across, inside, t)
    assert np.linalg.eigvalsh(spread)[0] > -1e-8
    np.testing.assert_allclose(mean, dynamics.predict(between, t), atol=1e-10)
    if t == 0.0:
        np.testing.assert_allclose(spread, covariance)


def test_that_the_covariance_is_that_of_many_linear_models() -> None:
    x, y, _ = problem()
    other, rng = np.random.default_rng(3).standard_normal((2, 4)), np.random.default_rng(4)
    dynamics = KernelDynamics(x @ x.T, y)
    outputs = []
    for weight in rng.standard_normal((20_000, 4)):
        model = KernelDynamics.__new__(KernelDynamics)
        model.__dict__ |= dynamics.__dict__ | {"_residual": dynamics.eigvecs.T @ (x @ weight - y)}
        outputs.append(model.predict(other @ x.T, 2.0, other @ weight))
    mean, spread = dynamics.gaussian(other @ x.T, other @ other.T, other @ x.T, x @ x.T, 2.0)
    np.testing.assert_allclose(np.mean(outputs, axis=0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(np.transpose(outputs)), spread, atol=0.05)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: KernelDynamics(np.ones((2, 3)), np.ones(2)), ShapeError, r"theta has shape \(2, 3\)"),
        (lambda: KernelDynamics(np.eye(2), np.ones(3)), ShapeError, r"y has shape \(3,\); use \(2,\)"),
        (lambda: KernelDynamics(np.eye(2), np.ones(2), np.ones(3)), ShapeError, "f0 has shape"),
        (lambda: KernelDynamics(np.full((1, 1), np.nan), np.ones(1)), ArgumentError, "theta has numbers"),
        (lambda: KernelDynamics(np.eye(2), np.ones(2)).components(-1.0), ArgumentError, "t is -1.0"),
        (
            lambda: KernelDynamics(np.eye(2), np.ones(2)).predict(np.ones((1, 3)), 1.0),
            ShapeError,
            "theta_test",
        ),
        (lambda: KernelDynamics(np.eye(2), np.ones(2), n_train=0), ArgumentError, "n_train is 0"),
    ],
)
def test_that_bad_input_is_refused(call, error, message) -> None:
    with pytest.raises(error, match=f"KernelDynamics: {message}"):
        call()
