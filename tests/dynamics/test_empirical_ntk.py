"""The tangent kernel of a model is the product of its Jacobians, however it is computed."""

import numpy as np
import pytest
import torch

from logitscope import record
from logitscope.dynamics import NTKProbe, empirical_ntk, per_sample_jacobians
from logitscope.errors import ArgumentError, ShapeError
from logitscope.nn import NTKLinear, PolyNorm, ntk_mlp

pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script:FutureWarning"
)  # torch's own, on the first jvp


def network(outputs: int = 3) -> torch.nn.Module:
    torch.manual_seed(0)
    return ntk_mlp([4, 7, outputs], PolyNorm).double()


def inputs(count: int = 5, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_loop(model: torch.nn.Module, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    def jacobian(x: torch.Tensor) -> torch.Tensor:
        rows = []
        for output in model(x[None])[0]:
            gradients = torch.autograd.grad(output, list(model.parameters()), retain_graph=True)
            rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
        return torch.stack(rows)

    return torch.stack([torch.stack([jacobian(a) @ jacobian(b).T for b in x2]) for a in x1])


@pytest.mark.parametrize("chunk", [1, 2, 32])
@pytest.mark.parametrize("method", ["jacobian", "vjp_jvp"])
def test_that_it_is_the_product_of_jacobians(method: str, chunk: int) -> None:
    model, x1, x2 = network(), inputs(), inputs(3, 2)
    for other in (None, x2):
        wanted = by_loop(model, x1, x1 if other is None else other)
        full = empirical_ntk(model, x1, other, mode="full", method=method, chunk=chunk)
        torch.testing.assert_close(full, wanted, rtol=1e-10, atol=1e-10)
        trace = empirical_ntk(model, x1, other, method=method, chunk=chunk)
        torch.testing.assert_close(trace, wanted.diagonal(dim1=2, dim2=3).mean(-1), rtol=1e-10, atol=1e-10)


def test_that_some_parameters_may_count_alone() -> None:
    model, x = network(1), inputs()
    names = [name for name, _ in model.named_parameters()]
    parts = [empirical_ntk(model, x, params=[name]) for name in names]
    torch.testing.assert_close(sum(parts), empirical_ntk(model, x))


def test_that_a_linear_models_kernel_is_exact_and_never_moves() -> None:
    x = inputs(9)
    torch.manual_seed(0)
    model = NTKLinear(4, 2, sigma_w=1.5, sigma_b=0.0).double()
    wanted = 1.5**2 * x @ x.T / 4
    probe, y = NTKProbe(model, x, every=5), torch.ones(9, 2, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.testing.assert_close(empirical_ntk(model, x), wanted, rtol=1e-14, atol=1e-14)
    for step in range(11):
        reading = probe.look(step)
        assert (reading is None) == (step % 5 != 0)
        if reading is not None:
            assert reading.drift <= 1e-12
            assert reading.alignment == pytest.approx(1.0, abs=1e-12)
        optimizer.zero_grad()
        (model(x) - y).square().sum().backward()
        optimizer.step()


def test_that_jacobians_of_samples_are_those_of_autograd() -> None:
    model, x = network(), inputs(3)
    (jacobian,) = per_sample_jacobians(model, x)
    for sample, row in zip(x, range(3), strict=True):
        for output in range(3):
            gradients = torch.autograd.grad(model(sample[None])[0, output], list(model.parameters()))
            for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True):
                torch.testing.assert_close(jacobian[name][row, output], gradient)


def test_that_a_probe_sees_a_kernel_move_and_a_residual_shrink(tmp_path) -> None:
    torch.manual_seed(0)
    model, x = ntk_mlp([4, 16, 1], "tanh").double(), inputs(6)
    y = x[:, 0].sign()
    probe = NTKProbe(model, x, y, every=20, top=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with record.start("probe", path=tmp_path / "probe.scope") as scope:
        readings = []
        for step in range(61):
            readings.append(probe.record(scope, step))
            optimizer.zero_grad()
            (model(x)[:, 0] - y).square().mean().backward()
            optimizer.step()
    seen = [reading for reading in readings if reading is not None]
    assert [reading.step for reading in seen] == [0, 20, 40, 60]
    assert seen[0].drift == 0.0
    assert seen[-1].drift > 0.01
    assert seen[-1].alignment < 1.0
    kernel, outer = seen[-1].kernel, np.outer(y, y)
    cosine = (kernel * outer).sum() / np.linalg.norm(kernel) / np.linalg.norm(outer)
    assert seen[-1].target_alignment == pytest.approx(cosine)
    assert seen[-1].residual[0] < 0.5 * seen[0].residual[0]
    assert (np.diff(seen[0].eigenvalues) <= 0).all()
    with record.RunReader(tmp_path / "probe.scope") as run:
        assert run.scalars("ntk/drift").values.tolist() == [reading.drift for reading in seen]
        np.testing.assert_array_equal(run.array("ntk/kernel").array, seen[-1].kernel)


def test_that_what_cannot_be_is_refused() -> None:
    x = inputs()
    mixed = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1)).double()
    for method in ("jacobian", "vjp_jvp"):
        with pytest.raises(
            ValueError, match=r"0 mixes the samples of a batch in train mode; use model.eval\(\)"
        ):
            empirical_ntk(mixed, x, method=method)
        assert empirical_ntk(mixed.eval(), x, method=method).shape == (5, 5)
        mixed.train()
    with pytest.raises(ValueError, match="not finite"):
        empirical_ntk(network(), x / 0)
    with pytest.raises(ArgumentError, match=r"no trained parameter \['x'\]; use 0.weight"):
        empirical_ntk(network(), x, params=["x"])
    with pytest.raises(ArgumentError, match="mode is 'half'"):
        empirical_ntk(network(), x, mode="half")
    with pytest.raises(ShapeError, match=r"x2 has samples of shape \(3,\)"):
        empirical_ntk(network(), x, torch.zeros(2, 3))
    with pytest.raises(ArgumentError, match="chunk is 0"):
        empirical_ntk(network(), x, chunk=0)
    with pytest.raises(ArgumentError, match="every is 0"):
        NTKProbe(network(), x, every=0)
    with pytest.raises(ArgumentError, match="x has 5 samples and y 2"):
        NTKProbe(network(), x, x[:2])
    with pytest.raises(ArgumentError, match="widths are"):
        ntk_mlp([3])
    with pytest.raises(ArgumentError, match="sizes are 0 and 1"):
        NTKLinear(0, 1)
