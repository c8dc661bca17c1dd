"""The experiment on tangent kernels measures what it says."""

import numpy as np
import pytest

pytest.importorskip("sklearn")
from logitscope.experiments import neural_tangent_kernel as experiment
from logitscope.theory import KernelDynamics


def test_that_digits_are_centred_scaled_and_labelled() -> None:
    x, y = experiment._digits(48)
    assert x.shape == (48, 64)
    np.testing.assert_allclose(x.norm(dim=1), 8.0)
    assert set(y.tolist()) == {1.0, -1.0}


def test_that_rates_of_a_linear_model_are_those_of_theory() -> None:
    x, y = experiment._digits(20)
    network = experiment.ntk_mlp([64, 1], "relu", 1.0, 0.0).double()
    theory = KernelDynamics(x.numpy() @ x.numpy().T / 64, y.numpy())
    rate = 0.5 * 20 / theory.eigvals[0]
    wanted = -np.log(1 - rate * theory.eigvals[:5] / 20)
    np.testing.assert_allclose(experiment._rates(network, x, y, theory, rate, 40), wanted, rtol=1e-6)
