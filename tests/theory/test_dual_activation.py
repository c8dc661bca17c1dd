"""Gaussian averages of activations: closed forms, quadrature, and sampling agree."""

import math

import numpy as np
import pytest

pytest.importorskip("torch")
from logitscope.errors import ArgumentError, ShapeError
from logitscope.theory import activation_names, dual_activation

erf = np.vectorize(math.erf)
FUNCTIONS = {
    "erf": (erf, lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x)),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda x: -np.sin(x)),
    "identity": (lambda x: x, np.ones_like),
    "exp": (np.exp, np.exp),
}
KINKED = {
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    "abs": (np.abs, np.sign),
    "leaky_relu": (lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1.0, 0.01)),
}


def moments() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    q, q2 = rng.uniform(0.2, 1.5, (2, 40))
    return q, rng.uniform(-0.95, 0.95, 40) * np.sqrt(q * q2), q2


@pytest.mark.parametrize("name", FUNCTIONS)
def test_that_closed_forms_are_the_quadrature(name: str) -> None:
    function, derivative = FUNCTIONS[name]
    closed = dual_activation(name, *moments())
    numeric = dual_activation(function, *moments(), derivative=derivative, nodes=160)
    for a, b in zip(closed, numeric, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", KINKED)
def test_that_closed_forms_of_kinked_functions_are_near_the_quadrature(name: str) -> None:
    function, derivative = KINKED[name]
    q, s, q2 = moments()
    values, derivatives = dual_activation(name, q, s, q2)
    numeric, _ = dual_activation(function, q, s, q2, derivative=derivative, nodes=100)
    np.testing.assert_allclose(values, numeric, atol=5e-3 * np.abs(values).max())
    # Of a jump the quadrature is too rough; the average over many draws is not.
    rng = np.random.default_rng(1)
    u, g = rng.standard_normal((2, 400_000))
    for i in range(0, 40, 8):
        c = s[i] / math.sqrt(q[i] * q2[i])
        sampled = (derivative(u) * derivative(c * u + math.sqrt(1 - c * c) * g)).mean()
        assert derivatives[i] == pytest.approx(sampled, abs=0.01)


def test_that_relu_has_its_known_values() -> None:
    values, derivatives = dual_activation("relu", 3.0, np.array([3.0, 0.0, -3.0]), 3.0)
    np.testing.assert_allclose(values, [1.5, 3 / (2 * np.pi), 0.0], atol=1e-15)
    np.testing.assert_allclose(derivatives, [0.5, 0.25, 0.0], atol=1e-15)
    values, derivatives = dual_activation("abs", 1.0, np.array([1.0, 0.0, -1.0]), 1.0)
    np.testing.assert_allclose(values, [1.0, 2 / np.pi, 1.0], atol=1e-15)
    np.testing.assert_allclose(derivatives, [1.0, 0.0, -1.0], atol=1e-15)


@pytest.mark.parametrize("name", activation_names())
def test_that_averages_are_those_of_draws(name: str) -> None:
    """Of any activation: symmetric, within Cauchy and Schwarz, and of equal inputs a mean square."""
    q, s, q2 = moments()
    values, derivatives = dual_activation(name, q, s, q2)
    mirrored = dual_activation(name, q2, s, q)
    for a, b in zip((values, derivatives), mirrored, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    alone, _ = dual_activation(name, q, q, q)
    other, _ = dual_activation(name, q2, q2, q2)
    assert (alone >= 0).all()
    assert (values**2 <= alone * other * (1 + 1e-9)).all()


def test_that_constants_and_shapes_are_kept() -> None:
    values, derivatives = dual_activation("relu", np.zeros((2, 1)), np.zeros((2, 3)), np.ones(3))
    assert values.shape == derivatives.shape == (2, 3)
    np.testing.assert_array_equal(values, 0.0)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("rely", 1, 0, 1), {}, ArgumentError, r"there is no 'rely'; use abs, cos, .*tanh, or a function"),
        ((np.tanh, 1, 0, 1), {}, ArgumentError, "without its derivative"),
        (("relu", -1, 0, 1), {}, ArgumentError, "negative variances"),
        (("relu", math.nan, 0, 1), {}, ArgumentError, "not finite"),
        (("tanh", 1, 0, 1), {"nodes": 0}, ArgumentError, "nodes is 0"),
        (("relu", [1, 1], [1, 1, 1], 1), {}, ShapeError, "shapes that broadcast"),
    ],
)
def test_that_bad_input_is_refused(arguments, options, error, message) -> None:
    with pytest.raises(error, match=f"dual_activation: .*{message}"):
        dual_activation(*arguments, **options)
