"""Kernels of infinite width: linear models exactly, wide networks nearly, and what neural-tangents gives."""

import numpy as np
import pytest
import torch

from logitscope.dynamics import empirical_ntk
from logitscope.errors import ArgumentError, ShapeError
from logitscope.nn import ntk_mlp
from logitscope.theory import nngp_kernel, ntk_kernel


def inputs(count: int = 6, size: int = 5) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, size))


def test_that_a_linear_model_has_the_kernel_of_its_inputs() -> None:
    x, x2 = inputs(), inputs(4)
    wanted = 2.0 * x @ x2.T / 5 + 0.09
    for kernel in (ntk_kernel, nngp_kernel):
        np.testing.assert_allclose(kernel(x, x2, depth=1, sigma_w=2**0.5, sigma_b=0.3), wanted, rtol=1e-14)


def test_that_a_deep_linear_network_adds_a_kernel_a_layer() -> None:
    x = inputs()
    kernel, covariance = ntk_kernel(x, depth=4, activation="identity", sigma_b=0.0, return_nngp=True)
    np.testing.assert_allclose(covariance, x @ x.T / 5, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(kernel, 4 * x @ x.T / 5, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("activation", ["relu", "erf", "tanh"])
def test_that_a_kernel_is_symmetric_positive_and_the_same_between_sets(activation: str) -> None:
    x = inputs()
    kernel, covariance = ntk_kernel(x, depth=3, activation=activation, return_nngp=True)
    for matrix in (kernel, covariance):
        np.testing.assert_array_equal(matrix, matrix.T)
        assert np.linalg.eigvalsh(matrix)[0] > 0
    np.testing.assert_allclose(ntk_kernel(x, x.copy(), depth=3, activation=activation), kernel, rtol=1e-6)
    np.testing.assert_array_equal(nngp_kernel(x, depth=3, activation=activation), covariance)
    tensor = torch.from_numpy(x).requires_grad_()
    np.testing.assert_array_equal(ntk_kernel(tensor, depth=3, activation=activation), kernel)


def test_that_relu_with_a_scale_of_root_two_keeps_the_size_of_signals() -> None:
    covariance = nngp_kernel(inputs(), depth=30, sigma_w=2**0.5, sigma_b=0.0)
    np.testing.assert_allclose(np.diag(covariance), 2 * np.square(inputs()).mean(axis=1), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")  # torch's own, on the first jvp
def test_that_wide_networks_come_near_it() -> None:
    """Width 4096 and four starts, the mean kernel within 5 %."""
    x = inputs(4, 3)
    kernels = []
    for seed in range(4):
        torch.manual_seed(seed)
        network = ntk_mlp([3, 4096, 4096, 1], "relu", 2**0.5, 0.1)
        kernels.append(empirical_ntk(network, torch.from_numpy(x).float(), method="vjp_jvp").numpy())
    wanted = ntk_kernel(x, depth=3, sigma_w=2**0.5, sigma_b=0.1)
    assert np.linalg.norm(np.mean(kernels, axis=0) - wanted) < 0.05 * np.linalg.norm(wanted)


NEURAL_TANGENTS = {
    "relu": [1.548535281006, 1.853200668487, 0.7202798299845, 8.525266155475, 2.193014671206, 12.91882381692],
    "erf": [
        2.929050435336,
        1.664208258165,
        -0.7192456280194,
        5.040556679563,
        -0.1420764507699,
        5.631275931853,
    ],
}
"""What stax of neural-tangents 0.6.5 gives for three layers, the kernel's upper triangle; in float64, with jax 0.4.30.

Kept here because that package needs TensorFlow, and a jax from before 0.5.
"""


@pytest.mark.parametrize("activation", NEURAL_TANGENTS)
def test_that_neural_tangents_agrees(activation: str) -> None:
    kernel = ntk_kernel(inputs(3), depth=3, activation=activation, sigma_w=1.5, sigma_b=0.2)
    np.testing.assert_allclose(kernel[np.triu_indices(3)], NEURAL_TANGENTS[activation], rtol=1e-11)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ntk_kernel(inputs(), depth=0), ArgumentError, "ntk_kernel: depth is 0; use 1 or more"),
        (
            lambda: nngp_kernel([[np.inf]], depth=1),
            ArgumentError,
            "nngp_kernel: X has numbers that are not finite",
        ),
        (lambda: ntk_kernel(inputs(), inputs(3, 4), depth=1), ShapeError, "X2 of 4; use as many"),
        (lambda: ntk_kernel(np.ones(3), depth=1), ShapeError, r"X has shape \(3,\)"),
        (lambda: ntk_kernel(inputs(), depth=2, activation="x"), ArgumentError, "there is no 'x'; use abs"),
    ],
)
def test_that_bad_input_is_refused(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()
