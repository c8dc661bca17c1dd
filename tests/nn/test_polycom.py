"""The general polynomial has PolyReLU and PolyNorm as its cases, and other functions too."""

import pytest
import torch

from logitscope.errors import ArgumentError
from logitscope.nn import PolyCom, PolyNorm, PolyReLU


def normalised(u: torch.Tensor) -> torch.Tensor:
    return u * (u.square().mean(dim=-1, keepdim=True) + 1e-6).rsqrt()


@pytest.mark.parametrize("order", [1, 3, 5])
@pytest.mark.parametrize(
    ("kernel", "inner", "kind"), [(PolyReLU, torch.relu, "I"), (PolyNorm, normalised, "II")]
)
def test_that_the_kernels_are_its_cases(order: int, kernel, inner, kind: str) -> None:
    torch.manual_seed(0)
    fast, plain = kernel(order).double(), PolyCom(order, inner, kind=kind).double()
    plain.load_state_dict(fast.state_dict())
    with torch.no_grad():
        for module in (fast, plain):
            module.weight.copy_(torch.linspace(-1, 2, order))
            module.bias.fill_(0.5)
    results = []
    for module in (fast, plain):
        x = torch.randn(
            4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True
        )
        y = module(x)
        results.append((y, *torch.autograd.grad(y.square().sum(), [x, module.weight, module.bias])))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_that_any_function_may_be_composed() -> None:
    x = torch.linspace(-2, 2, 9)
    assert torch.allclose(PolyCom(1, torch.tanh)(x), torch.tanh(x))
    wanted = (torch.sin(x) + torch.sin(x**2) + torch.sin(x**3)) / 3
    torch.testing.assert_close(PolyCom(3, torch.sin, kind="II")(x).detach(), wanted)


def test_that_wrong_options_are_refused() -> None:
    with pytest.raises(ArgumentError, match="PolyCom: kind is 'III'; use 'I' or 'II'"):
        PolyCom(3, kind="III")
    with pytest.raises(ArgumentError, match="PolyCom: order is 6"):
        PolyCom(6)
