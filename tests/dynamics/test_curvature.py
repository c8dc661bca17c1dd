"""The Hessian without its entries, against the whole one; what is recorded of it."""

import numpy as np
import pytest
import torch

from logitscope import record
from logitscope.dynamics import CurvatureProbe, HessianOperator, lanczos, spectral_density
from logitscope.errors import ArgumentError


@pytest.fixture
def problem():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)).double()
    x, y = torch.randn(40, 3).double(), torch.randn(40, 2).double()
    return model, lambda x, y: (model(x) - y).square().mean(), x, y


def whole(model, loss, x, y):
    names = list(dict(model.named_parameters()))
    shapes = [p.shape for p in model.parameters()]

    def of(flat):
        parts = torch.split(flat, [shape.numel() for shape in shapes])
        state = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return (torch.func.functional_call(model, state, x) - y).square().mean()

    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    return torch.autograd.functional.hessian(of, flat)


def test_that_products_are_those_of_the_whole_hessian(problem):
    model, loss, x, y = problem
    hessian = whole(*problem)
    operator = HessianOperator(loss(x, y), model.parameters())
    vector = torch.randn(operator.size).double()
    torch.testing.assert_close(operator(vector), hessian @ vector)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_that_all_steps_give_all_eigenvalues_and_few_give_the_outer_ones(problem):
    _, _, _, _ = problem
    hessian = whole(*problem)
    exact = torch.linalg.eigvalsh(hessian).numpy()
    start = torch.randn(len(hessian)).double()
    full = lanczos(lambda v: hessian @ v, start, len(hessian))
    np.testing.assert_allclose(full.values, exact, atol=1e-8)
    assert full.weights.sum() == pytest.approx(1)
    few = lanczos(lambda v: hessian @ v, start, 14)
    np.testing.assert_allclose(few.values[[0, -1]], exact[[0, -1]], rtol=1e-2)


def test_that_a_probe_finds_sharpness_trace_and_density(problem):
    model, loss, x, y = problem
    exact = torch.linalg.eigvalsh(whole(*problem)).numpy()
    reading = CurvatureProbe(model, loss, every=1).look(0, x, y)
    assert reading.sharpness == pytest.approx(exact[-1], rel=1e-3)
    assert reading.lowest == pytest.approx(exact[0], rel=0.05)
    assert reading.trace == pytest.approx(exact.sum(), rel=0.5)  # of two random vectors
    assert np.trapezoid(reading.density[1], reading.density[0]) == pytest.approx(1, rel=0.02)


def test_that_the_noise_scale_is_that_of_the_gradients():
    torch.manual_seed(0)
    w = torch.nn.Linear(1, 1, bias=False).double()
    torch.nn.init.constant_(w.weight, 1.0)
    x = 1 + 0.5 * torch.randn(100_000, 1).double()
    probe = CurvatureProbe(
        w, lambda x: w(x).mean(), every=1
    )  # a sample's gradient is x: mean 1, variance 0.25
    assert probe.look(0, x).noise == pytest.approx(0.25, abs=1)
    assert np.isnan(probe.look(0, x[:1]).noise)


def test_that_what_is_found_is_recorded_with_its_panels(problem, tmp_path):
    model, loss, x, y = problem
    with record.start("sharp", path=tmp_path / "run.scope") as scope:
        probe = CurvatureProbe(model, loss, every=5, recorder=scope)
        for step in range(11):
            probe.look(step, x, y, learning_rate=0.1)
    with record.RunReader(scope.path) as run:
        assert run.steps("curvature/sharpness").tolist() == [0, 5, 10]
        assert run.scalars("curvature/limit").values.tolist() == [20.0] * 3
        effective = run.scalars("effective_learning_rate").values
        np.testing.assert_allclose(effective, run.scalars("curvature/sharpness").values * 0.05)
        assert run.array("curvature/density").array.shape == (2, 200)
        assert {"Sharpness", "Hessian spectrum"} <= {panel.title for panel in run.panels()}


def test_that_a_language_model_of_ours_has_a_hessian():
    from logitscope.nn import GPT, GPTConfig
    from logitscope.nn.functional import cross_entropy

    torch.manual_seed(0)
    model = GPT(GPTConfig(vocabulary=11, context=8, layers=1, heads=2, width=8))
    tokens = torch.randint(0, 11, (4, 9))

    def loss(tokens):
        return cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())

    reading = CurvatureProbe(model, loss, every=1).look(0, tokens)
    assert np.isfinite([reading.sharpness, reading.lowest, reading.trace]).all()
    assert reading.sharpness > 0


def test_that_nan_stays_nan_and_mistakes_are_told(problem):
    model, loss, x, y = problem
    assert np.isnan(CurvatureProbe(model, loss, every=1).look(0, x * np.nan, y).sharpness)
    with pytest.raises(ArgumentError, match="every is 0"):
        CurvatureProbe(model, loss, every=0)
    with pytest.raises(ArgumentError, match="give one number"):
        HessianOperator(torch.zeros(2, requires_grad=True), [])
    linear = torch.ones(3, requires_grad=True)
    assert HessianOperator(linear.sum(), [linear])(torch.ones(3)).tolist() == [0, 0, 0]
    assert spectral_density([lanczos(lambda v: 0 * v, torch.ones(3))]).shape == (2, 200)
